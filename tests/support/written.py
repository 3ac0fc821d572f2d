# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A page of docs/ whose tables come from runs: they are written in their places, and can be read again and compared."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_END = "<!-- end -->"


@dataclass(frozen=True)
class Page:
    """path: the file. by: the command that writes its tables, as the page says it."""

    path: Path
    by: str

    def write(self, name: str, text: str) -> None:
        """Put a table, and what stands around it, in the place of the one of that name."""
        before, begin, rest = self.path.read_text().partition(self._begin(name))
        _old, end, after = rest.partition(_END)
        self.path.write_text(f"{before}{begin}\n{text}{end}{after}")

    def part(self, name: str) -> str:
        """What stands in that place."""
        return self.path.read_text().partition(self._begin(name))[2].partition(_END)[0]

    def read(self, name: str) -> dict[str, dict[str, str]]:
        """The table of that name: a dictionary by head for each row, by the row's first cell."""
        text = self.part(name)
        if not text.strip():
            return {}
        head, _rule, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()
        ]
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}

    def put(
        self, name: str, head: Sequence[str], rows: Mapping[str, Sequence[str]], order: Iterable[str]
    ) -> None:
        """Put rows in the place of those with the same first cell; the others stay, in this order.

        In a row that stays, a column that the table did not have before is empty.
        """
        with self.alone():
            told = {
                first: [row.get(column, "") for column in head[1:]] for first, row in self.read(name).items()
            }
            told |= {first: list(row) for first, row in rows.items()}
            self.write(name, table(head, [[first, *told[first]] for first in order if first in told]))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Alone with the page: runs of its parts may stand beside each other."""
        with self.path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _begin(self, name: str) -> str:
        return f"<!-- {name}: written by {self.by} -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
