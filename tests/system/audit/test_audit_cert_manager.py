# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit a cluster with the real webhook and cainjector of cert-manager: it is healthy, so no finding is above info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.audit.audit_rig import audit_as_auditor
from tests.support.waiting import wait_for
from tests.support.webhooks import cert_manager_install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

SECRET = f"/api/v1/namespaces/{cert_manager_install.NAMESPACE}/secrets/{cert_manager_install.NAME}-ca"
#: The webhook has a timeout of 30 s, and the first calls failed before it had started.
KNOWN = {"timeout-long", "calls-fail"}

pytestmark = pytest.mark.full  # its programs take two minutes to build


@pytest.fixture(scope="module")
def cert_manager(node: Cluster) -> Iterator[Cluster]:
    with cert_manager_install.installed(node):
        yield node


def findings(result: dict[str, Any], status: str) -> list[dict[str, Any]]:
    names = [
        cert_manager_install.NAME,
        *(definition["metadata"]["name"] for definition in cert_manager_install.definitions()),
    ]
    return [
        finding
        for finding in result["findings"]
        if finding["status"] == status and finding["object"]["name"] in names
    ]


def test_a_healthy_webhook_has_no_finding_above_info(cert_manager: Cluster) -> None:
    result = audit_as_auditor(cert_manager, include_passed=True)
    failed = findings(result, "fail")
    assert {finding["check"] for finding in failed} <= KNOWN, failed
    assert {finding["severity"] for finding in failed} == {"info"}
    passed = {finding["check"] for finding in findings(result, "pass")}
    assert {"ca-mismatch", "expired", "handshake-fails", "renewal-unmanaged", "crd-not-ready"} <= passed
    assert not [finding for finding in result["findings"] if finding["permissions"]]
    assert [finding for finding in result["findings"] if finding["status"] == "unknown"] == []


def test_a_new_ca_is_not_a_finding_after_cainjector_has_written_it(cert_manager: Cluster) -> None:
    """The webhook makes a new CA if its Secret is removed."""
    before = cert_manager.api("GET", SECRET)["data"]["tls.crt"]
    cert_manager.api("DELETE", SECRET)
    wait_for(lambda: new_ca(cert_manager, before))
    wait_for(lambda: severities(audit_as_auditor(cert_manager)) == {"info"})
    assert cert_manager_install.refuses(cert_manager)


def severities(result: dict[str, Any]) -> set[str]:
    return {finding["severity"] for finding in findings(result, "fail")}


def new_ca(cluster: Cluster, before: str) -> bool:
    selector = f"{SECRET.rpartition('/')[0]}?fieldSelector=metadata.name%3D{SECRET.rpartition('/')[2]}"
    items = cluster.api("GET", selector)["items"]
    return bool(items) and items[0].get("data", {}).get("tls.crt", before) != before


def test_the_cost_is_that_of_the_documentation(cert_manager: Cluster) -> None:
    """13 requests, and 2 for the only Service. The page of the checks tells about 8 MB."""
    traffic = audit_as_auditor(cert_manager)["traffic"]
    assert (traffic["requests"], traffic["handshakes"]) == (15, 1)
    assert 0 < traffic["bytes_received"] < 12 * 1024 * 1024
