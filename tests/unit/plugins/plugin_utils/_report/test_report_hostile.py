# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every format shows hostile texts of a cluster as text: the structure is the same as for a plain text.

Each step of an escape is taken out once, to show that the comparison finds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    html,
    junit,
    prometheus,
    report_text,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report, short
from jinja2 import Environment

from tests.support.audit import hostile
from tests.support.audit.hostile import HOSTILE, PLAIN
from tests.support.audit.html_page import Page

pytestmark = pytest.mark.quick

_LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? [0-9.e+-]+")


def of_prometheus(text: str) -> Any:
    """Return the metrics with the names of their labels. A sample that the format does not allow has no place."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        assert match or line.startswith(("# HELP ", "# TYPE ")), line
        labels = re.findall(_LABEL, match[2] or "") if match else ()
        found.append((match[1], [label.partition("=")[0] for label in labels]) if match else line)
    return found


def of_xml(text: str) -> Any:
    """Return the tags with the names of their attributes."""
    root = ElementTree.fromstring(text.encode())
    return [(element.tag, sorted(element.attrib)) for element in root.iter()]


def of_html(text: str) -> Any:
    """Return the elements with the names of their attributes, the links, the style and the script."""
    page = Page(text)
    assert page.comments == []
    elements = [(tag, sorted(attributes)) for tag, attributes in page.tags]
    return elements, [tag["href"] for tag in page.named("a")], page.raw


@dataclass(frozen=True)
class Renderer:
    """A format, and how its structure is seen."""

    render: Callable[[Report], str]
    structure: Callable[[str], Any]
    #: A text of any length does not make the report longer than this.
    most_characters: int = 60_000


RENDERERS = {
    "prometheus": Renderer(prometheus.render, of_prometheus),
    "junit": Renderer(junit.render, of_xml),
    "html": Renderer(html.render, of_html, 600_000),
}


def unsafe(renderer: Renderer) -> Iterator[str]:
    """Yield the names of the texts that the format does not show as text."""
    plain = structure(renderer, hostile.audit(PLAIN))
    for name, text in HOSTILE.items():
        if plain is None or structure(renderer, hostile.audit(text)) != plain:
            yield name


def structure(renderer: Renderer, report: Report) -> Any:
    """Return the structure of the rendered report, None if the report is not valid in its format."""
    shown = renderer.render(report)
    try:
        shown.encode()
        found = renderer.structure(shown)
    except (AssertionError, ElementTree.ParseError, UnicodeError):
        return None
    is_clean = not hostile.hidden_characters(shown) and len(shown) < renderer.most_characters
    return found if is_clean else None


@pytest.mark.parametrize("name", RENDERERS)
def test_hostile_texts_are_shown_as_text(name: str) -> None:
    assert list(unsafe(RENDERERS[name])) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_is_written_and_read_with_hostile_texts(name: str) -> None:
    made = report_text.normalise(hostile.audit(HOSTILE[name]), "this")
    text = report_text.dump(made)
    assert text.isascii()
    assert hostile.hidden_characters(text) == ""
    assert report_text.parse(text, "this") == made


def without_backslash(text: str) -> str:
    return short(text).replace('"', '\\"')


def without_quote(text: str) -> str:
    return short(text).replace("\\", "\\\\")


def without_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


ENVIRONMENT = html._environment.__wrapped__


def templates(**changed: Any) -> Callable[[], Environment]:
    """Return the environment of the HTML page with other settings."""

    def build() -> Environment:
        made = ENVIRONMENT()
        for key, value in changed.items():
            setattr(made, key, value)
        return made

    return build


# A format, what is replaced in its module, and by what.
TAKEN_OUT: dict[str, tuple[str, Any, str, Any]] = {
    "a label's backslash": ("prometheus", prometheus, "escape", without_backslash),
    "a label's quote": ("prometheus", prometheus, "escape", without_quote),
    "a label's line": ("prometheus", prometheus, "escape", without_line),
    "XML's characters": ("junit", junit, "escape", short),
    "XML's hidden characters": ("junit", junit, "short", str),
    "HTML's escape": ("html", html, "_environment", templates(autoescape=False)),
    "HTML's hidden characters": ("html", html, "_environment", templates(finalize=lambda value: value)),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN_OUT)
def test_an_escape_that_is_taken_out_is_found(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, module, attribute, value = TAKEN_OUT[case]
    monkeypatch.setattr(module, attribute, value)
    assert any(unsafe(RENDERERS[name]))
