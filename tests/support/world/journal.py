# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was done, what each call answered, and what each run reported, in the order of time. Entries are only added."""

from __future__ import annotations

import datetime
import json
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The kinds of entries: an act of the test, the answer to a call, or the result of a run of the collection.
DONE, CALL, RUN = "done", "call", "run"


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    #: The time of the cluster, in seconds since 1970.
    time: float
    #: DONE, CALL or RUN.
    what: str
    #: The names of the objects, () for the whole cluster.
    objects: tuple[str, ...]
    text: str
    is_failure: bool = False

    def __str__(self) -> str:
        moment = datetime.datetime.fromtimestamp(self.time, datetime.timezone.utc)
        mark = " FAILED" if self.is_failure else ""
        return f"{moment:%Y-%m-%d %H:%M:%S} {self.what}{mark} {' '.join(self.objects)}: {self.text}"


class Journal:
    """The entries of one cluster. now: returns the time of the cluster. path: a file that keeps them, also between processes."""

    def __init__(self, now: Callable[[], datetime.datetime], path: Path | None = None) -> None:
        self._now = now
        self._path = path
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        if path and path.exists():
            self._entries = [_parsed(line) for line in path.read_text().splitlines()]

    def add(self, what: str, text: str, *objects: str, is_failure: bool = False) -> Entry:
        entry = Entry(self._now().timestamp(), what, objects, text, is_failure)
        with self._lock:
            self._entries.append(entry)
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps(asdict(entry)) + "\n")
        return entry

    def entries(
        self,
        name: str = "",
        *,
        what: str = "",
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> list[Entry]:
        """Return the entries about an object and about the whole cluster, of a kind, between two times of the cluster."""
        with self._lock:
            entries = list(self._entries)
        return [
            entry
            for entry in entries
            if (not name or not entry.objects or name in entry.objects)
            and (not what or entry.what == what)
            and (since is None or entry.time >= since.timestamp())
            and (until is None or entry.time <= until.timestamp())
        ]

    def text(self, name: str = "") -> str:
        """Return the entries about an object, one a line. Equal answers of one call after the other are one line."""
        lines: list[str] = []
        last: tuple[object, ...] = ()
        for entry in self.entries(name):
            this = (entry.what, entry.objects, entry.text, entry.is_failure)
            if entry.what != CALL or this != last:
                lines.append(str(entry))
            last = this
        return "\n".join(lines)


def _parsed(line: str) -> Entry:
    fields = json.loads(line)
    return Entry(**{**fields, "objects": tuple(fields["objects"])})
