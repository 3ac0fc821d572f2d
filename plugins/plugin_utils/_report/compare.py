# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare the report of an audit with an earlier one: new findings, known ones, and those that are gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...module_utils._audit.checks import call_checks, check_table
from ...module_utils._audit.facts import cluster_data
from ...module_utils._audit.facts.finding import FAIL, UNKNOWN, AuditedObject
from ...module_utils._base.text import shortened
from . import report_model, report_text
from .report_schema import KNOWN, NEW
from .report_text import Report

#: An audit runs these checks only if its options say so.
OPTIONAL = frozenset(check_table.checks_of(cluster_data.SNAPSHOT))
#: The checks of what endpoints serve.
_OF_ENDPOINTS = frozenset(check_table.checks_of(cluster_data.HANDSHAKES))
#: The faults of an object that hide them.
_HIDING = (*call_checks.REFERENCES, "apiservice-down")

#: Check -> the names of the objects for which it has no answer, "" for all objects.
_Unanswered = Mapping[str, frozenset[str]]
_ALL = frozenset(("",))


class _Pair(NamedTuple):
    """A cluster in both reports, and the checks for which one of the two audits has no complete answer."""

    earlier: Mapping[str, Any]
    #: Fingerprint -> the failed finding of the earlier audit.
    earlier_faults: Mapping[str, Mapping[str, Any]]
    unanswered_earlier: _Unanswered
    unanswered_now: _Unanswered


def compare(report: Report, earlier: Report) -> Report:
    """Return the report with the state and first_seen of its failed findings, and with the comparison.

    Clusters with one name and one UID are compared. A finding is gone only if its cluster was read again and its check has an
    answer. It is new only if the earlier audit would have found it. Accepted findings get a state too, and are not counted.
    """
    clusters, gone, skipped = [], [], []
    by_name = {cluster["name"]: cluster for cluster in earlier["clusters"]}
    for cluster in report["clusters"]:
        pair = _pair(cluster, by_name.get(cluster["name"]))
        clusters.append(
            {**cluster, "findings": [_with_state(finding, cluster, pair) for finding in cluster["findings"]]}
        )
        if pair is None:
            skipped.append(cluster["name"])
        else:
            gone += _gone(cluster, pair)
    skipped += by_name.keys() - {cluster["name"] for cluster in report["clusters"]}
    states = [
        finding["state"] for cluster in clusters for finding in cluster["findings"] if not finding["excepted"]
    ]
    comparison = {
        "made_at": earlier["made_at"],
        "new": states.count(NEW),
        "known": states.count(KNOWN),
        "gone": gone,
        "not_compared": sorted(skipped),
    }
    return report_text.normalise(
        {**report, "clusters": clusters, "comparison": comparison}, "the compared report"
    )


def _pair(cluster: Mapping[str, Any], found: Mapping[str, Any] | None) -> _Pair | None:
    """Return the cluster with the same one of the earlier report, None if one of the two audits did not read it.

    Fingerprints contain the UID. So they differ if the UIDs differ, or if only one of the audits may read the UID.
    """
    if (
        found is None
        or not (report_model.was_read(cluster) and report_model.was_read(found))
        or found["uid"] != cluster["uid"]
    ):
        return None
    faults = {finding["fingerprint"]: finding for finding in found["findings"] if finding["status"] == FAIL}
    return _Pair(found, faults, _unanswered(found, cluster), _unanswered(cluster, found, OPTIONAL))


def _unanswered(
    cluster: Mapping[str, Any], other: Mapping[str, Any], optional: Iterable[str] = ()
) -> _Unanswered:
    now, then = ((entry["limits"] or {}).get("without") or () for entry in (cluster, other))
    skipped = (check for source in set(now) - set(then) for check in check_table.checks_of(source))
    found = dict.fromkeys((*optional, *skipped), _ALL)
    for finding in cluster["findings"]:
        if finding["status"] == UNKNOWN:
            for check in (finding["check"], *finding["unanswered"]):
                row = check_table.BY_ID.get(check)
                objects = _ALL if row and row.compares_objects else frozenset(finding["objects"]) or _ALL
                found[check] = found.get(check, frozenset()) | objects
        elif finding["status"] == FAIL and finding["check"] in _HIDING:
            for check in _OF_ENDPOINTS:
                found[check] = found.get(check, frozenset()) | {shortened(str(_subject(finding)))}
    return found


def _subject(finding: Mapping[str, Any]) -> AuditedObject:
    subject = finding["object"]
    return AuditedObject(
        subject["kind"], subject["name"], namespace=subject["namespace"], webhook=subject["webhook"]
    )


def _has_answer(unanswered: _Unanswered, finding: Mapping[str, Any]) -> bool:
    listed = {"", *map(shortened, _subject(finding).names)}
    return not unanswered.get(finding["check"], frozenset()) & listed


def _with_state(finding: Mapping[str, Any], cluster: Mapping[str, Any], pair: _Pair | None) -> dict[str, Any]:
    """Return the finding with its state and first_seen."""
    if pair is None or finding["status"] != FAIL:
        return {**finding, "state": "", "first_seen": None}
    match = pair.earlier_faults.get(finding["fingerprint"])
    if match:
        return {**finding, "state": KNOWN, "first_seen": match["first_seen"] or pair.earlier["audited_at"]}
    state = NEW if _has_answer(pair.unanswered_earlier, finding) else ""
    return {**finding, "state": state, "first_seen": cluster["audited_at"]}


def _gone(cluster: Mapping[str, Any], pair: _Pair) -> list[dict[str, Any]]:
    """Return the findings that are gone. One of an object that was created again, and that still has the fault, is not gone."""
    present = [finding for finding in cluster["findings"] if finding["status"] == FAIL]
    fingerprints = {finding["fingerprint"] for finding in present}
    known = {finding["object"]["uid"] for finding in pair.earlier_faults.values()}
    recreated = {_place(finding) for finding in present if finding["object"]["uid"] not in known}
    return [
        {
            "cluster": cluster["name"],
            "cluster_uid": cluster["uid"],
            **{key: finding[key] for key in ("check", "severity", "object", "cause", "fingerprint")},
            "first_seen": finding["first_seen"] or pair.earlier["audited_at"],
        }
        for finding in pair.earlier_faults.values()
        if not finding["excepted"]
        and finding["fingerprint"] not in fingerprints
        and _place(finding) not in recreated
        and _has_answer(pair.unanswered_now, finding)
    ]


def _place(finding: Mapping[str, Any]) -> tuple[str, ...]:
    return (finding["check"], *(finding["object"][key] for key in ("kind", "namespace", "name", "webhook")))
