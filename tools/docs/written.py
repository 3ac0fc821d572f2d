# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A page of the documentation with tables that runs write, and that tests read again and compare."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.docs import rst

if TYPE_CHECKING:
    from pathlib import Path

_END = ".. end"
_MEASURED = ".. measured: written by make evidence"


@dataclass(frozen=True)
class Page:
    """A page."""

    #: The file.
    path: Path
    #: The command that writes its tables, as the page names it.
    by: str

    def write(self, name: str, text: str) -> None:
        """Replace the table of that name and the text around it. The page no longer names a commit for all of its tables, unless the
        text is the same.

        A caller that may write at the same time as another one holds `alone`.
        """
        if self.part(name) != f"\n\n{text}\n":
            self._replace(self._begin(name), text)
            self.name_commit("")

    def name_commit(self, sentence: str) -> None:
        """Replace the sentence that names the commit of all tables."""
        self._replace(_MEASURED, f"{sentence}\n" if sentence else "")

    def _replace(self, begin: str, text: str) -> None:
        before, found, rest = self.path.read_text().partition(begin)
        _old, end, after = rest.partition(_END)
        self.path.write_text(f"{before}{found}\n\n{text}\n{end}{after}" if found else before)

    def part(self, name: str) -> str:
        """Return the text between the marks of a table."""
        return self.path.read_text().partition(self._begin(name))[2].partition(_END)[0]

    def read(self, name: str) -> dict[str, dict[str, str]]:
        """Return the table of that name: for each row, by its first cell, a dictionary by column."""
        rows = rst.read_table(self.part(name))
        if not rows:
            return {}
        head, *rows = rows
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}

    def put(
        self, name: str, head: Sequence[str], rows: Mapping[str, Sequence[str]], order: Iterable[str]
    ) -> None:
        """Replace the rows with the same first cell. Other rows stay, in this order.

        In a row that stays, a column that the table did not have before is empty.
        """
        with self.alone():
            told = {
                first: [row.get(column, "") for column in head[1:]] for first, row in self.read(name).items()
            }
            told |= {first: list(row) for first, row in rows.items()}
            self.write(name, rst.table(head, [[first, *told[first]] for first in order if first in told]))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the page, because several runs may write their tables at the same time."""
        with self.path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _begin(self, name: str) -> str:
        return f".. {name}: written by {self.by}"
