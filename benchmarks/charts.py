# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bar charts as SVG, with a title, a description, and colours for both colour schemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LABELS, VALUES = 760, 340, 80
_LINE, _BAR, _TOP = 26, 16, 56
_STYLE = """\
    text { font-family: Helvetica, Arial, sans-serif; font-size: 13px; fill: #1f2328; }
    .title { font-size: 16px; font-weight: bold; }
    .label { text-anchor: end; }
    .note { fill: #57606a; }
    .page { fill: #ffffff; }
    .own { fill: #0969da; }
    .other { fill: #8c959f; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .note { fill: #b1bac4; }
      .page { fill: #0d1117; }
      .own { fill: #4493f8; }
      .other { fill: #6e7681; }
    }
"""


@dataclass(frozen=True)
class Bar:
    """One bar."""

    label: str
    value: float
    #: True for this collection, False for what it is compared with.
    is_own: bool
    #: What is written beside the bar.
    shown: str


def bars(title: str, unit: str, entries: Sequence[Bar]) -> str:
    """Return a chart of horizontal bars on a scale that starts at zero. unit: what the bars measure."""
    longest = max((bar.value for bar in entries), default=0) or 1
    room = WIDTH - LABELS - VALUES - 20
    height = _TOP + _LINE * len(entries) + 10
    description = "; ".join(f"{bar.label}: {bar.shown}" for bar in entries)
    # REUSE-IgnoreStart: the licence of the chart, not of this file
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- SPDX-FileCopyrightText: certflow.kubernetes contributors -->\n"
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' role="img" aria-labelledby="title description">\n'
        f'  <title id="title">{escape(title)}</title>\n'
        f'  <desc id="description">{escape(unit)}. {escape(description)}.</desc>\n'
        f"  <style>\n{_STYLE}  </style>\n"
        f'  <rect class="page" width="{WIDTH}" height="{height}"/>\n'
        f'  <text class="title" x="16" y="24">{escape(title)}</text>\n'
        f'  <text class="note" x="16" y="43">{escape(unit)}</text>\n'
    )
    # REUSE-IgnoreEnd
    parts = [head]
    for number, bar in enumerate(entries):
        y = _TOP + _LINE * number
        length = max(1.0, room * bar.value / longest)
        kind = "own" if bar.is_own else "other"
        parts.append(
            f'  <text class="label" x="{LABELS}" y="{y + 13}">{escape(bar.label)}</text>\n'
            f'  <rect class="{kind}" x="{LABELS + 10}" y="{y}" width="{length:.1f}" height="{_BAR}"/>\n'
            f'  <text x="{LABELS + 16 + length:.1f}" y="{y + 13}">{escape(bar.shown)}</text>\n'
        )
    return "".join([*parts, "</svg>\n"])
