# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files and commands that a page of the documentation shows."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

#: Languages of blocks in YAML. antsibull-docs allows only one document in a block "yaml", and several in "yaml+jinja".
YAML = ("yaml", "yaml+jinja")
_IN_MARKDOWN = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_IN_RST = re.compile(
    r"^( *)\.\. code-block:: ([\w+]+)\n(?:\1 +:.*\n)*\n((?:\1 +\S.*\n|[ \t]*\n)+)", re.MULTILINE
)
REPOSITORY = Path(__file__).resolve().parents[3]
README = REPOSITORY / "README.md"
GUIDES = REPOSITORY / "docs" / "docsite" / "rst"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return kind and text of each code block of a page in Markdown or reStructuredText."""
    pattern = _IN_RST if page.suffix == ".rst" else _IN_MARKDOWN
    found = pattern.findall(f"{page.read_text()}\n")
    return [(kind.lower(), f"{textwrap.dedent(text).rstrip()}\n") for _indent, kind, text in found]


def files(page: Path) -> dict[str, str]:
    """Return the YAML blocks whose first line names a file, by that name."""
    texts = [text for kind, text in blocks(page) if kind in YAML]
    return {match[1]: text for text in texts if (match := re.match(r"# (\S+\.yml)\n", text))}


def commands(page: Path) -> list[str]:
    """Return the lines of the blocks with commands, without comments."""
    texts = (text for kind, text in blocks(page) if kind == "shell")
    return [line for text in texts for line in text.splitlines() if not line.startswith("#")]


def outputs(page: Path) -> dict[str, list[str]]:
    """Return the lines of each block of output, by the last command before it. A line that ends in "..." is a beginning."""
    shown, last = {}, ""
    for kind, text in blocks(page):
        if kind == "shell":
            last = text.splitlines()[-1]
        elif kind == "text":
            shown[last] = [line.removesuffix("...").strip() for line in text.splitlines()]
    return shown


def operations() -> list[str]:
    """Return the modules that contact a cluster. The other ones do their work on the controller, in their action plugin."""
    paths = sorted((REPOSITORY / "plugins" / "modules").glob("*.py"))
    return [path.stem for path in paths if "run_module(OPERATION)" in path.read_text()]


def examples(module: str) -> list[dict[str, Any]]:
    """Return the tasks that the page of a module shows."""
    path = REPOSITORY / "plugins" / "modules" / f"{module}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    tasks: list[dict[str, Any]] = yaml.safe_load(loaded.EXAMPLES)
    return tasks
