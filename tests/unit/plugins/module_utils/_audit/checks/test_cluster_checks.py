# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about the cluster itself, and the signs of failed calls."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import object_parsing
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import cluster_checks
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    FailedCall,
    Login,
    StuckRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import AuditedObject
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import (
    login_of,
    manager_of,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import Diagnosis
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    Connection,
    ExecPlugin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.finding import Finding
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import (
    HAZARDS as HAZARD_TABLE,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import (
    DetectedHazard,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.call_failures import (
    CONVERSION,
)

from tests.support.certificates.authority import DAY, NOW, Issued, authority
from tests.unit.plugins.module_utils._audit.world import cluster, failures, leaf, point

pytestmark = pytest.mark.quick

NAME = "hook.example.com"
CRD = point(kind="CustomResourceDefinition", caller=CONVERSION)
EVENT = FailedCall(NAME, "ReplicaSet shop/web-1", "failed calling webhook", NOW - timedelta(minutes=5))
METRICS = """\
# HELP apiserver_admission_webhook_rejection_count [ALPHA] Admission webhook rejection count
apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="hook.example.com",operation="CREATE",rejection_code="0",type="validating"} 3
apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="hook.example.com",operation="UPDATE",rejection_code="0",type="validating"} 2
apiserver_admission_webhook_rejection_count{error_type="no_error",name="denies.example.com",operation="CREATE",rejection_code="403",type="validating"} 9
apiserver_admission_webhook_rejection_count{error_type="apiserver_internal_error",name="patches.example.com",operation="CREATE",rejection_code="0",type="admit"} 6
apiserver_admission_webhook_fail_open_count{name="ignored.example.com",type="validating"} 1e+06
apiserver_conversion_webhook_request_total{failure_type="ConversionCallFailure",result="failure"} 4
apiserver_conversion_webhook_request_total{failure_type="",result="success"} 40
apiserver_admission_webhook_fail_open_count{name=broken
apiserver_request_total{code="200"} 1
"""


def test_counters_are_summed_by_webhook() -> None:
    counters = {NAME: 5, "patches.example.com": 6, "ignored.example.com": 1e6, "conversions": 4}
    assert object_parsing.read_counters(METRICS) == counters
    assert object_parsing.read_counters("") == {}


CALLS = """\
apiserver_admission_webhook_request_total{code="200",name="hook.example.com",operation="CREATE",rejected="false",type="validating"} 8
apiserver_admission_webhook_request_total{code="200",name="hook.example.com",operation="UPDATE",rejected="false",type="validating"} 2
apiserver_admission_webhook_request_total{code="500",name="hook.example.com",operation="CREATE",rejected="false",type="validating"} 4
apiserver_admission_webhook_request_total{code="403",name="hook.example.com",operation="CREATE",rejected="true",type="validating"} 1
apiserver_admission_match_condition_evaluation_errors_total{kind="webhook",name="hook.example.com",operation="CREATE",type="validating"} 3
apiserver_admission_match_condition_evaluation_errors_total{kind="policy",name="hook.example.com",operation="CREATE",type="validating"} 9
"""


def test_answered_calls_and_failed_conditions_are_counted() -> None:
    assert object_parsing.read_answers(CALLS) == {NAME: 10}
    assert object_parsing.read_counters(CALLS) == {f"matchConditions of {NAME}": 3}
    assert object_parsing.growth([]) == object_parsing.growth([{NAME: 9}]) == {}
    assert object_parsing.growth([{}, {NAME: 9}]) == {NAME: 9}


@pytest.mark.parametrize(("before", "after", "wanted"), [(0, 0, []), (2, 2, ["info"]), (2, 3, ["error"])])
def test_conditions_that_fail_at_run_time(before: float, after: float, wanted: list[str]) -> None:
    key = f"matchConditions of {NAME}"
    data = cluster(point(), counters_before={key: before}, counters_after={key: after})
    assert [severity or "error" for _check, severity in failures(cluster_checks.check_calls(data))] == wanted


#: The time at which the object was written, and at which the API server started -> the severity of failures before the audit.
UNCHANGED: list[tuple[timedelta | None, timedelta | None, str]] = [
    (2 * DAY, DAY, "warning"),
    (DAY, 2 * DAY, "info"),  # perhaps they were mended since
    (None, DAY, "info"),
    (2 * DAY, None, "info"),
]


@pytest.mark.parametrize(("written", "started", "severity"), UNCHANGED)
def test_conditions_that_failed_since_the_api_server_started(
    written: timedelta | None, started: timedelta | None, severity: str
) -> None:
    counts = {f"matchConditions of {NAME}": 2.0}
    called = point(written_at=written and NOW - written)
    start = started and NOW - started
    options: dict[str, Any] = {"counters_before": counts, "counters_after": counts, "api_server_start": start}
    (finding,) = (
        entry
        for entry in cluster_checks.check_calls(cluster(called, **options))
        if entry.detail == "conditions"
    )
    assert (finding.severity, finding.certainty, finding.breaks_at) == (severity, "likely", None)
    shared = cluster(called, replace(called, object=replace(called.object, name="b")), **options)
    severities = {
        entry.severity for entry in cluster_checks.check_calls(shared) if entry.detail == "conditions"
    }
    assert severities == {"info"}  # the API server counts both under one name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("process_start_time_seconds 1.7957376e+09", 1795737600),
        ("process_start_time_seconds 1.5", 1.5),
        ("other_process_start_time_seconds 1", None),
        ("process_start_time_seconds NaN", None),
        ("process_start_time_seconds 1e300", None),
        ("process_start_time_seconds 1e1e1", None),
        ("", None),
    ],
)
def test_the_start_of_the_api_server_is_read(text: str, seconds: float | None) -> None:
    start = object_parsing.read_start(f"a 1\n{text}\nb 2\n")
    assert (start and start.timestamp()) == seconds


ON_FILES = """\
apiserver_manifest_admission_config_controller_last_config_info{apiserver_id_hash="sha256:7",hash="sha256:1",plugin="ValidatingAdmissionWebhook"} 1
apiserver_manifest_admission_config_controller_last_config_info{apiserver_id_hash="sha256:7",hash="sha256:1",plugin="ValidatingAdmissionPolicy"} 1
apiserver_admission_webhook_request_total{code="200",name="guard.static.k8s.io",operation="CREATE",rejected="false",type="validating"} 8
apiserver_admission_webhook_request_total{code="200",name="guard.static.k8s.io",operation="UPDATE",rejected="false",type="validating"} 8
apiserver_admission_webhook_request_total{code="200",name="hook.example.com",operation="CREATE",rejected="false",type="validating"} 8
"""


def test_webhooks_from_files_are_seen_by_the_metrics() -> None:
    signs = object_parsing.find_file_webhooks(ON_FILES)
    assert signs == ("ValidatingAdmissionWebhook", "guard.static.k8s.io")
    assert object_parsing.find_file_webhooks(METRICS) == ()
    (finding,) = cluster_checks.check_file_webhooks(cluster(file_webhooks=signs))
    assert (finding.status, finding.evidence) == ("fail", signs)
    (finding,) = cluster_checks.check_file_webhooks(cluster(file_webhooks=()))
    assert finding.status == "pass"
    assert list(cluster_checks.check_file_webhooks(cluster())) == []


#: The counters of the previous audit, at the begin and at the end of this one, and the Events -> the severities.
COUNTERS: list[tuple[Any, Any, Any, tuple[FailedCall, ...], list[str]]] = [
    (None, {}, {}, (), []),
    (None, {}, {NAME: 1}, (), ["error"]),
    (None, {NAME: 7}, {NAME: 7}, (), ["info"]),
    (None, {NAME: 7}, {NAME: 9}, (), ["error"]),
    (None, {NAME: 7}, {NAME: 2}, (), ["error"]),  # the API server has restarted
    (None, {NAME: 7}, {}, (), []),
    (None, None, None, (), []),
    ({}, {NAME: 1}, {NAME: 1}, (), ["info"]),  # a call since the previous audit, perhaps repaired since
    ({}, {NAME: 1}, {NAME: 2}, (), ["error"]),
    (None, None, None, (EVENT,), ["info"]),
    ({}, {NAME: 1}, {NAME: 1}, (EVENT,), ["info"]),
]


@pytest.mark.parametrize(("previous", "before", "after", "events", "wanted"), COUNTERS)
def test_calls_that_failed(previous: Any, before: Any, after: Any, events: Any, wanted: list[str]) -> None:
    counters = {"counters_previous": previous, "counters_before": before, "counters_after": after}
    data = cluster(point(), **counters, failed_calls=events)
    findings = list(cluster_checks.check_calls(data))
    assert [severity or "error" for _check, severity in failures(findings)] == wanted
    since = [line for finding in findings for line in finding.evidence if "since the previous audit" in line]
    assert bool(since) is (previous is not None)


@pytest.mark.parametrize(("before", "after", "wanted"), [(0, 0, []), (4, 4, ["info"]), (4, 5, ["error"])])
def test_conversions_that_failed(before: float, after: float, wanted: list[str]) -> None:
    data = cluster(CRD, counters_before={"conversions": before}, counters_after={"conversions": after})
    assert [severity or "error" for _check, severity in failures(cluster_checks.check_calls(data))] == wanted


def test_a_name_of_two_webhooks_is_only_likely() -> None:
    data = cluster(point(uid="1"), point(uid="2"), counters_before={}, counters_after={NAME: 1})
    assert {call.certainty for call in cluster_checks.check_calls(data)} == {"likely"}


def event(message: str, **fields: Any) -> dict[str, Any]:
    regarding = {"kind": "ReplicaSet", "namespace": "shop", "name": "web-1"}
    return {"message": message, "lastTimestamp": format_time(NOW), "involvedObject": regarding, **fields}


FAILED = 'Error creating: Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: EOF'
EVENTS: list[tuple[dict[str, Any], list[str]]] = [
    (event(FAILED), [NAME]),
    (event('Error creating: admission webhook "hook.example.com" denied the request'), []),
    (event(FAILED, lastTimestamp=format_time(NOW - DAY)), []),
    (event(FAILED, lastTimestamp=None, eventTime=format_time(NOW)), [NAME]),
    (event(FAILED, lastTimestamp=None), []),
    (event(FAILED, lastTimestamp=None, series={"lastObservedTime": format_time(NOW)}), [NAME]),
    ({}, []),
]


@pytest.mark.parametrize(("given", "wanted"), EVENTS)
def test_events_of_failed_calls(given: dict[str, Any], wanted: list[str]) -> None:
    found = list(object_parsing.find_failed_calls([given], NOW - timedelta(hours=1)))
    assert [call.webhook for call in found] == wanted


def test_a_stuck_request_has_its_diagnosis() -> None:
    request = AuditedObject("CertificateSigningRequest", "hook-1")
    diagnosis = Diagnosis(
        "signer-not-served", "It is not issued.", "likely", ("approved",), "Use another signer."
    )
    data = cluster(requests=(StuckRequest(request, diagnosis, NOW - DAY),), request_count=1)
    (finding,) = cluster_checks.check_requests(data)
    assert (finding.cause, finding.certainty, finding.breaks_at) == ("It is not issued.", "likely", NOW - DAY)
    assert finding.evidence == ("signer-not-served, Use another signer.", "approved")
    assert [request.status for request in cluster_checks.check_requests(cluster(request_count=3))] == ["pass"]
    assert list(cluster_checks.check_requests(cluster())) == []


def token(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{body}.signature"


BEGIN, END = NOW - DAY, NOW + DAY
LOGINS: list[tuple[dict[str, Any], Any]] = [
    ({"token": token(iat=BEGIN.timestamp(), exp=END.timestamp())}, END),
    ({"token": token(sub="x")}, None),
    ({"token": "opaque"}, None),
    ({"token": "a.b.c"}, None),
    ({"token": token(exp="soon")}, None),
    ({"token": token(exp=1e30)}, None),
    ({"token_file": "/var/run/token"}, None),
    ({"exec_plugin": ExecPlugin({})}, None),
    ({"client_certificate": leaf(not_after=END).pem}, END),
    ({"client_certificate": "damaged"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("given", "end"), LOGINS)
def test_the_end_of_the_login(given: dict[str, Any], end: Any) -> None:
    login = login_of(Connection("https://example.com", "a test", **given))
    assert login.not_after == end
    assert bool(login.reason) == (end is None)
    assert (login.kind == "client certificate") == ("client_certificate" in given)


@pytest.mark.parametrize(("left", "wanted"), [(100, []), (20, ["warning"]), (5, ["error"]), (-1, ["error"])])
def test_the_ends_of_login_and_api_server(left: int, wanted: list[str]) -> None:
    end = NOW + left * DAY
    served = leaf(not_before=NOW - 265 * DAY, not_after=end).pem
    data = cluster(login=Login("token", NOW - 265 * DAY, end), api_server=served)
    for rule in (cluster_checks.check_login, cluster_checks.check_api_server):
        found = list(rule(data))
        assert [severity for _check, severity in failures(found)] == wanted
        assert found[0].breaks_at == (end if wanted else None)


#: The start and the end of the certificate in days from now -> the predicate.
API_SERVER_DATES: list[tuple[int, int, str]] = [
    (-300, 5, "expires at"),
    (-300, -1, "has expired at"),
    (1, 300, "is valid only from"),
]


@pytest.mark.parametrize(("start", "end", "words"), API_SERVER_DATES)
def test_the_words_for_the_dates_of_the_certificate_of_the_api_server(
    start: int, end: int, words: str
) -> None:
    served = leaf(not_before=NOW + start * DAY, not_after=NOW + end * DAY)
    (finding,) = cluster_checks.check_api_server(cluster(api_server=served.pem))
    assert (finding.status, finding.severity) == ("fail", "error")
    assert f" of the API server {words} " in finding.cause


@pytest.mark.parametrize(("left", "wanted"), [(timedelta(hours=12), []), (timedelta(minutes=5), ["error"])])
def test_a_login_without_a_begin_ends_too(left: timedelta, wanted: list[str]) -> None:
    found = cluster_checks.check_login(cluster(login=Login("token", None, NOW + left)))
    assert [severity for _check, severity in failures(list(found))] == wanted


DECADE = authority("a cluster", not_before=NOW - 1000 * DAY, not_after=NOW + 2650 * DAY)
LAST_YEAR = authority("an old cluster", not_before=NOW - 3300 * DAY, not_after=NOW + 350 * DAY)
YOUNG = authority("a short cluster", not_before=NOW - 10 * DAY, not_after=NOW + 355 * DAY)
ENDING = authority("an ending cluster", not_before=NOW - 3640 * DAY, not_after=NOW + 10 * DAY)
SOON = authority("a cluster of a name", not_before=NOW - 3610 * DAY, not_after=NOW + 40 * DAY)
SUCCESSOR = authority(SOON.certificate.subject, not_before=NOW - 30 * DAY, not_after=NOW + 3620 * DAY)
RENEWED = authority(
    SOON.certificate.subject, key=SOON.key, not_before=NOW - 30 * DAY, not_after=NOW + 3620 * DAY
)
#: The published CAs, the CA that signed the certificate of the API server -> the severities.
CLUSTER_CAS: list[tuple[list[Issued], Issued, list[str]]] = [
    ([DECADE], DECADE, []),
    ([LAST_YEAR], LAST_YEAR, ["warning"]),
    ([ENDING], ENDING, ["error"]),
    ([YOUNG], YOUNG, []),  # a short life is a decision of the distribution
    ([DECADE, LAST_YEAR], LAST_YEAR, ["warning"]),
    ([DECADE, LAST_YEAR], DECADE, []),
    ([SOON, SUCCESSOR], SOON, ["warning"]),  # the successor does not sign yet
    ([SOON, SUCCESSOR], SUCCESSOR, []),
    ([SOON, RENEWED], SOON, []),  # the successor has the same key
    ([LAST_YEAR, DECADE], YOUNG, []),  # a load balancer has another certificate
]


@pytest.mark.parametrize(("published", "signer", "severities"), CLUSTER_CAS)
def test_the_end_of_the_ca_of_the_cluster(
    published: list[Issued], signer: Issued, severities: list[str]
) -> None:
    data = cluster(cluster_ca="".join(finding.pem for finding in published), api_server=leaf(signer).pem)
    found = list(cluster_checks.check_cluster_ca(data))
    assert failures(found) == [("cluster-ca-expiring", severity) for severity in severities]
    assert len(found) == 1


def test_an_intermediate_certificate_of_the_api_server_that_ends_is_named() -> None:
    middle = authority("middle", DECADE, not_before=NOW - 360 * DAY, not_after=NOW + 5 * DAY)
    data = cluster(cluster_ca=DECADE.pem, api_server=leaf(middle).pem + middle.pem)
    (finding,) = cluster_checks.check_api_server(data)
    assert (finding.severity, finding.breaks_at) == ("error", NOW + 5 * DAY)
    assert "CN=middle" in finding.cause
    assert failures(cluster_checks.check_cluster_ca(data)) == []


HAZARD_ROWS = {row.id: row for row in HAZARD_TABLE}
HAZARD = DetectedHazard(HAZARD_ROWS["two-controllers"], Finding(("a", "b"), "Remove one."))
HAZARDS: list[tuple[Any, list[str], list[str]]] = [
    (None, ["skip"], []),
    ((), ["pass"], []),
    ((HAZARD, replace(HAZARD, hazard=HAZARD_ROWS["kubespray-reverts"])), ["fail", "fail"], ["", "info"]),
]


@pytest.mark.parametrize(("hazards", "statuses", "severities"), HAZARDS)
def test_hazards_of_the_snapshot_controller(hazards: Any, statuses: list[str], severities: list[str]) -> None:
    found = list(cluster_checks.check_snapshot_controller(cluster(snapshot_hazards=hazards)))
    assert [finding.status for finding in found] == statuses
    assert [severity for _check, severity in failures(found)] == severities
    assert len({finding.fingerprint("c") for finding in found}) == len(found)


MANAGERS: list[tuple[dict[str, Any], str]] = [
    ({}, "unmanaged"),
    ({"managedFields": [{"manager": "kubectl"}]}, "unmanaged"),
    ({"managedFields": [{"manager": "certflow.kubernetes"}]}, "certflow.kubernetes"),
    ({"annotations": {"cert-manager.io/inject-ca-from": "shop/hook"}}, "cert-manager"),
    ({"annotations": {"cert-manager.io/inject-ca-from": "a/b", "meta.helm.sh/release-name": "x"}}, "cert-manager, Helm"),
    ({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "managedFields": [{"manager": "admissionsenforcer"}]}, "Helm, AKS Admissions Enforcer"),
]  # fmt: skip


@pytest.mark.parametrize(("metadata", "wanted"), MANAGERS)
def test_the_managers_of_an_object(metadata: dict[str, Any], wanted: str) -> None:
    assert manager_of(metadata) == wanted


def test_the_newest_events_of_failed_calls_are_shown() -> None:
    events = [replace(EVENT, regarding=f"Pod shop/web-{number}") for number in range(9)]
    (finding,) = cluster_checks.check_calls(
        cluster(point(), counters_before={}, counters_after={NAME: 1}, failed_calls=events)
    )
    shown = [line for line in finding.evidence if line.startswith("Event")]
    assert ["web-4" in shown[0], "web-8" in shown[-1], len(shown)] == [True, True, 5]


@pytest.mark.parametrize(("oldest", "count"), [(0, 1), (1, 0)])
def test_an_event_at_the_oldest_time_counts(oldest: int, count: int) -> None:
    event = {
        "message": 'failed calling webhook "hook.example.com": x',
        "lastTimestamp": format_time(NOW),
    }
    found = list(object_parsing.find_failed_calls([event], NOW + timedelta(seconds=oldest)))
    assert len(found) == count


@pytest.mark.parametrize(("after", "status"), [(0, "pass"), (1, "fail")])
def test_conversions_that_never_failed_pass(after: int, status: str) -> None:
    (finding,) = cluster_checks.check_calls(
        cluster(CRD, counters_before={"conversions": 0}, counters_after={"conversions": after})
    )
    assert finding.status == status
    (finding,) = cluster_checks.check_calls(cluster(CRD, counters_before={}, counters_after={}))
    assert finding.status == "pass"


def test_a_connection_without_a_certificate_is_skipped() -> None:
    assert [finding.status for finding in cluster_checks.check_api_server(cluster())] == ["skip"]


@pytest.mark.parametrize(("days", "wanted"), [(364, ["fail"]), (365, ["pass"])])
def test_a_ca_of_a_cluster_that_ends_within_a_year(days: int, wanted: list[str]) -> None:
    end = authority("a CA", not_before=NOW - 3000 * DAY, not_after=NOW + days * DAY)
    data = cluster(cluster_ca=end.pem, api_server=leaf(end, not_after=NOW + 300 * DAY).pem)
    assert [finding.status for finding in cluster_checks.check_cluster_ca(data)] == wanted
