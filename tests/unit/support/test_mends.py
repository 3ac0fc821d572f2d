# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each mend that a test may revert has its text once in the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faults.mends import MENDS, Mend

PLUGINS = Path(__file__).parents[3] / "plugins"


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.name)
def test_a_mend_can_be_reverted(mend: Mend) -> None:
    text = (PLUGINS / mend.file).read_text()
    assert text.count(mend.text) == 1
    compile(text.replace(mend.text, mend.reverted), mend.file, "exec")
