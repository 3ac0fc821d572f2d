# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about the settings of admission webhooks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.webhook_settings import (
    check_settings,
)

from tests.unit.plugins.module_utils._audit.world import RULE, cluster, failures, point, webhook

pytestmark = pytest.mark.quick

EVERY: dict[str, Any] = {"namespaceSelector": {}}
IGNORE: dict[str, Any] = {"failurePolicy": "Ignore"}
SHOP: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
NOT_SYSTEM: dict[str, Any] = {
    "namespaceSelector": {
        "matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", "kube-node-lease"],
            }
        ]
    }
}
WIDE = {**RULE, "apiGroups": ["*"], "resources": ["*/*"], "operations": ["CREATE", "UPDATE"]}


def rules(named: tuple[str, str], *operations: str, **fields: Any) -> dict[str, Any]:
    """Return a webhook for a resource of a group."""
    group, resource = named
    rule = {**RULE, "apiGroups": [group], "resources": [resource], "operations": list(operations)}
    return {**webhook(), **EVERY, "rules": [rule], **fields}


LEASES = ("coordination.k8s.io", "leases")
TOKENS = ("authentication.k8s.io", "tokenreviews")
#: A webhook -> the findings. The version of the API server is v1.36.3.
SETTINGS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (webhook(), []),
    (rules(LEASES, "UPDATE", **IGNORE, timeoutSeconds=4), [("slow-leases", "warning")]),
    (rules(LEASES, "UPDATE", **IGNORE), [("slow-leases", "warning")]),
    (rules(LEASES, "UPDATE", **IGNORE, timeoutSeconds=3), []),
    (rules(LEASES, "CREATE", **IGNORE), []),
    (rules(LEASES, "UPDATE", **IGNORE, **NOT_SYSTEM), []),
    (rules(LEASES, "UPDATE"), []),  # control-plane-blocked covers it
    (rules(TOKENS, "CREATE"), [("virtual-resources", "warning")]),
    (rules(TOKENS, "CREATE", **SHOP), [("virtual-resources", "warning")]),  # it has no namespace
    (rules(TOKENS, "CREATE", **IGNORE), []),
    (rules(("authorization.k8s.io", "*"), "*"), [("virtual-resources", "warning")]),
    (rules(("example.com", "*"), "*"), []),
    (webhook(timeoutSeconds=10), []),
    (webhook(timeoutSeconds=11), [("timeout-long", "")]),
    (
        {**webhook(**IGNORE, **EVERY), "rules": [WIDE]},
        [("matches-everything", "info"), ("slow-leases", "warning")],
    ),
    ({**webhook(**IGNORE, **EVERY, timeoutSeconds=3), "rules": [WIDE]}, [("matches-everything", "info")]),
    ({**webhook(), "rules": [WIDE]}, [("virtual-resources", "warning")]),  # it has a namespaceSelector
    ({**webhook(**EVERY, matchConditions=[{"name": "some"}]), "rules": [WIDE]}, []),
]


@pytest.mark.parametrize(("given", "wanted"), SETTINGS)
def test_a_setting_is_a_hazard_or_not(given: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    found = check_settings(cluster(point(webhook=given), version="v1.36.3"))
    by_check = dict(failures(found))
    assert set(by_check) == {check for check, _severity in wanted}
    assert all(by_check[check] in ("", severity) for check, severity in wanted)


def test_a_strict_webhook_on_everything_is_a_warning() -> None:
    given = {**webhook(**EVERY), "rules": [{**WIDE, "operations": ["CONNECT"]}]}
    found = check_settings(cluster(point(webhook=given), version="v1.36.3"))
    assert failures(found) == [("matches-everything", "warning")]


@pytest.mark.parametrize(
    ("version", "status"), [("v1.36.9", "fail"), ("v1.37.0-eks-1", "skip"), ("v1.40.1", "skip"), ("", "fail")]
)
def test_newer_api_servers_do_not_ask_about_virtual_resources(version: str, status: str) -> None:
    found = check_settings(cluster(point(webhook=rules(TOKENS, "CREATE")), version=version))
    assert [finding.status for finding in found if finding.check == "virtual-resources"] == [status]


@pytest.mark.parametrize("fields", [{"matchConditions": [{"name": "some"}]}, NOT_SYSTEM])
def test_an_undecided_match_is_unknown(fields: dict[str, Any]) -> None:
    called = point(webhook=rules(LEASES, "UPDATE", **IGNORE, **fields))
    found = check_settings(cluster(called, namespaces=None))
    source = "match-conditions" if "matchConditions" in fields else "namespaces"
    leases = [(finding.status, finding.source) for finding in found if finding.check == "slow-leases"]
    assert leases == [("unknown", source)]
