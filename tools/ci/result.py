# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class GateResult:
    """Counts of one gate: its tests, or 1 for a gate without tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    #: Lines to print: reasons of skips, and remarks about a gate that passed.
    notes: tuple[str, ...] = ()

    def __add__(self, other: GateResult) -> GateResult:
        return GateResult(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.notes + other.notes,
        )

    def __str__(self) -> str:
        """Return a text such as "3 passed, 0 failed, 1 skipped"."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


PASSED = GateResult(passed=1)
FAILED = GateResult(failed=1)


def of_exit(code: int) -> GateResult:
    """Return the result of a gate that counts as one."""
    return FAILED if code else PASSED


def of_junit(report: Path, code: int) -> GateResult:
    """Count pytest's tests in its XML report.

    A run with a bad end but without a failed test (no test collected, an internal error, a time-out) counts
    as one failure. So does a report that is cut off.
    """
    try:
        cases = ElementTree.parse(report).getroot().findall(".//testcase")
    except (FileNotFoundError, ElementTree.ParseError):
        return FAILED
    skips = [case.find("skipped") for case in cases]
    reasons = {_reason(skip) for skip in skips if skip is not None}
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = sum(skip is not None for skip in skips)
    passed = len(cases) - failed - skipped
    crashed = int(code != 0 and not failed)
    return GateResult(
        passed, failed + crashed, skipped, tuple(f"skipped: {reason}" for reason in sorted(reasons))
    )


def _reason(skip: ElementTree.Element) -> str:
    """Return the reason of a skip. If a whole file was skipped, only the text of the element has it: "(path, line, 'Skipped: reason')"."""
    message = skip.get("message", "no reason given")
    text = (skip.text or "").partition("Skipped: ")[2]
    return text[:-2] if message == "collection skipped" and text else message
