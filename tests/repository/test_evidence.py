# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that pages name only tests, gates and files that exist."""

from __future__ import annotations

import csv
import re

from tools.ci.gates import ALL, OTHER_VERSIONS
from tools.ci.venvs import REPOSITORY

GUIDES = REPOSITORY / "docs" / "docsite" / "rst"
THREAT_MODEL = GUIDES / "explanation_threat_model.rst"
REQUIREMENTS = GUIDES / "reference_requirements.rst"
STATES = {"met", "not met", "not applicable"}


def named_tests(text: str) -> list[str]:
    return re.findall(r"``(tests/[\w/.]+\.py::\w+)``", text)


def exists(test: str) -> bool:
    """Return True if the file has a test function of this name. test: "path::function"."""
    path, _, function = test.partition("::")
    file = REPOSITORY / path
    return file.is_file() and bool(re.search(rf"^ *def {function}\(", file.read_text(), re.MULTILINE))


def rows(text: str) -> list[list[str]]:
    """Return the rows of the page's tables, without their headers."""
    lines = [line.strip() for line in text.splitlines() if line.startswith('   "')]
    return [row for row in csv.reader(lines) if row[1:2] != ["State"]]


def test_the_threat_model_names_tests_that_exist() -> None:
    tests = named_tests(THREAT_MODEL.read_text())
    assert tests
    assert [test for test in tests if not exists(test)] == []


def test_every_actor_of_the_threat_model_has_each_part() -> None:
    """The sections of actors have the same four parts, and at least one test."""
    actors = re.split(r"^(.+)\n~+$", THREAT_MODEL.read_text(), flags=re.MULTILINE)[1:]
    for name, text in zip(actors[::2], actors[1::2], strict=True):
        parts = re.findall(r"^(What the actor can do|Protection|Remaining risk|Tests)$", text, re.MULTILINE)
        assert parts == ["What the actor can do", "Protection", "Remaining risk", "Tests"], name
        assert named_tests(text), name


def test_a_test_that_does_not_exist_is_found() -> None:
    assert exists("tests/repository/test_evidence.py::test_a_test_that_does_not_exist_is_found")
    assert not exists("tests/repository/test_evidence.py::test_gone")
    assert not exists("tests/repository/gone.py::test_gone")


def test_every_requirement_has_a_state_and_evidence() -> None:
    """Evidence is a file, a gate or a test that exists."""
    gates = {gate.name for gate in (*ALL, *OTHER_VERSIONS)}
    found = rows(REQUIREMENTS.read_text())
    assert len(found) > 40
    for requirement, state, evidence in found:
        assert state in STATES, requirement
        for code in re.findall(r"``([^`]+)``", evidence):
            gate = code.removeprefix("gate ")
            known = gate in gates if gate != code else (REPOSITORY / code).exists() or exists(code)
            assert known, f"{requirement}: {code}"
        if state == "met":
            assert "``" in evidence, requirement
