# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""False answers of signers and changes by other clients, on a real control plane: a task refuses them with
one line.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates.csr_rig import CsrRig
from tests.system.fault_injection import false_answers, interference, signer_answers
from tests.system.fault_injection.signer_rig import SignerRig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clusters import Fleet
    from tests.system.fault_injection.interference import Interference
    from tests.system.fault_injection.signer_answers import SignerAnswer


# One row of each kind runs with make test. tests/unit/plugins/module_utils/_csr/test_certificate_rules.py
# covers the others.
DAILY = frozenset(
    [
        "another public key",
        "a key of an unknown type",
        "also the API server's name",
        "a longer lifetime than the provider's limit",
        "a chain in the wrong order",
        "a wrong signature",
        "the requested certificate, and the condition Failed",
        "data that is not a certificate",
        "text that is not ASCII before the certificate",
        "the request is replaced by a copy of itself",
        "the request is denied",
        "the request is deleted",
        "the approved request is replaced by a copy of itself",
        "the Secret is deleted and created again with the same content",
        "cert-manager's annotation is added to the Secret",
        "the same task runs elsewhere and stores its certificate first",
        "another task of this collection adds a CA to the webhook",
        "the webhook now calls another Service",
    ]
)


def rows(table: Sequence[SignerAnswer | Interference]) -> list[Any]:
    """Return the rows of DAILY as pytest's parameters. `make reliability` runs all rows."""
    return [pytest.param(row, id=row.name) for row in table if row.name in DAILY]


@pytest.fixture(scope="module")
def signer_rig(fleet: Fleet) -> Iterator[SignerRig]:
    """Yield one rig for all false answers, because each of them leaves the state in use unchanged."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield SignerRig(rig)


@pytest.mark.parametrize("answer", rows(signer_answers.FALSE_ANSWERS))
def test_a_false_answer_is_refused(signer_rig: SignerRig, answer: SignerAnswer) -> None:
    assert false_answers.meet(signer_rig, answer).wrong == ()


@pytest.mark.parametrize("case", rows((*signer_answers.RIGHT_ANSWERS, *interference.INTERFERENCES)))
def test_a_right_answer_or_a_change_by_another_client(
    fleet: Fleet, case: SignerAnswer | Interference
) -> None:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        assert false_answers.meet(SignerRig(rig), case).wrong == ()


def test_every_daily_row_exists() -> None:
    assert {case.name for case in false_answers.CASES} >= DAILY
