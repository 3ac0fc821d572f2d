# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of the guide about repairs as printed: from an API server that refuses every Pod to a clean audit.

Substitution: the webhook's server is on this machine, outside of the cluster, so the audit reads addresses outside too.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import pages
from tests.support.bundle_rig import ca, pem
from tests.support.clusters import AdminApiError, pki
from tests.support.guide_commands import lay_out, shell
from tests.support.https_webhook import WebhookServer, allow
from tests.support.probe_rig import HOOKS
from tests.support.repair_rig import publish_as_istiod, withdraw
from tests.support.rig import encoded
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

GUIDE = pages.GUIDES / "guide_repair.rst"
NAMESPACE, NAME = "shop", "shop-policy"
VARIABLES = {
    "certflow_audit_options": {"probe_urls": True},
    "certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30},
}
UNTRUSTED = "x509: certificate signed by unknown authority"


def configuration(port: int) -> dict[str, Any]:
    """Return the webhook of the guide, which is called for each Pod of its namespace, with the bundle of another CA."""
    service = {"namespace": NAMESPACE, "name": NAME, "port": port, "path": "/validate"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    webhook = {
        "name": f"{NAME}.example.com",
        "clientConfig": {"service": service, "caBundle": encoded(pem("other"))},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    return {"metadata": {"name": NAME}, "webhooks": [webhook]}


@pytest.fixture
def shop(fleet: Fleet) -> Iterator[Cluster]:
    """A cluster whose API server refuses every Pod of the namespace of the guide. The CA of the webhook is published."""
    cluster = fleet["onprem"]
    server = WebhookServer(allow)
    server.present(pki.issue(ca("good"), "hook", names=(f"{NAME}.{NAMESPACE}.svc",)))
    server.serve()
    namespace = f"/api/v1/namespaces/{NAMESPACE}"
    service = {"metadata": {"name": NAME}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    publish_as_istiod(cluster, pem("good"))
    try:
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        cluster.api("POST", f"{namespace}/services", service)
        give_account(cluster, namespace)
        cluster.api("POST", f"{HOOKS}?fieldManager=kubectl-create", configuration(server.port))
        yield cluster
    finally:
        for path in (f"{HOOKS}/{NAME}", namespace):
            cluster.api("DELETE", path)
        withdraw(cluster)
        server.close()


def give_account(cluster: Cluster, namespace: str) -> None:
    """Create the ServiceAccount of Pods, unless a controller has."""
    try:
        cluster.api("POST", f"{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    except AdminApiError as error:
        if error.status != 409:
            raise


@pytest.fixture
def place(shop: Cluster, tmp_path: Path) -> Path:
    """A directory with the files of the guide, as the home directory of its reader."""
    lay_out(GUIDE, tmp_path)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "fleet.yml").write_text(shop.kubeconfig.read_text())
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump(VARIABLES))
    return tmp_path


def test_the_guide_as_printed(shop: Cluster, place: Path) -> None:
    asked, audit, plan, repair, again, after, policy, ignore, fail = pages.commands(GUIDE)
    # The API server follows a new configuration after a moment.
    wait_for(lambda: UNTRUSTED in answer(shop, place, asked, 1))
    shell(shop.kubeconfig, place, audit)
    before, (check,) = answer(shop, place, asked, 1), failed_checks(place / "audit.json")
    shell(shop.kubeconfig, place, plan)
    assert states(place / "plan.json") == ["planned"]
    assert UNTRUSTED in answer(shop, place, asked, 1)
    shell(shop.kubeconfig, place, repair)
    assert states(place / "repair.json") == ["repaired"]
    wait_for(lambda: "created" in answer(shop, place, again))
    served = answer(shop, place, again).strip()
    shell(shop.kubeconfig, place, after)
    left = failed_checks(place / "after.json")
    x509 = before[before.index("x509: ") :].strip()
    assert results("add-ca") == [f"``{check}``", f"``{x509}``", f"``{served}``", ", ".join(left) or "none"]
    gone = json.loads((place / "after.json").read_text())["comparison"]["gone"]
    assert check in {row["check"] for row in gone if row["object"]["name"] == NAME}

    # The webhook breaks again, and the reader lets the API server continue without it.
    found = shop.api("GET", f"{HOOKS}/{NAME}")
    found["webhooks"][0]["clientConfig"]["caBundle"] = encoded(pem("other"))
    shop.api("PUT", f"{HOOKS}/{NAME}?fieldManager=kubectl-edit", found)
    wait_for(lambda: UNTRUSTED in answer(shop, place, asked, 1))
    assert shell(shop.kubeconfig, place, policy) == "Fail"
    shell(shop.kubeconfig, place, ignore)
    wait_for(lambda: "created" in answer(shop, place, asked, None))
    shell(shop.kubeconfig, place, fail)
    wait_for(lambda: UNTRUSTED in answer(shop, place, asked, None))


def results(kind: str) -> list[str]:
    """Return the cells of the guide's table of results for a kind of repair."""
    lines = GUIDE.read_text().partition("second audit\n")[2].partition(f"   * - ``{kind}``\n")[2].splitlines()
    return [
        line.partition("- ")[2]
        for line in itertools.takewhile(lambda line: line.startswith("     - "), lines)
    ]


def answer(cluster: Cluster, place: Path, command: str, status: int | None = 0) -> str:
    """Return the answer of the API server to a command. status: None for any status."""
    return shell(
        cluster.kubeconfig, place, command if status is not None else f"{command} || true", status=status or 0
    )


def failed_checks(report: Path) -> set[str]:
    """Return the checks that fail for the webhook of the guide."""
    (cluster,) = json.loads(report.read_text())["clusters"]
    rows = [
        row for row in cluster["findings"] if row["object"].get("name") == NAME and row["status"] == "fail"
    ]
    return {row["check"] for row in rows if row["severity"] == "error"}


def states(report: Path) -> list[str]:
    """Return the states of the repairs of the webhook of the guide, without faults of kinds that the guide does not name."""
    (cluster,) = json.loads(report.read_text())["clusters"]
    rows = [row for row in cluster["repairs"] if row["code"] != "kind-not-named"]
    return [row["state"] for row in rows if row["object"]["name"] == NAME]
