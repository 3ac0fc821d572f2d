# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the tables of false answers and of interferences, and write one row for each case."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.csr_rig import CsrRig
from tests.support.failures import has_failed
from tests.system.fault_injection import interference, signer_answers
from tests.system.fault_injection.signer_rig import SignerRig
from tools.docs import rst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster
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
    #: True if the case ended as the table expects.
    is_good: bool


def outcomes(cluster: Cluster) -> Iterator[FalseAnswerRow]:
    """Yield one row for each case, in the order of the tables."""
    for answer in (*signer_answers.RIGHT_ANSWERS, *signer_answers.FALSE_ANSWERS):
        yield _outcome(
            cluster, SIGNER, answer.name, answer.says, partial(SignerRig.run_with_answer, answer=answer)
        )
    for row in interference.INTERFERENCES:
        yield _outcome(cluster, CLIENT, row.name, row.says, partial(SignerRig.run_with_interference, row=row))


def _outcome(
    cluster: Cluster, kind: str, done: str, says: tuple[str, ...], run: Callable[[SignerRig], dict[str, Any]]
) -> FalseAnswerRow:
    with contextlib.closing(CsrRig(cluster)) as rig:
        signer_rig = SignerRig(rig)
        before = signer_rig.in_use()
        result = run(signer_rig)
        after = signer_rig.in_use()
        said = str(result["msg"]) if result.get("failed") else ""
        in_use = _in_use(before, after)
        is_right = bool(said) == bool(says) and (in_use == REPLACED) == (not says) and "\n" not in said
        is_right = is_right and (not says or has_failed(result, *says))
        cause = _without_chance(str(result.get("cause") or "").replace(rig.name, "apps")) if said else ""
        return FalseAnswerRow(kind, done, cause, in_use, is_right)


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


def main() -> None:
    from tests.support import clusters

    with clusters.running({"onprem": "onprem"}) as fleet:
        print(text(list(outcomes(fleet["onprem"]))))


if __name__ == "__main__":
    main()
