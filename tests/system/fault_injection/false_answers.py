# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the tables of false answers and of interferences, and write one row for each case."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.certificates.csr_rig import CsrRig
from tests.support.failures import has_failed
from tests.support.leases import leases
from tests.system.fault_injection import interference, signer_answers, verdict
from tests.system.fault_injection.interference import Interference
from tests.system.fault_injection.signer_rig import SignerRig
from tools.docs import rst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster
    from tests.system.fault_injection.signer_answers import SignerAnswer
    from tests.system.fault_injection.signer_rig import InUse

SIGNER, CLIENT = "The signer issues", "During the task"
KEPT, REPLACED, BOTH = (
    "the old certificate",
    "the new certificate",
    "the old certificate; the webhook also trusts the new CA",
)
GONE = "the old certificate; the webhook configuration does not exist"
HEAD = ("", "Fault", "Failure of the task", "In use afterwards")


@dataclass(frozen=True)
class FalseAnswerRow:
    """A row of the page."""

    kind: str
    done: str
    #: The cause of the failure, "" if the task succeeded.
    said: str
    in_use: str
    #: What did not end as the table expects.
    wrong: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not self.wrong


#: In the order of the table.
CASES: tuple[SignerAnswer | Interference, ...] = (
    *signer_answers.RIGHT_ANSWERS,
    *signer_answers.FALSE_ANSWERS,
    *interference.INTERFERENCES,
)


def outcomes(cluster: Cluster) -> Iterator[FalseAnswerRow]:
    """Yield one row for each case."""
    for case in CASES:
        with contextlib.closing(CsrRig(cluster)) as rig:
            yield meet(SignerRig(rig), case)


def meet(signer_rig: SignerRig, case: SignerAnswer | Interference) -> FalseAnswerRow:
    """Run a task that meets a case. Return what it said, what is in use afterwards, and what is wrong."""
    rig, before = signer_rig.rig, signer_rig.in_use()
    if isinstance(case, Interference):
        kind, result = CLIENT, signer_rig.run_with_interference(case)
    else:
        kind, result = SIGNER, signer_rig.run_with_answer(case)
    after = signer_rig.in_use()
    checks = {
        f"the end: {result}": _ends(result, (*case.says, rig.cluster.url) if case.says else ()),
        f"in use: {_in_use(before, after)}": case.holds(before, after),
        "a Lease is left": not leases(rig.cluster, rig.name),
    }
    cause = _without_chance(str(result["cause"]).replace(rig.name, "apps")) if result.get("failed") else ""
    wrong = tuple(text for text, is_good in checks.items() if not is_good)
    return FalseAnswerRow(kind, case.name, cause, _in_use(before, after), wrong)


def _ends(result: dict[str, Any], says: tuple[str, ...]) -> bool:
    """Return True for a clear failure with this code and these names, or for a success without a code."""
    if not says:
        return bool(result.get("changed")) and not result.get("failed")
    return has_failed(result, *says) and not verdict.unclear(result)


def _without_chance(text: str) -> str:
    """Remove times and the names of requests, which differ from run to run."""
    text = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d(:\d\d)?", "(time)", text)
    return re.sub(r"(certflow-hook-apps-)[0-9a-f]{10}", r"\1...", text)


def _in_use(before: InUse, after: InUse) -> str:
    if after.data.get("tls.crt") != before.data["tls.crt"]:
        return REPLACED
    if not after.bundle:
        return GONE
    return KEPT if after == before else BOTH


def text(rows: list[FalseAnswerRow]) -> str:
    """Return the figures and the table for the page."""
    right = sum(row.is_good for row in rows)
    refused = sum(bool(row.said) for row in rows)
    rows_of_table = [
        (row.kind, row.done, row.said or "success", f"{row.in_use}{'' if row.is_good else ' (**wrong**)'}")
        for row in rows
    ]
    figures = f"{len(rows)} cases: {refused} failed with one line, {len(rows) - refused} succeeded. {right} ended as expected.\n"
    return f"{figures}\n{rst.table(HEAD, rows_of_table)}"
