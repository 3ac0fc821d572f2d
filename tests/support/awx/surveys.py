# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AWX's rules for surveys: what it accepts as a survey, and which variables it makes of answers.

Source: _validate_spec_data in awx/api/views/__init__.py, and _survey_element_validation and accept_or_ignore_variables in
awx/main/models/mixins.py of AWX 24.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CHOICES = ("multiplechoice", "multiselect")
# Type of a question -> type of its default.
DEFAULTS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "textarea": str,
    "password": str,
    "multiplechoice": str,
    "multiselect": (str, list),
    "integer": int,
    "float": float,
}
FIELDS = {"question_name": str, "variable": str, "type": str, "required": bool}


def problems(survey: Mapping[str, Any]) -> list[str]:
    """Return the reasons for which AWX refuses a survey."""
    found = [
        f"{key} is not a text" for key in ("name", "description") if not isinstance(survey.get(key), str)
    ]
    spec = survey.get("spec")
    if not isinstance(spec, list) or not spec:
        return [*found, "spec is not a list of questions"]
    names = [question.get("variable") for question in spec]
    found += [
        f"{name} is asked twice" for name in sorted({str(name) for name in names if names.count(name) > 1})
    ]
    return [*found, *(line for question in spec for line in _question_problems(question))]


def _question_problems(question: Mapping[str, Any]) -> Iterator[str]:
    name = question.get("variable")
    for field, expected in FIELDS.items():
        if not isinstance(question.get(field), expected):
            yield f"{name}: {field} is not of type {expected.__name__}"
    kind = question.get("type")
    default = question.get("default", "")
    if kind not in DEFAULTS:
        yield f"{name}: the type {kind} does not exist"
    elif default != "" and not isinstance(default, DEFAULTS[kind]):
        yield f"{name}: the default is not of the type {kind}"
    for limit in ("min", "max"):
        if not isinstance(question.get(limit, 0), int):
            yield f"{name}: {limit} is not an integer"
    if kind in CHOICES:
        choices = question.get("choices") or []
        given = default.splitlines() if isinstance(default, str) else default
        if not choices or [entry for entry in given if entry not in choices]:
            yield f"{name}: choices or default are wrong"


def accepted(spec: list[dict[str, Any]], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a launch, a node or a schedule that AWX accepts if the template does not ask for variables."""
    asked = {question["variable"] for question in spec}
    return {name: value for name, value in variables.items() if name in asked}


def extra_variables(spec: list[dict[str, Any]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra variables of a job with these answers, and the default for every other question.

    AWX leaves out a choice without an answer.
    """
    asked = [question for question in spec if question["type"] != "multiselect" or question["default"]]
    unknown = set(answers) - {question["variable"] for question in spec}
    assert not unknown, f"no question asks for {unknown}"
    return {question["variable"]: question["default"] for question in asked} | dict(answers)
