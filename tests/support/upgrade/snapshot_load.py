# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Valid and invalid dry-run creates of snapshots during an upgrade, and their answers with times.

A valid object must always be accepted. An invalid object is one that the new release refuses, by its webhook
or its schema. Before the upgrade it may be accepted, so accepted ones are counted by phase.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.clusters import AdminApiError
from tests.support.load import Load, is_late, machine_load
from tests.support.upgrade import snapshot_lab as lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clusters import Cluster

PER_SECOND = 10  # of each kind, valid and invalid
DRIVER = "load.certflow.invalid"
_IN_DEFAULT = f"{lab.SNAPSHOTS}/namespaces/default/volumesnapshots"
_CONTENTS = f"{lab.SNAPSHOTS}/volumesnapshotcontents"
_CLASSES = f"{lab.SNAPSHOTS}/volumesnapshotclasses"
_FOREVER = (99,)


@dataclass(frozen=True)
class LoadRequest:
    """One object that is created repeatedly."""

    what: str
    collection: str
    body: dict[str, Any]
    #: First release that refuses it.
    since: tuple[int, ...] = ()
    #: First release that accepts it again.
    until: tuple[int, ...] = _FOREVER


def _class(name: str) -> dict[str, Any]:
    made = lab.default_class(name, driver=DRIVER)
    del made["metadata"]["annotations"]
    return made


def _without_namespace(name: str) -> dict[str, Any]:
    made = lab.content(name)
    made["spec"]["volumeSnapshotRef"]["namespace"] = ""
    return made


VALID = (
    LoadRequest("snapshot", _IN_DEFAULT, lab.snapshot("load")),
    LoadRequest("content", _CONTENTS, lab.content("load")),
    LoadRequest("class", _CLASSES, _class("load")),
)
INVALID = (
    LoadRequest("snapshot with an empty class", _IN_DEFAULT, lab.snapshot("load", snapshot_class="")),
    # The schema of 8.0 accepts "" as a name, and its webhook does not check contents.
    LoadRequest("content without a namespace", _CONTENTS, _without_namespace("load"), until=(8, 0)),
    # Only the webhook compares two objects, and 8.2 has none.
    LoadRequest(
        "second default class", _CLASSES, lab.default_class("load", driver=DRIVER), since=(6, 0), until=(8, 2)
    ),
)


@dataclass(frozen=True)
class LoadAnswer:
    """The answer to one dry run."""

    at: float
    what: str
    #: True if it must be accepted.
    valid: bool
    #: Message of the refusal, "" if it was accepted.
    said: str
    #: Load of the machine for each core.
    load: float = 0.0

    @property
    def failed(self) -> bool:
        """True if there was no decision: the webhook could not be called, or the API server did not answer."""
        return "failed calling webhook" in self.said or self.said.startswith("no answer")

    @property
    def late(self) -> bool:
        """True if the call timed out on an overloaded machine, which proves nothing."""
        return self.failed and is_late(self.said, self.load)


class SnapshotLoad:
    """Send PER_SECOND valid and as many invalid creates a second while the block runs.

    release: the release that is being installed. It decides which creates are invalid.
    """

    def __init__(self, cluster: Cluster, release: str) -> None:
        number = tuple(int(part) for part in release.split("."))
        self._cluster = cluster
        self._next = itertools.count()
        self._invalid = [entry for entry in INVALID if entry.since <= number < entry.until]
        self._loads = (
            Load(lambda: self._ask(VALID, valid=True), PER_SECOND),
            Load(lambda: self._ask(self._invalid, valid=False), PER_SECOND),
        )
        self._stack = contextlib.ExitStack()
        self.answers: list[LoadAnswer] = []

    def __enter__(self) -> SnapshotLoad:
        with contextlib.suppress(AdminApiError):  # left from the last upgrade
            self._cluster.api("POST", _CLASSES, lab.default_class("load-default", driver=DRIVER))
        for load in self._loads:
            self._stack.enter_context(load)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def wrong(self) -> list[LoadAnswer]:
        """Return valid creates that were not accepted, and creates without a decision, except late ones."""
        return [
            answer
            for answer in self.answers
            if ((answer.valid and answer.said) or answer.failed) and not answer.late
        ]

    def accepted(self, since: float = 0.0) -> list[LoadAnswer]:
        """Return invalid creates that were accepted, of those that were sent after a time (time.time)."""
        return [
            answer for answer in self.answers if not answer.valid and not answer.said and answer.at >= since
        ]

    def table(self, moments: Sequence[tuple[float, str]]) -> str:
        """Return the numbers by phase. moments: begin and name of each phase, in order."""
        lines = [f"{'phase':60} {'valid':>6} {'refused':>8} {'invalid':>8} {'accepted':>9} {'failed':>7}"]
        names = ["before", *(name for _at, name in moments)]
        phases = [self._phase(answer, [at for at, _name in moments]) for answer in self.answers]
        for index, name in enumerate(names):
            own = [answer for answer, phase in zip(self.answers, phases, strict=True) if phase == index]
            if own:
                lines.append(f"{name[:60]:60} {_numbers(own)}")
        return "\n".join([*lines, f"{'all':60} {_numbers(self.answers)}", *self._accepted_by_kind()])

    def _phase(self, answer: LoadAnswer, begins: list[float]) -> int:
        return bisect_right(begins, answer.at)

    def _accepted_by_kind(self) -> Iterator[str]:
        for what, number in sorted(Counter(answer.what for answer in self.accepted()).items()):
            yield f"  accepted: {what}: {number}"
        late = [answer for answer in self.answers if answer.late]
        if late:
            yield f"  late, with {max(entry.load for entry in late):.0f} programs waiting for each core: {len(late)}"

    def _ask(self, requests: Sequence[LoadRequest], *, valid: bool) -> None:
        number = next(self._next)
        request, at, said = requests[number % len(requests)], time.time(), ""
        metadata = {**request.body["metadata"], "name": f"load-{number}"}
        try:
            self._cluster.api(
                "POST", f"{request.collection}?dryRun=All", {**request.body, "metadata": metadata}
            )
        except AdminApiError as error:
            said = error.message
        except OSError as error:
            said = f"no answer: {error}"
        self.answers.append(LoadAnswer(at, request.what, valid, said, machine_load()))


def _numbers(answers: Sequence[LoadAnswer]) -> str:
    valid = [answer for answer in answers if answer.valid]
    invalid = [answer for answer in answers if not answer.valid]
    counts = (
        (len(valid), 6),
        (sum(bool(entry.said) for entry in valid), 8),
        (len(invalid), 8),
        (sum(not entry.said for entry in invalid), 9),
        (sum(answer.failed for answer in answers), 7),
    )
    return " ".join(f"{number:>{width}}" for number, width in counts)
