# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of the guide about repairs as printed: from an API server that refuses every Pod to a clean audit.

Substitution: the webhook's server is on this machine, outside of the cluster, so the audit reads addresses outside too.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.clusters import AdminApiError, pki
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out, shell
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects, node_webhook
from tests.support.webhooks.bundle_rig import ca, pem
from tests.support.webhooks.https_webhook import OneRequestHandler, WebhookServer, allow
from tests.support.webhooks.node_webhook import NodeWebhook
from tests.support.webhooks.probe_rig import API_SERVICES, HOOKS
from tests.support.webhooks.repair_rig import publish_as_istiod, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

GUIDE = page_files.GUIDES / "guide_repair.rst"
NAMESPACE, NAME = "shop", "shop-policy"
VARIABLES = {
    "certflow_audit_options": {"probe_urls": True},
    "certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30},
}
NAMESPACES = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"
UNTRUSTED = "x509: certificate signed by unknown authority"


def configuration(port: int) -> dict[str, Any]:
    """Return the webhook of the guide, which is called for each Pod of its namespace, with the bundle of another CA."""
    service = called_objects.service(NAMESPACE, NAME, port=port, path="/validate")
    webhook = called_objects.webhook(
        f"{NAME}.example.com",
        {**service, "caBundle": encoded(pem("other"))},
        called_objects.rule("pods"),
        **called_objects.of_namespace(NAMESPACE),
    )
    return called_objects.configuration(NAME, webhook)


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
    asked, audit, plan, repair, again, after, policy, ignore, fail = page_files.commands(GUIDE)
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
    write_bundle(shop, pem("other"))
    wait_for(lambda: UNTRUSTED in answer(shop, place, asked, 1))
    assert shell(shop.kubeconfig, place, policy) == "Fail"
    shell(shop.kubeconfig, place, ignore)
    wait_for(lambda: "created" in answer(shop, place, asked, None))
    shell(shop.kubeconfig, place, fail)
    wait_for(lambda: UNTRUSTED in answer(shop, place, asked, None))


@pytest.mark.full  # 20 seconds, and the start of a node
def test_the_commands_of_the_guide_for_pods(node: Cluster, tmp_path: Path) -> None:
    """The webhook of the guide in pods. Its owner renewed the Secret and the bundle."""
    webhook = NodeWebhook(NAME, NAMESPACE, reload="never")
    old, new = pki.make_ca("the CA before"), pki.make_ca("the CA after")
    pair = pki.issue(old, webhook.server_name, names=(webhook.server_name,))
    # The namespace of the test before may still be ending.
    wait_for(
        lambda: NAMESPACE not in {row["metadata"]["name"] for row in node.api("GET", NAMESPACES)["items"]}
    )
    node_webhook.deploy(node, webhook)
    node_webhook.create_secret(node, webhook, pair)
    body = configuration(443)
    # The new pods of the webhook itself do not have this label.
    body["webhooks"][0]["objectSelector"] = {"matchLabels": {"run": "probe"}}
    body["webhooks"][0]["clientConfig"]["caBundle"] = encoded(old.certificate_pem.decode())
    with contextlib.ExitStack() as stack:
        stack.callback(node_webhook.remove, node, webhook)
        node.api("POST", f"{HOOKS}?fieldManager=kubectl-create", body)
        node_webhook.wait_until_ready(node, webhook)
        secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}"
        data = webhook.secret(node_webhook.certificate(webhook, new))["data"]
        node.api("PATCH", secret, {"data": data}, MERGE)
        write_bundle(node, new.certificate_pem.decode())
        lay_out_for(node, tmp_path, "reload")
        cells = carried_out(
            node, tmp_path, NAME, lambda: answer(node, tmp_path, page_files.commands(GUIDE)[0], None)
        )
    assert results("reload") == cells


