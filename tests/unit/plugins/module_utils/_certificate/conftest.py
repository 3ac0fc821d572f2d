# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time of the tests of the certificate flow."""

from __future__ import annotations

import pytest

from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
