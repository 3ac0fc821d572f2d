# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of other folders that tests here use as well."""

from __future__ import annotations

from tests.unit.plugins.module_utils._x509.conftest import go_program

__all__ = ["go_program"]
