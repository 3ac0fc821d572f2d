# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both tables, run from the first row to the last: what was done, what the task said, what was in use afterwards."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.csr_rig import CsrRig
from tests.support.failures import has_failed
from tests.system.fault_injection.lies import meddlers, signers
from tests.system.fault_injection.lies.signer_rig import SignerRig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster
    from tests.system.fault_injection.lies.signer_rig import InUse

SIGNER, MEDDLER = "a signer issues", "in the middle of a task"
KEPT, REPLACED, BOTH = (
    "what was in use before",
    "the new certificate",
    "what was in use before; its webhook trusts more",
)
GONE = "what was in use before; its webhook is gone"
HEAD = """\
| | What was done | What the task says | In use afterwards |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """A row of the page. ``said``: the task's cause, "" where it ended well. is_good: as the table wants it."""

    kind: str
    done: str
    said: str
    in_use: str
    is_good: bool


def outcomes(cluster: Cluster) -> Iterator[Outcome]:
    """One for each row, in the tables' order."""
    for lie in (*signers.TRUTHS, *signers.LIES):
        yield _outcome(cluster, SIGNER, lie.name, lie.says, partial(SignerRig.lied_to, lie=lie))
    for row in meddlers.MEDDLINGS:
        yield _outcome(cluster, MEDDLER, row.name, row.says, partial(SignerRig.meddled_with, meddling=row))


def _outcome(
    cluster: Cluster, kind: str, done: str, says: tuple[str, ...], run: Callable[[SignerRig], dict[str, Any]]
) -> Outcome:
    with contextlib.closing(CsrRig(cluster)) as rig:
        stage = SignerRig(rig)
        before = stage.in_use()
        result = run(stage)
        after = stage.in_use()
        said = str(result["msg"]) if result.get("failed") else ""
        in_use = _in_use(before, after)
        is_right = bool(said) == bool(says) and (in_use == REPLACED) == (not says) and "\n" not in said
        is_right = is_right and (not says or has_failed(result, *says))
        cause = _without_chance(str(result.get("cause") or "").replace(rig.name, "apps")) if said else ""
        return Outcome(kind, done, cause, in_use, is_right)


def _without_chance(text: str) -> str:
    """What differs from run to run: times, and the names that requests get from their keys."""
    text = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d(:\d\d)?", "(time)", text)
    return re.sub(r"(certflow-hook-apps-)[0-9a-f]{10}", r"\1...", text)


def _in_use(before: InUse, after: InUse) -> str:
    if after.data.get("tls.crt") != before.data["tls.crt"]:
        return REPLACED
    if not after.bundle:
        return GONE
    return KEPT if after == before else BOTH


def text(rows: list[Outcome]) -> str:
    """For docs/reliability.md: a line of figures, then the table."""
    right = sum(row.is_good for row in rows)
    refused = sum(bool(row.said) for row in rows)
    lines = [
        f"| {row.kind} | {row.done} | {row.said or 'it ends well'} | {row.in_use}{'' if row.is_good else ' (**wrong**)'} |\n"
        for row in rows
    ]
    figures = f"{len(rows)} cases: {refused} refused in one line, {len(rows) - refused} ended well; {right} as they should.\n"
    return f"{figures}\n{HEAD}{''.join(lines)}"


def main() -> None:
    from tests.support import clusters

    with clusters.running({"onprem": "onprem"}) as fleet:
        print(text(list(outcomes(fleet["onprem"]))))


if __name__ == "__main__":
    main()
