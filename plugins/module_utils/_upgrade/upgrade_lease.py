# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Lease of an upgrade, and the record on it that survives a kill.

It is in namespace kube-system, which every cluster has: there is one snapshot controller in a cluster. Each step is recorded in
an annotation before it begins. If the run is killed, its Lease stays. The next run takes the Lease over and reads the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Callable

from .._base.object_managers import OWN_MANAGER
from .._base.text import visible
from .._base.times import format_time
from .._kube.access_review import Permission
from .._kube.errors import ApiError
from .._kube.lease import Lease
from .._kube.lease_state import GROUP, LeaseState, read_lease

if TYPE_CHECKING:
    from .._kube.client import Client

NAMESPACE, NAME = "kube-system", "certflow-snapshot-controller"
PATH = f"/apis/{GROUP}/v1/namespaces/{NAMESPACE}/leases/{NAME}"
SECONDS = 150
RECORD = "certflow.kubernetes/upgrade"
_MOST_LETTERS = 200
_MOST_STEPS = 1000


@dataclass(frozen=True)
class RunRecord:
    """The step that a run works on.

    version: the release that the run goes to.
    hop: the release of the hop.
    step: the id of the step.
    number: its number among the steps of the hop, from 1 on.
    total: the number of steps of the hop.
    undoes: True if the step puts the previous release back.
    since: the time at which the step began, UTC, such as 2026-03-01T03:00:00Z.
    """

    version: str
    hop: str
    step: str
    number: int
    total: int
    undoes: bool
    since: str

    def words(self) -> str:
        """Return the record as the end of a sentence about a run."""
        way = "the undo" if self.undoes else f"the hop to {self.hop}"
        return f"step {self.number} of {self.total} ({self.step}) of {way}, which began at {self.since}"


def make_lease(client: Client, on_wait: Callable[[LeaseState], None]) -> Lease:
    """Return the Lease of an upgrade. on_wait: see Lease."""
    return Lease(
        client,
        NAMESPACE,
        NAME,
        purpose="snapshot controller",
        metadata={"labels": {"app.kubernetes.io/managed-by": OWN_MANAGER}},
        seconds=SECONDS,
        is_optional=False,
        on_wait=on_wait,
    )


def permissions() -> list[Permission]:
    """Return the permissions that the Lease needs. A write of its annotations is an update too."""
    named = [Permission(verb, GROUP, "leases", NAMESPACE, NAME) for verb in ("get", "update", "delete")]
    return [Permission("create", GROUP, "leases", NAMESPACE), *named]


def is_held(client: Client) -> bool:
    """Return True if a run holds the Lease, or if a killed run has left it.

    Return False if the API server refuses the answer, because a run that has nothing to do needs no permission for it.
    """
    try:
        found = client.find(PATH)
    except ApiError:
        return False
    return found is not None and bool(read_lease(found).holder)


def write_record(lease: Lease, record: RunRecord) -> None:
    """Write the record on the Lease. Raises LeaseLostError, KubeError."""
    lease.annotate(RECORD, json.dumps(asdict(record)))


def describe_previous(lease: Lease) -> dict[str, Any] | None:
    """Return the killed run whose Lease was taken over, as results carry it. None if there was no such run."""
    if lease.previous is None:
        return None
    found = read_lease(lease.previous)
    record = parse_record(lease.previous)
    return {
        "holder": visible(found.holder)[:_MOST_LETTERS],
        "renewed": format_time(found.renewed) if found.renewed else "",
        "record": asdict(record) if record else None,
    }


def previous_words(found: Mapping[str, Any]) -> str:
    """Return a sentence about the killed run."""
    record = found["record"]
    where = f" It was killed during {RunRecord(**record).words()}." if record else ""
    return f"An earlier run, {found['holder'] or 'without a name'}, did not end.{where} This run continues from the current state"


def holder_words(other: LeaseState) -> str:
    """Return the holder of the Lease in words, such as "a run on host-1, since 03:00:07 UTC"."""
    host, _separator, _number = other.holder.rpartition("_")
    since = f", since {other.since:%H:%M:%S} UTC" if other.since else ""
    return f"a run on {visible(host or other.holder)[:_MOST_LETTERS]}{since}"


def parse_record(obj: Mapping[str, Any]) -> RunRecord | None:
    """Return the record of a Lease object, None without one. The text is another run's, so it is checked."""
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    text = annotations.get(RECORD) if isinstance(annotations, Mapping) else None
    if not isinstance(text, str):
        return None
    try:
        given = json.loads(text)
        number, total = given["number"], given["total"]
        if not (type(number) is type(total) is int and 1 <= number <= total <= _MOST_STEPS):
            return None
        words = {key: visible(str(given[key]))[:_MOST_LETTERS] for key in ("version", "hop", "step", "since")}
        return RunRecord(**words, number=number, total=total, undoes=given["undoes"] is True)
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError):
        return None
