# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the picture of a fleet run for the documentation (`python3 -m tools.docs.run_picture`).

It starts two control planes, runs the playbook certificates on eight hosts, and draws what the run prints.
"""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.support import clusters
from tests.support.fleet.wide_fleet import FAILING, wide_fleet
from tools.docs import rst

FILE = rst.GUIDES / "images" / "fleet-run.svg"
#: The command as a user writes it. The tool writes an inventory of its own.
COMMAND = "$ ansible-playbook -i fleet.yml -e @webhook.yml -e certflow_max_failures=1 certflow.kubernetes.certificates"
HOSTS = ("lab", "prod-eu-1", "prod-eu-2", "prod-eu-3", "prod-eu-4", "prod-us-1", "prod-us-2", "prod-us-3")
COLUMNS, LINE = 112, 18
#: The class of a line -> the pattern of its text.
CLASSES = {
    "title": re.compile(r"\$ |PLAY "),
    "bad": re.compile(r"\[\d+/\d+\] \S+ failed|\S+: failed|left: "),
    "good": re.compile(r"\[\d+/\d+\] \S+ changed|\d+ clusters: "),
}
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-FileCopyrightText: certflow.kubernetes contributors -->
<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<svg xmlns="http://www.w3.org/2000/svg" width="920" height="{height}" viewBox="0 0 920 {height}" role="img" aria-labelledby="title description">
  <title id="title">A run on eight clusters</title>
  <desc id="description">The output of the playbook certificates: the canary, then the other clusters, one line for each, the budget, and at the end the
    numbers, what is left, and what to do.</desc>
  <style>
    text {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px; fill: #1f2328; white-space: pre; }}
    .page {{ fill: #f6f8fa; }}
    .title {{ font-weight: bold; }}
    .bad {{ fill: #b3261e; }}
    .good {{ fill: #1a7f37; }}
    @media (prefers-color-scheme: dark) {{
      text {{ fill: #f0f6fc; }}
      .page {{ fill: #0d1117; }}
      .bad {{ fill: #ff9492; }}
      .good {{ fill: #56d364; }}
    }}
  </style>
  <rect class="page" width="920" height="{height}"/>
"""


def draw(lines: list[str]) -> str:
    """Return the picture of these lines."""
    rows = [
        f'  <text class="{_class(line)}" x="16" y="{28 + LINE * number}">{escape(line)}</text>\n'
        for number, line in enumerate(lines)
    ]
    return HEAD.format(height=LINE * len(lines) + 32) + "".join(rows) + "</svg>\n"


def _class(line: str) -> str:
    return next((name for name, pattern in CLASSES.items() if pattern.match(line)), "plain")


def lines_of(picture: str) -> list[str]:
    """Return the lines of a picture."""
    root = ElementTree.fromstring(picture.encode())
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def shown(output: str) -> list[str]:
    """Return the lines of a run that a user reads: the stages, the progress and the summary. Of changed clusters, the first one is enough."""
    wanted = re.compile(r"PLAY \[|\[\d+/\d+\]|[\w-]+: (failed|waiting|changed|refused)|\d+ clusters: |left: ")
    found = [line.rstrip(" *") for line in output.splitlines() if wanted.match(line)]
    changed = [line for line in found if re.match(r"[\w-]+: changed", line)]
    found = ["..." if line in changed[1:2] else line for line in found if line not in changed[2:]]
    return [part for line in found for part in textwrap.wrap(line, COLUMNS, subsequent_indent="  ")]


def run() -> str:
    """Return the output of a run on real control planes, with one cluster that fails and one whose window is closed."""
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    window = {"days": f"{tomorrow:%a}", "start": "22:00", "end": "23:00"}
    variables: dict[str, dict[str, Any]] = {"prod-eu-3": FAILING, "prod-us-2": {"certflow_window": window}}
    with (
        tempfile.TemporaryDirectory() as folder,
        clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet,
        wide_fleet(fleet, Path(folder)) as wide,
    ):
        wide.write(HOSTS, variables)
        quiet = {"ANSIBLE_DISPLAY_OK_HOSTS": "false"}
        return wide.play("--forks", "4", env=quiet, certflow_max_failures=1).output


def main() -> None:
    """Write the picture."""
    lines = shown(run())
    if not lines:
        sys.exit("the run printed nothing")
    FILE.write_text(draw([COMMAND, *lines]), encoding="utf-8")


if __name__ == "__main__":
    main()
