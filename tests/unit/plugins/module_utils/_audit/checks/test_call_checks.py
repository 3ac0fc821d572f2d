# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about what the API server calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.call_checks import check_point
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.cluster_data import (
    AGGREGATION,
    CONVERSION,
    ApiServiceState,
    Backend,
    CallPoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.finding import FAIL, PASS, SKIP

from tests.support.authority import DAY, NOW
from tests.unit.plugins.module_utils._audit.world import (
    GOOD,
    OTHER_CA,
    cluster,
    config,
    failures,
    leaf,
    point,
    served,
    silent,
    webhook,
)

pytestmark = pytest.mark.quick

HEALTHY = Backend(ready=1, chains=(served(GOOD),))
EXPIRING = leaf(not_after=NOW + 5 * DAY, not_before=NOW - 360 * DAY)
URL = config("", url="hooks.example.com")
TWO = Backend(ready=2, chains=(served(GOOD), served(leaf(), pod="hook-2")))
SAME = Backend(ready=2, chains=(served(GOOD), served(GOOD, pod="hook-2")))
HALF = Backend(ready=2, chains=(served(GOOD), served(leaf(OTHER_CA), pod="hook-2")))
CRD = point(kind="CustomResourceDefinition", caller=CONVERSION)
API = point(kind="APIService", caller=AGGREGATION)

ROWS: list[tuple[str, CallPoint, Backend, list[str]]] = [
    ("healthy", point(), HEALTHY, []),
    ("no Service", point(), Backend(exists=False), ["service-missing"]),
    ("no port", point(), Backend(has_port=False), ["port-missing"]),
    ("no endpoint", point(), Backend(), ["no-endpoints"]),
    ("not readable", point(), Backend(is_known=False), []),
    ("no bundle", point(config("")), HEALTHY, ["bundle-empty"]),
    ("a placeholder", point(config("\n")), HEALTHY, ["bundle-broken"]),
    ("no certificate in the bundle", point(config("none")), HEALTHY, ["bundle-broken"]),
    ("another CA", point(config(OTHER_CA.pem)), HEALTHY, ["ca-mismatch"]),
    ("one of two endpoints", point(), HALF, ["ca-mismatch", "endpoints-differ"]),
    ("two certificates of one CA", point(), TWO, ["endpoints-differ"]),
    ("two endpoints with one certificate", point(), SAME, []),
    ("no TLS", point(), Backend(ready=1, chains=(silent(),)), ["handshake-fails"]),
    ("a blind run", point(), Backend(ready=1, chains=(silent(is_blind=True),)), []),
    ("a URL", point(URL), Backend(is_external=True, ready=1), ["endpoint-external"]),
    ("an ExternalName", point(), Backend(is_external=True, ready=1), ["endpoint-external"]),
    ("a conversion", CRD, HEALTHY, []),
    ("a dead conversion", CRD, Backend(exists=False), ["conversion-dead"]),
    (
        "a conversion with another CA",
        CRD,
        Backend(ready=1, chains=(served(leaf(OTHER_CA)),)),
        ["conversion-dead"],
    ),
    ("a conversion that ends soon", CRD, Backend(ready=1, chains=(served(EXPIRING),)), ["expiring"]),
    ("an API", API, HEALTHY, []),
    (
        "an API without verification",
        replace(API, is_verified=False, config=config("")),
        HEALTHY,
        ["apiservice-insecure"],
    ),
]


@pytest.mark.parametrize(
    ("called", "backend", "wanted"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_each_fault_is_one_finding(called: CallPoint, backend: Backend, wanted: list[str]) -> None:
    data = cluster(called, backend=backend)
    assert [check for check, _severity in failures(check_point(data, called))] == wanted


STATES = [
    (True, HEALTHY, []),
    (True, Backend(exists=False), ["service-missing"]),
    (False, Backend(exists=False), ["apiservice-down"]),
]


@pytest.mark.parametrize(("is_available", "backend", "wanted"), STATES)
def test_an_api_that_is_down_explains_itself(is_available: bool, backend: Backend, wanted: list[str]) -> None:
    state = ApiServiceState(API.object, is_available, "ServiceNotFound: no Service")
    findings = list(check_point(cluster(API, backend=backend, api_services=(state,)), API))
    assert [check for check, _severity in failures(findings)] == wanted
    down = [one for one in findings if one.check == "apiservice-down"]
    assert [line.partition(":")[0] for one in down for line in one.evidence] == (
        [] if is_available else ["service-missing"]
    )


def test_a_pass_says_what_a_port_forward_does_not_show() -> None:
    passed = {one.check: one for one in check_point(cluster(point()), point()) if one.status == PASS}
    for check in ("no-endpoints", "ca-mismatch", "endpoints-differ", "handshake-fails"):
        assert "network path" in passed[check].evidence[0]


def test_what_does_not_apply_is_skipped() -> None:
    found = check_point(cluster(point(), backend=Backend(exists=False)), point())
    assert [one.check for one in found if one.status == SKIP] == ["port-missing", "no-endpoints"]


def test_nothing_passes_that_was_not_read() -> None:
    found = check_point(cluster(point(), backend=Backend(is_known=False)), point())
    seen: set[Any] = {one.check for one in found}
    assert seen == {"bundle-empty", "bundle-broken", "ca-expired", "ca-expiring"}  # the bundle was read


def test_the_evidence_has_a_line_for_each_endpoint() -> None:
    found = list(check_point(cluster(point(), backend=HALF), point()))
    (finding,) = [one for one in found if one.check == "ca-mismatch" and one.evidence]
    assert finding.evidence[0].startswith("pod shop/hook-2, port 8443: ")


RULES = [
    (webhook("pods", "pods/status"), "Fail", "CREATE of pods, pods/status"),
    (webhook("deployments", group="apps", failurePolicy="Ignore"), "Ignore", "CREATE of deployments.apps"),
    (webhook(*"abcdefg"), "Fail", "CREATE of a, b, c, d, e, and 2 more"),
    (
        {**webhook(), "rules": [{"operations": ["*"], "apiGroups": ["*"], "resources": ["*"]}]},
        "Fail",
        "* of *.*",
    ),
    ({"rules": []}, "Fail", "nothing"),
]


@pytest.mark.parametrize(("given", "policy", "matched"), RULES)
def test_the_evidence_says_what_the_webhook_matches(given: dict[str, Any], policy: str, matched: str) -> None:
    called = point(webhook=given)
    found = [
        one
        for one in check_point(cluster(called, backend=Backend(exists=False)), called)
        if one.status == FAIL
    ]
    assert found[0].evidence[-1] == f"it matches {matched}"
    assert found[0].evidence[-2].startswith(f"failurePolicy {policy}: ")
