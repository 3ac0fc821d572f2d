# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the files of docs/rbac that have all permissions of a task (`make docs`). A test compares them.

Each one joins the rules of smaller files, so that a user applies and binds one role for a task.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import yaml

from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = REPOSITORY / "docs" / "rbac"
PAGE = "https://certflow.github.io/certflow.kubernetes/docsite/guide_permissions.html"


class TaskFile(NamedTuple):
    """A file with all permissions of a task."""

    #: What it is for, the first line of the file.
    purpose: str
    #: The files whose rules its ClusterRole has.
    parts: tuple[str, ...]
    #: The file whose Role it has too, "" for none.
    role: str = ""


TASKS = {
    "certificates": TaskFile(
        "Issue and renew certificates: k8s_csr with approve: true, the role webhook_certificate and the playbook certificates.",
        ("request", "approve", "bundle", "rotate"),
    ),
    "snapshot-controller": TaskFile(
        "Upgrade the snapshot controller: snapshot_controller, its role and the playbook upgrade. With a webhook also certificates.yaml.",
        ("plan", "snapshot-verify", "upgrade"),
        "upgrade-lease",
    ),
}


def text_of(name: str) -> str:
    """Return the text of a task file."""
    task = TASKS[name]
    licence = (FOLDER / f"{task.parts[0]}.yaml").read_text().partition("---\n")[0]
    documents = [
        f"# {task.purpose}\n# Made by `make docs` from {', '.join(_files(task))}, which may be bound one by one. See\n# {PAGE}\n"
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: certflow-{name}\nrules:\n"
        + "".join(_rules(part) for part in task.parts)
    ]
    if task.role:
        text = (FOLDER / f"{task.role}.yaml").read_text().partition("---\n")[2]
        old = yaml.safe_load(text)["metadata"]["name"]
        documents.append(text.replace(f"name: {old}\n", f"name: certflow-{name}\n"))
        # ansible-test accepts one document in a file.
        documents = ["apiVersion: v1\nkind: List\nitems:\n" + "".join(map(_item, documents))]
    return f"{licence}---\n{documents[0]}"


def _item(document: str) -> str:
    """Return a document as an entry of a list, with its comments."""
    comments, begin, rest = document.partition("apiVersion:")
    return textwrap.indent(comments, "  ") + "  - " + textwrap.indent(begin + rest, "    ").lstrip()


def _files(task: TaskFile) -> Iterator[str]:
    yield from (f"{part}.yaml" for part in (*task.parts, task.role) if part)


def _rules(part: str) -> str:
    """Return the text of the rules of a file, with its comments."""
    return f"  # {part}.yaml\n" + (FOLDER / f"{part}.yaml").read_text().partition("rules:\n")[2]


def write() -> None:
    """Write the task files."""
    for name in TASKS:
        (FOLDER / f"{name}.yaml").write_text(text_of(name))
        print(f"docs/rbac/{name}.yaml")
