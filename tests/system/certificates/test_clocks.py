# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renew a certificate while the clock of the API server differs from the clock of the machine that runs the task."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates.csr_rig import CsrRig
from tests.support.clusters import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

MINUTE = datetime.timedelta(minutes=1)
AHEAD = 12 * MINUTE
pytestmark = pytest.mark.skipif(bool(clock.why_not()), reason=clock.why_not())


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[CsrRig]:
    with contextlib.closing(CsrRig(fleet["eks"], "ephemeral-ca")) as rig:
        yield rig


@contextlib.contextmanager
def jumped(rig: CsrRig, by: datetime.timedelta) -> Iterator[None]:
    rig.cluster.jump(by)
    try:
        yield
    finally:
        rig.cluster.jump(-by)


def test_a_certificate_is_valid_at_once_for_a_server_whose_clock_is_right(rig: CsrRig) -> None:
    """The clock of the server that answers is ahead. Another server of the cluster has the time of this machine."""
    target = rig.hook()
    rig.run(targets=[target])
    before = datetime.datetime.now(datetime.timezone.utc)
    with jumped(rig, AHEAD):
        renewed = rig.run(targets=[target], renew_before="400d", wait=False)
        assert renewed["changed"], renewed
        assert rig.certificate().not_valid_before_utc <= before
        assert rig.certificate().not_valid_after_utc >= before + datetime.timedelta(days=364)
        assert any("12 minutes ahead" in text for text in renewed["warnings"]), renewed["warnings"]
        again = rig.run(targets=[target])
    assert again["changed"] is False, again["reason"]


def test_a_difference_of_a_few_minutes_is_no_warning(rig: CsrRig) -> None:
    with jumped(rig, 3 * MINUTE):
        result = rig.run(targets=[rig.hook()])
    assert result["changed"]
    assert not any("clock" in text for text in result.get("warnings", [])), result["warnings"]
