# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contrast of text in the report's page and in the site, computed from their style sheets (WCAG 2.2, 1.4.3).

tests/system/audit/test_report_page.py measures the report's page in a browser, if there is one.
"""

from __future__ import annotations

import re
from itertools import product

import pytest

from tools.ci.venvs import REPOSITORY

ENOUGH = 4.5
PAGE = (REPOSITORY / "plugins" / "plugin_utils" / "_report" / "page" / "page.css").read_text()
SITE = (REPOSITORY / "tools" / "docs" / "sphinx" / "static" / "site.css").read_text()
DARK = "@media (prefers-color-scheme: dark)"
#: The variables of the report's page that are backgrounds, and those that are no text.
BACKGROUNDS, NO_TEXT = ("page", "band", "error-band"), ("line", "focus")
#: The colour of the site's text in dark mode, and the background of code blocks.
TEXT, CODE = "#d7dade", "#101214"


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def variables(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", style))


def site_rules() -> list[tuple[str, str, str]]:
    """Return the selectors, the text colour and the background of each rule for dark mode, "" for a missing colour."""
    block = SITE.partition(DARK)[2].partition("\n}\n")[0]
    return [
        (" ".join(selectors.split()), _colour("color", body), _colour("background", body))
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]+)\}", block)
    ]


def _colour(name: str, body: str) -> str:
    match = re.search(rf"(?<![\w-]){name}: (#[0-9a-f]+)", body)
    return match[1] if match else ""


def test_the_formula_gives_the_known_ratios() -> None:
    assert round(contrast("#fff", "#000000"), 2) == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_each_text_of_a_report_is_legible(mode: str) -> None:
    light, _mark, dark = PAGE.partition(DARK)
    colours = variables(light if mode == "light" else dark)
    texts = set(variables(light)) - {*BACKGROUNDS, *NO_TEXT}
    pairs = product(sorted(texts), BACKGROUNDS)
    ratios = {(text, backdrop): contrast(colours[text], colours[backdrop]) for text, backdrop in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < ENOUGH} == {}


def test_each_text_of_the_dark_site_is_legible() -> None:
    """A rule without a background can apply on each background of a page. Colours of code apply on that of code blocks."""
    backgrounds = {
        backdrop for _selectors, _text, backdrop in site_rules() if backdrop and backdrop != "#fff"
    }
    unreadable = {}
    for selectors, text, backdrop in site_rules():
        on = (
            [backdrop]
            if backdrop
            else [CODE]
            if selectors.startswith(".highlight .")
            else sorted(backgrounds)
        )
        for background in on:
            if background != "#fff" and contrast(text or TEXT, background) < ENOUGH:
                unreadable[selectors, background] = contrast(text or TEXT, background)
    assert len(backgrounds) > 3
    assert unreadable == {}
