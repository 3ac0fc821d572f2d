# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Render the report of an audit as one HTML page.

The page is complete without its style and its script, because CI servers and mail gateways remove both. It loads nothing, and its
policy allows exactly the style and the script of this collection. The text of a report is foreign: it is never a template, never a
link, and hidden characters are shown as escapes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import html_audit
from .html_audit import LAYOUTS
from .html_parts import labels, moment
from .report_schema import AUDIT_STATUSES
from .report_text import short

FOLDER = Path(__file__).with_name("page")
#: Words that the style knows: severities, statuses, states.
WORDS = frozenset(
    (
        *"error warning info pass skip unknown matched unused expired new gone".split(),
        *AUDIT_STATUSES,
    )
)


def render(report: Mapping[str, Any]) -> str:
    """Return the page of a parsed report, with its comparison if it has one."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style = style.replace("/* LABELS */", labels(LAYOUTS))
    return (
        _environment()
        .get_template("audit.html")
        .render(
            report=report,
            page=html_audit.build(report),
            made_at=moment(report["made_at"]),
            layouts=LAYOUTS,
            words=WORDS,
            # Both are files of this collection.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            style_hash=content_hash(style),
            script_hash=content_hash(script),
        )
    )


def content_hash(text: str) -> str:
    """Return the hash of a style or a script as a Content-Security-Policy has it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@functools.cache
def _environment() -> Environment:
    """Return an environment of our own, because Ansible's would evaluate templates in the text of a report."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["moment"] = moment
    return environment


def _shown(value: object) -> object:
    """Return a text on one line, shortened, without hidden characters. Markup of the templates stays as it is."""
    return short(value) if isinstance(value, str) and not isinstance(value, Markup) else value
