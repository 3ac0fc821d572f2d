# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last month: the ordinary playbooks mend everything, the next ones change nothing, and nothing of ours is left in the end."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from tests.years import events
from tests.years.places import Place, failing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.world import Program
    from tests.years.months import Years

_PREFIX = "certflow.kubernetes/"
#: The record of a repair, by which the next one sees that the owner has overwritten it.
_RECORD = f"{_PREFIX}repaired"
#: Where a run leaves objects.
_LISTS = {
    "secrets": "/api/v1/namespaces/{}/secrets",
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
}


def contents(place: Place) -> dict[str, Any]:
    """Return what owners write into each object that a run of ours does not own: all but the CAs, which a repair adds to."""
    return {program.name: _content(program) for program in place.programs if not program.is_ours}


def _content(program: Program) -> dict[str, Any]:
    obj = copy.deepcopy(program.read())
    config: Any = obj
    for part in program.pointer:
        config = config[part]
    config.pop("caBundle", None)
    annotations = {**(obj["metadata"].get("annotations") or {})}
    annotations.pop(_RECORD, None)
    metadata = {"labels": obj["metadata"].get("labels"), "annotations": annotations}
    return {**obj, "metadata": metadata, "status": None}


def end(years: Years, first: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Place, str, str]]:
    """Yield what does not hold at the end. first: place -> what the owners wrote at the beginning."""
    for place in years.ours:
        for name in failing(place.call_all()):
            if not (place.program(name).is_ours and years.is_healed(place, name)):
                events.mend(place, place.program(name))
    for playbook in ("certificates", "repair"):
        years.run(playbook)
        again = years.run(playbook)
        for place in years.ours:
            if writes := again.writes[place.place]:
                yield place, "", f"the second run of {playbook} wrote {', '.join(map(str, writes))}"
    for place in years.ours:
        yield from ((place, name, text) for name, text in _broken(place, first[place.place]))
    # Calls fail without the CA. That needs a word of the user.
    years.run("certificates", webhook_certificate_state="absent", webhook_certificate_accept=["downtime"])
    for place in years.ours:
        yield from ((place, "", f"{text} is left") for text in _left(place))


def _broken(place: Place, first: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    answers = place.call_all()
    yield from ((name, f"it does not answer: {answers[name]}") for name in failing(answers))
    for name, content in contents(place).items():
        if content != first[name]:
            yield name, f"its owner wrote {first[name]}, and it is {content}"


def _left(place: Place) -> Iterator[str]:
    """Yield what is left of ours after the state absent."""
    for plural, path in _LISTS.items():
        for item in place.cluster.api("GET", path.format(place.name))["items"]:
            if plural != "configmaps" or _PREFIX in json.dumps(item):
                yield f"{plural}/{item['metadata']['name']}"
    for program in place.ours:
        marks = set(program.read()["metadata"].get("annotations") or {}) - {_RECORD}
        yield from (f"{mark} on {program.full_name}" for mark in marks if mark.startswith(_PREFIX))