@pytest.mark.full  # 20 seconds
def test_the_commands_of_the_guide_for_an_aggregated_api(shop: Cluster, tmp_path: Path) -> None:
    """The API server answers the same before and after. After the repair, it refuses the certificate of another server."""
    group = "shop.example.com"
    name, path = f"v1.{group}", f"/apis/{group}/v1"
    server = WebhookServer(lambda _asked: (200, {"kind": "APIResourceList"}))
    server.present(pki.issue(ca("good"), "hook", names=(f"{NAME}.{NAMESPACE}.svc",)))
    server.RequestHandlerClass = OneRequestHandler
    server.serve()
    service = {"namespace": NAMESPACE, "name": NAME, "port": server.port}
    priorities = {"groupPriorityMinimum": 10, "versionPriority": 10}
    spec = {"group": group, "version": "v1", "service": service, "insecureSkipTLSVerify": True, **priorities}
    lay_out_for(shop, tmp_path, "secure-apiservice")
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        body = {"metadata": {"name": name}, "spec": spec}
        shop.api("POST", f"{API_SERVICES}?fieldManager=kubectl-create", body)
        # The Service of the test is an external name, which may lead to other machines.
        variables = tmp_path / "group_vars" / "all.yml"
        accept = {"certflow_repair_accept": [{"unseen": [f"APIService/{name}"]}]}
        variables.write_text(yaml.safe_dump({**yaml.safe_load(variables.read_text()), **accept}))
        stack.callback(shop.api, "DELETE", f"{API_SERVICES}/{name}")
        ask = functools.partial(answer, shop, tmp_path, f"kubectl get --raw {path}", None)
        wait_for(lambda: "APIResourceList" in ask())
        cells = carried_out(shop, tmp_path, name, lambda: str(json.loads(ask())["kind"]))
        assert results("secure-apiservice") == cells
        server.present(pki.issue(pki.make_ca("stranger"), "hook", names=(f"{NAME}.{NAMESPACE}.svc",)))
        wait_for(lambda: "APIResourceList" not in ask())


def carried_out(cluster: Cluster, place: Path, name: str, ask: Callable[[], str]) -> list[str]:
    """Audit, plan, repair and audit again by the commands of the guide. Return the cells of the table of results."""
    _ask, audit, plan, repair, _again, after, *_others = page_files.commands(GUIDE)
    shell(cluster.kubeconfig, place, audit)
    before = fault_in(ask())
    shell(cluster.kubeconfig, place, plan)
    assert set(states(place / "plan.json", name)) == {"planned"}
    shell(cluster.kubeconfig, place, repair)
    assert set(states(place / "repair.json", name)) == {"repaired"}
    (row,) = json.loads((place / "repair.json").read_text())["clusters"]
    checks = sorted({entry["check"] for entry in row["repairs"] if entry["object"]["name"] == name})
    served = fault_in(ask())
    shell(cluster.kubeconfig, place, after)
    left = failed_checks(place / "after.json", name)
    return [
        ", ".join(f"``{check}``" for check in checks),
        f"``{before}``",
        f"``{served}``",
        ", ".join(left) or "none",
    ]


def fault_in(answer: str) -> str:
    """Return the fault of a certificate in an answer without its times, or the whole answer."""
    return answer[max(answer.find("x509: "), 0) :].strip().partition(": current time")[0]


def lay_out_for(cluster: Cluster, place: Path, kind: str) -> None:
    """Write the files of the guide, and variables for one kind of repair."""
    lay_out(GUIDE, place)
    (place / "group_vars" / "clusters.yml").unlink()
    (place / ".kube").mkdir()
    (place / ".kube" / "fleet.yml").write_text(cluster.kubeconfig.read_text())
    own = {"certflow_repair_kinds": [kind]}
    (place / "group_vars" / "all.yml").write_text(yaml.safe_dump({**VARIABLES, **own}))


def write_bundle(cluster: Cluster, text: str) -> None:
    configuration = cluster.api("GET", f"{HOOKS}/{NAME}")
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = encoded(text)
    cluster.api("PUT", f"{HOOKS}/{NAME}?fieldManager=kubectl-edit", configuration)


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


def failed_checks(report: Path, name: str = NAME) -> set[str]:
    """Return the checks that find an error about an object."""
    (cluster,) = json.loads(report.read_text())["clusters"]
    rows = [
        row for row in cluster["findings"] if row["object"].get("name") == name and row["status"] == "fail"
    ]
    return {row["check"] for row in rows if row["severity"] == "error"}


def states(report: Path, name: str = NAME) -> list[str]:
    """Return the states of the repairs of an object."""
    (cluster,) = json.loads(report.read_text())["clusters"]
    return [row["state"] for row in cluster["repairs"] if row["object"]["name"] == name]
