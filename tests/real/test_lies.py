# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signers that lie and people who meddle, on a real control plane: never believed, and told in one line."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.lies import meddlers, signers
from tests.lies.stage import Stage

from .csr_site import Site, assert_one_line
from .leases import leases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clusters import Fleet
    from tests.lies.meddlers import Meddling
    from tests.lies.signers import Lie


@pytest.fixture(scope="module")
def stage(fleet: Fleet) -> Iterator[Stage]:
    """One for all: each lie leaves what is in use as it was."""
    with contextlib.closing(Site(fleet["onprem"])) as site:
        yield Stage(site)


@pytest.mark.parametrize("lie", signers.LIES, ids=lambda lie: lie.name)
def test_a_lie_is_not_believed(stage: Stage, lie: Lie) -> None:
    before = stage.in_use()
    result = stage.lied_to(lie)
    assert_one_line(result, stage.site.cluster.url, *lie.says)
    assert stage.in_use() == before
    assert leases(stage.site.cluster, stage.site.name) == []


@pytest.mark.parametrize("truth", signers.TRUTHS, ids=lambda truth: truth.name)
def test_the_truth_is_believed(fleet: Fleet, truth: Lie) -> None:
    with contextlib.closing(Site(fleet["onprem"])) as site:
        stage = Stage(site)
        before = stage.in_use()
        result = stage.lied_to(truth)
        assert result["changed"] and not result.get("failed"), result
        after = stage.in_use()
        assert after.data["tls.crt"] != before.data["tls.crt"]
        assert signers.root().pem in after.bundle


@pytest.mark.parametrize("meddling", meddlers.MEDDLINGS, ids=lambda meddling: meddling.name)
def test_what_others_do_in_the_middle(fleet: Fleet, meddling: Meddling) -> None:
    with contextlib.closing(Site(fleet["onprem"])) as site:
        stage = Stage(site)
        before = stage.in_use()
        result = stage.meddled_with(meddling)
        if meddling.says:
            assert_one_line(result, site.cluster.url, *meddling.says)
        else:
            assert result["changed"], result
            assert not result.get("failed"), result
        assert meddling.holds(before, stage.in_use())
        assert leases(site.cluster, site.name) == []
