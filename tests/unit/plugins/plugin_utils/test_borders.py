# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hostile set goes through each border: log, terminal, name, template, artifact and each format of a report.

Each border has one function. Everything that leaves the collection passes it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.utils.yaml import from_yaml
from ansible.template import Templar
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import redaction
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import (
    harmless,
    quoted,
    safe_name,
    visible,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import outcomes, run_state
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    audit_summary,
    job_report,
    report_model,
    report_text,
)

from tests.support.audit import hostile
from tests.support.audit.hostile import HOSTILE, PLAIN
from tests.unit.plugins.plugin_utils._report.test_report_hostile import RENDERERS, structure

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every text is a template

    def trust_as_template(value: str) -> str:
        return value


pytestmark = pytest.mark.quick

ROW = {"status": "failed", "code": "x", "reason": PLAIN}


def of_line(line: str) -> Any:
    """Return what a program that reads lines sees. A text cannot begin another line or hide something."""
    line.encode()
    return len(line.splitlines()), hostile.hidden_characters(line)


def of_lines(lines: list[str]) -> Any:
    return [of_line(line) for line in lines]


def of_name(name: str) -> Any:
    return of_line(name), set("{}") & set(name), len(name) < 250, safe_name(name) == name


def of_artifact(artifact: Any) -> Any:
    """Return the shape of an artifact after a later job has rendered it. The job reads it as JSON in the form of AWX."""
    text = json.dumps(artifact)
    assert rendered(from_yaml(text)) == json.loads(text)
    return shape(artifact)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


def rendered(value: Any) -> Any:
    """Return what Ansible makes of an extra variable."""
    templar = Templar(loader=DataLoader(), variables={"artifact": trusted(value)})
    return templar.template(trust_as_template("{{ artifact }}"))


def trusted(value: Any) -> Any:
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    return [trusted(item) for item in value] if isinstance(value, list) else value


def of_run_file(line: bytes) -> Any:
    return line.isascii(), line.count(b"\n"), run_state.to_event(line) is not None


def audit(text: str) -> Any:
    return report_text.normalise(hostile.audit(text), "this")


def jobs(text: str) -> Any:
    """Return the artifacts of a fleet run: the outcomes, and the counts under the name of the job."""
    row = {**ROW, "reason": text, "is_failure": True}
    return harmless([{text: row, "b": row}, job_report.make("x", False, {text: "failed"})])


# Border -> how a text crosses it, and what is the same for every text.
BORDERS: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "log": (visible, of_line),
    "result": (lambda text: redaction.clean({"msg": text, "evidence": [text]})["msg"], of_line),
    "quote": (quoted, of_line),
    "summary": (lambda text: outcomes.summary_lines({text: {**ROW, "reason": text}}), of_lines),
    "progress": (lambda text: outcomes.progress_line(outcomes.Progress(1, 2, 1, 3), text, "failed", 3), of_line),
    "summary of an audit": (lambda text: audit_summary.lines(audit(text), [], []), of_lines),
    "name": (safe_name, of_name),
    "artifacts of a run": (jobs, of_artifact),
    "artifact of an audit": (lambda text: audit_summary.artifact(audit(text), [text]), of_artifact),
    "run file": (lambda text: run_state.to_line({"event": "run-started", "run": text[:1000]}), of_run_file),
    "JSON report": (lambda text: report_text.dump(audit(text)), lambda text: (text.isascii(), shape(json.loads(text)))),
    "JSON report of a run": (
        lambda text: report_text.dump(report_text.normalise(hostile.run(text), "this")),
        lambda text: (text.isascii(), shape(json.loads(text))),
    ),
    **{
        name: (hostile.audit, functools.partial(structure, renderer)) for name, renderer in RENDERERS.items()
    },
}  # fmt: skip


def unsafe(border: str) -> Iterator[str]:
    """Yield the names of the texts that cross a border as more than a text."""
    cross, seen = BORDERS[border]
    plain = seen(cross(PLAIN))
    for name, text in HOSTILE.items():
        try:
            same = plain is not None and seen(cross(text)) == plain
        except Exception:  # such as an error of a template
            same = False
        if not same:
            yield name


@pytest.mark.parametrize("border", BORDERS)
def test_a_hostile_text_stays_a_text(border: str) -> None:
    assert list(unsafe(border)) == []


@pytest.mark.parametrize("name", ["template", "header of a template"])
def test_ansible_renders_these_texts(name: str) -> None:
    """The comparison of artifacts finds a template that is rendered."""
    with pytest.raises(Exception):  # noqa: B017  # each core has another error
        of_artifact({"a": HOSTILE[name]})


def test_hosts_with_similar_names_stay_two_keys() -> None:
    names = [f"{text}{end}" for text in HOSTILE.values() for end in "ab"]
    assert len(harmless(dict.fromkeys(names, ROW))) == len(set(names))


def test_the_gate_of_a_hostile_report_is_no_error() -> None:
    assert report_model.gate(audit(HOSTILE["template"]), "error")
