# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python3 -m tools.ci [--quick | --all] [GATE...]` runs some gates at a time and prints one line for
each.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tools.ci import process, tree
from tools.ci.gates import ALL, FULL, OTHER_VERSIONS, PROGRAMS, QUICK, Gate
from tools.ci.result import FAILED, GateResult
from tools.ci.venvs import REPOSITORY, BuildFailed, PythonUnavailable

# A gate with real clusters uses about half of a core and waits for the rest of its time, so four of them use two cores.
AT_ONCE = 4
_REMINDER = 60.0
#: How many lines of a failed gate are printed again at the end. They have the names of the failed tests.
_LAST_LINES = 15


def _arguments() -> tuple[Gate, ...]:
    parser = argparse.ArgumentParser(prog="python3 -m tools.ci", description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="only what takes under 3 minutes together")
    extent.add_argument(
        "--all",
        action="store_true",
        help="also the tests with the marker full, and the other versions of ansible-core and Python",
    )
    parser.add_argument("--list", action="store_true", help="print the names of all gates and end")
    parser.add_argument("gates", nargs="*", metavar="GATE", help="run only these gates")
    given = parser.parse_args()
    known = {gate.name: gate for gate in (*ALL, *FULL, *OTHER_VERSIONS, *QUICK)}
    if given.list:
        print("\n".join(known))
        sys.exit()
    if unknown := [name for name in given.gates if name not in known]:
        parser.error(f"unknown gate: {', '.join(unknown)}. --list prints all names")
    if given.gates:
        return tuple(known[name] for name in given.gates)
    if given.quick:
        return QUICK
    return (*FULL, *OTHER_VERSIONS, *ALL) if given.all else ALL


class GateRun:
    """One run of gates: its total, and the lines that it prints."""

    def __init__(self) -> None:
        self.total = GateResult()
        self._start = time.monotonic()
        self._logs = tree.link() / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._printing = threading.Lock()
        self._processor_seconds = 0.0
        #: Failed gate -> the end of its log.
        self._ends: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        print(f"[{time.monotonic() - self._start:5.0f} s] {text}", flush=True)

    def gate(self, gate: Gate) -> None:
        """Run one gate and add its result to the total. An error inside the gate counts as its failure."""
        log = self._logs / f"{gate.name}.log"
        log.write_text("")
        start, used_before = time.monotonic(), process.processor_seconds()
        try:
            result = gate.run(log)
        except PythonUnavailable as reason:
            result = GateResult(skipped=1, notes=(f"not run: {reason}",))
        except BuildFailed as reason:
            log.write_text(f"{reason}\n")
            result = FAILED
        used = process.processor_seconds() - used_before
        with self._printing:
            self._processor_seconds += used
            self._report(gate, result, f"{time.monotonic() - start:.0f} s, {used:.0f} s of processor", log)

    def _report(self, gate: Gate, result: GateResult, time_used: str, log: Path) -> None:
        self.total += result
        for note in result.notes:
            self.say(f"{gate.name}: {note}")
        if result.failed:
            text = log.read_text(errors="replace")
            self._ends[gate.name] = "\n".join(text.splitlines()[-_LAST_LINES:])
            print(f"----- {gate.name}: {log.relative_to(REPOSITORY)}\n{text}-----")
        if result.passed or result.failed:
            self.say(f"{'FAILED' if result.failed else 'ok':6} {gate.name}: {result} in {time_used}")

    def repeat_failures(self) -> None:
        """Print the end of each failed gate's log again, because the logs of other gates came after it."""
        for name, lines in self._ends.items():
            print(f"----- the end of {name}:\n{lines}\n-----")

    def all(self, gates: tuple[Gate, ...]) -> None:
        """Run gates in their order, some at a time.

        PROGRAMS begins first. While it builds, gates that start its programs wait, and later ones go first.
        """
        waiting = sorted(gates, key=lambda gate: gate != PROGRAMS)  # PROGRAMS first, the others as they are
        running: dict[Future[None], Gate] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while waiting or running:
                for gate in self._startable(waiting, list(running.values())):
                    waiting.remove(gate)
                    running[pool.submit(self.gate, gate)] = gate
                done = wait(running, timeout=_REMINDER, return_when=FIRST_COMPLETED).done
                for future in done:
                    del running[future]
                    future.result()
                if not done:
                    self._remind(waiting, list(running.values()))
        self.say(f"{self._processor_seconds:.0f} seconds of processor in all")

    @staticmethod
    def _startable(waiting: list[Gate], running: list[Gate]) -> list[Gate]:
        """Return the next gates to start."""
        are_built = PROGRAMS not in (*waiting, *running)
        ready = [gate for gate in waiting if are_built or not gate.starts_programs]
        return ready[: AT_ONCE - len(running)]

    def _remind(self, waiting: list[Gate], running: list[Gate]) -> None:
        self.say(f"still running: {', '.join(gate.name for gate in running)}")
        held = [gate.name for gate in waiting if gate.starts_programs]
        if PROGRAMS in running and held:
            self.say(f"waiting until programs are built (see .work/logs/programs.log): {', '.join(held)}")


def main() -> int:
    """Return the exit code: 0 if at least one test passed and none failed, else 1."""
    gates = _arguments()
    process.end_all_at_a_signal()
    run = GateRun()
    run.say(f"{len(gates)} gates, {AT_ONCE} at a time; logs are in .work/logs")
    run.all(gates)
    run.repeat_failures()
    if run.total.skipped:
        run.say(f"{run.total.skipped} skipped, for the reasons above")
    print(f"{run.total.passed} passed, {run.total.failed} failed")
    return int(run.total.failed > 0 or run.total.passed == 0)


if __name__ == "__main__":
    sys.exit(main())
