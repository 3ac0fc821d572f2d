# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of examples/awx, with the values of its site.yml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2.nativetypes import NativeEnvironment

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "awx"
#: The value of the secret, which configure.yml reads from a file.
SECRET = "content of awx_kubeconfig"
#: What the variable omit of Ansible is here.
OMITTED = object()


class Template(str):
    """A text that AWX renders, and not Ansible."""

    __slots__ = ()


class Loader(yaml.SafeLoader):
    """A loader that reads the tag !unsafe."""


Loader.add_constructor("!unsafe", lambda _loader, node: Template(node.value))


def load(name: str) -> dict[str, Any]:
    """Return the content of a file of examples/awx."""
    content: dict[str, Any] = yaml.load((FOLDER / name).read_text(), Loader)  # a safe loader
    return content


def variable(kind: str) -> str:
    """Return the name of the variable that infra.aap_configuration reads for a kind of objects."""
    return "aap_organizations" if kind == "organizations" else f"controller_{kind}"


@cache
def objects() -> dict[str, Any]:
    """Return the variables of controller.yml, as configure.yml would give them to the modules."""
    site = load("site.yml")
    environment = NativeEnvironment()  # it makes no HTML
    environment.filters["bool"] = bool
    environment.globals |= {"lookup": lambda *_terms: SECRET, "omit": OMITTED}
    rendered: dict[str, Any] = _rendered(load("controller.yml"), environment, site)
    return rendered


def _rendered(value: Any, environment: NativeEnvironment, site: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        items = ((key, _rendered(entry, environment, site)) for key, entry in value.items())
        return {key: item for key, item in items if item is not OMITTED}
    if isinstance(value, list):
        return [_rendered(entry, environment, site) for entry in value]
    if isinstance(value, str) and "{{" in value and not isinstance(value, Template):
        return environment.from_string(value).render(site)
    return value


def named(kind: str, name: str) -> dict[str, Any]:
    """Return an object of controller_KIND by its name."""
    found: dict[str, Any] = next(entry for entry in objects()[variable(kind)] if entry["name"] == name)
    return found


def questions(template: str) -> list[dict[str, Any]]:
    """Return the questions of a job template."""
    spec: list[dict[str, Any]] = named("templates", template)["survey_spec"]["spec"]
    return spec
