# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signers that lie and people who meddle, on a real control plane: never believed, and told in one line."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.csr_rig import CsrRig, assert_one_line
from tests.support.leases import leases
from tests.system.fault_injection.lies import meddlers, signers
from tests.system.fault_injection.lies.signer_rig import SignerRig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clusters import Fleet
    from tests.system.fault_injection.lies.meddlers import Meddling
    from tests.system.fault_injection.lies.signers import Lie


# Every day one of each kind; the rest of the signer's lies has its like in tests/unit/plugins/module_utils/_csr/test_certificate_rules.py.
DAILY = frozenset(
    [
        "another public key",
        "a key of a kind that nobody knows",
        "the API server's name besides",
        "one that outlives the provider's limit",
        "a chain in the wrong order",
        "a signature that is not its CA's",
        "what was asked for, and marked Failed",
        "garbage",
        "words before it that are no ASCII",
        "its request is replaced by a copy of itself",
        "its request is denied",
        "its request is deleted",
        "its approved request is replaced by a copy of itself",
        "the Secret is made anew, as it was",
        "the Secret becomes cert-manager's",
        "the same task runs, and stores its certificate first",
        "another task of this collection adds a CA to the webhook",
        "the webhook now calls another Service",
    ]
)


def rows(table: Sequence[Lie | Meddling]) -> list[Any]:
    """The rows as pytest's parameters."""
    return [
        pytest.param(row, id=row.name, marks=() if row.name in DAILY else pytest.mark.full) for row in table
    ]


@pytest.fixture(scope="module")
def stage(fleet: Fleet) -> Iterator[SignerRig]:
    """One for all: each lie leaves what is in use as it was."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield SignerRig(rig)


@pytest.mark.parametrize("lie", rows(signers.LIES))
def test_a_lie_is_not_believed(stage: SignerRig, lie: Lie) -> None:
    before = stage.in_use()
    result = stage.lied_to(lie)
    assert_one_line(result, *lie.says, stage.rig.cluster.url)
    assert stage.in_use() == before
    assert leases(stage.rig.cluster, stage.rig.name) == []


@pytest.mark.parametrize("truth", rows(signers.TRUTHS))
def test_the_truth_is_believed(fleet: Fleet, truth: Lie) -> None:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        stage = SignerRig(rig)
        before = stage.in_use()
        result = stage.lied_to(truth)
        assert result["changed"] and not result.get("failed"), result
        after = stage.in_use()
        assert after.data["tls.crt"] != before.data["tls.crt"]
        assert signers.root().pem in after.bundle


@pytest.mark.parametrize("meddling", rows(meddlers.MEDDLINGS))
def test_what_others_do_in_the_middle(fleet: Fleet, meddling: Meddling) -> None:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        stage = SignerRig(rig)
        before = stage.in_use()
        result = stage.meddled_with(meddling)
        if meddling.says:
            assert_one_line(result, *meddling.says, rig.cluster.url)
        else:
            assert result["changed"], result
            assert not result.get("failed"), result
        assert meddling.holds(before, stage.in_use())
        assert leases(rig.cluster, rig.name) == []


def test_the_names_of_the_daily_rows_are_names() -> None:
    tables: tuple[Sequence[Lie | Meddling], ...] = (signers.LIES, signers.TRUTHS, meddlers.MEDDLINGS)
    assert {row.name for table in tables for row in table} >= DAILY
