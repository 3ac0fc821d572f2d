# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years.power [ROUNDS [NAME ...]]` shows what the simulation finds: it reverts mends of the collection, one at a time.

Each one is reverted in a copy of the collection, with which the simulation runs until its first violation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.years.report import PAGE

_HEAD = ("Mend", "Found in round", "By")
_REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = _REPOSITORY / "plugins"
_PARTS = ("plugins", "playbooks", "roles", "meta", "galaxy.yml")


@dataclass(frozen=True)
class Mend:
    """A mend, and how it is reverted: this text, which a file of plugins has once, becomes another one."""

    name: str
    file: str
    text: str
    reverted: str


MENDS = (
    Mend(
        "a removal looks at all that serves",
        "module_utils/_webhook/trust_removal.py",
        "        for chain in serves.seen\n        if not",
        "        for chain in serves.seen[:0]\n        if not",
    ),
    Mend(
        "the outgoing CA stays while it is served",
        "module_utils/_repair/rotation_repairs.py",
        "    for chain in case.serves.seen:\n",
        "    return plan_edit(case, pem, mode=ABSENT)\n    for chain in case.serves.seen:\n",
    ),
    Mend(
        "a caBundle needs each CA that is younger",
        "module_utils/_csr/ca_rotation.py",
        "return self._from(self.in_use[0])",
        "return self.in_use[:1]",
    ),
    Mend(
        "green means done",
        "plugin_utils/_fleet/outcome_of_result.py",
        'elif left.get("count") and not run.is_planned:',
        "elif False:",
    ),
    Mend(
        "the audit alarms when no chain is left",
        "module_utils/_audit/checks/certificate_faults.py",
        'yield CertificateFault(f"{prefix}expired", words, entry.at)',
        "continue",
    ),
    Mend(
        "an expiry is named before it comes",
        "module_utils/_audit/checks/certificate_faults.py",
        'yield CertificateFault(f"{prefix}expiring", words, entry.at, severity)',
        "continue",
    ),
    Mend(
        "a chain is judged by the caBundle",
        "module_utils/_audit/checks/certificate_faults.py",
        "else _trust_faults(leaf, sent, judged, bundle, now)",
        "else ()",
    ),
    Mend(
        "a target that lost its CA gets it again",
        "module_utils/_certificate/use_certificate.py",
        "        changes = target_anchors.write(run, changes, anchor, leaf_pem=pem, now=state.now)\n        secret_store",
        "        secret_store",
    ),
    Mend(
        "an addition comes before the Secret, and stays",
        "module_utils/_repair/bundle_repairs.py",
        "    if not secures and not refusal_of(case, point.config.ca_bundle, seen):\n        return None\n",
        "",
    ),
    Mend(
        "state absent removes what a task made",
        "module_utils/_certificate/remove.py",
        "        if removal.own:\n            left",
        "        if False:\n            left",
    ),
)


def find(mend: Mend, rounds: int, directory: Path) -> tuple[int, str]:
    """Return the round of the first violation without a mend, and its rule, or 0."""
    place = directory / "ansible_collections" / "certflow" / "kubernetes"
    place.mkdir(parents=True)
    for part in _PARTS:
        source = _REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / part)
    file = place / "plugins" / mend.file
    file.write_text(file.read_text().replace(mend.text, mend.reverted))
    paths = {
        "ANSIBLE_COLLECTIONS_PATH": str(directory),
        "PYTHONPATH": f"{directory}{os.pathsep}{_REPOSITORY}",
    }
    seed = f"power/{mend.name}"
    command = [sys.executable, "-m", "tests.years", seed, str(rounds), "", str(directory / "journals")]
    finished = 0
    with subprocess.Popen(command, env={**os.environ, **paths}, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(f"  {line}", end="", flush=True)
            if line.startswith("VIOLATION"):
                process.terminate()  # the janitor of the clusters removes them
                process.communicate()
                return finished + 1, line.removeprefix("VIOLATION ").partition(":")[0]
            finished += line.startswith("round ")
    return 0, ""


def main(rounds: str = "12", *names: str) -> None:
    for mend in MENDS:
        if not names or any(name in mend.name for name in names):
            print(mend.name, flush=True)
            with tempfile.TemporaryDirectory() as directory:
                number, rule = find(mend, int(rounds), Path(directory))
            is_end = number > int(rounds)
            row = ["at the end" if is_end else str(number) if number else f"not in {rounds}", rule or "-"]
            PAGE.put("power", _HEAD, {mend.name: row}, [mend.name for mend in MENDS])
            print(mend.name, *row, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
