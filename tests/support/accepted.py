# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option accept for tests."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import Consent


def accepting(*words: str) -> Consent:
    """Return the consent that has these words for every object."""
    return Consent(frozenset((word, "") for word in words))
