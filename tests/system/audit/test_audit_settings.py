# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit real clusters for hazards: settings of webhooks, renewal, definitions, the clock. Each is found, and nothing beside it."""

from __future__ import annotations

import base64
import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION

from tests.support import clusters
from tests.support.audit.audit_rig import DAY, NOW, AuditRig, checks, failed, leaf, old_ca
from tests.support.clusters.client import AdminClient
from tests.support.operations import operate
from tests.support.waiting import wait_for
from tests.support.webhooks.probe_rig import DEFINITIONS, HOOKS
from tests.system.fault_injection import proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet

ROOT_CA = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"
HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


def rule(group: str, resource: str, *operations: str, versions: tuple[str, ...] = ("*",)) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": list(versions),
        "operations": list(operations),
        "resources": [resource],
    }


EVERYWHERE: dict[str, Any] = {"namespaceSelector": {}, "objectSelector": {}}
IGNORE: dict[str, Any] = {"failurePolicy": "Ignore"}
LEASES = [rule("coordination.k8s.io", "leases", "UPDATE")]
TOKENS = [rule("authentication.k8s.io", "tokenreviews", "CREATE")]
WIDE = [rule("*", "*/*", "CONNECT")]
#: (check, severity), the settings that have the hazard, and similar settings without it. The webhooks answer.
SETTINGS: list[tuple[str, str, dict[str, Any], list[dict[str, Any]]]] = [
    ("timeout-long", "info", {"timeoutSeconds": 11}, [{"timeoutSeconds": 10}]),
    (
        "matches-everything",
        "warning",
        {**EVERYWHERE, "rules": WIDE},
        [{"rules": WIDE}, {**EVERYWHERE, "rules": [rule("example.com", "*/*", "CONNECT")]}],
    ),
]


@pytest.fixture(scope="module")
def settings(rig: AuditRig) -> dict[str, Any]:
    """Return the audit of all settings together."""
    for check, _severity, hazard, others in SETTINGS:
        rig.hook(check, **hazard)
        for number, other in enumerate(others):
            rig.hook(f"{check}-not-{number}", **other)
    return rig.audit()


@pytest.mark.parametrize("case", SETTINGS, ids=lambda case: case[0])
def test_a_setting_is_found_and_nothing_else(
    rig: AuditRig, settings: dict[str, Any], case: tuple[str, str, dict[str, Any], list[dict[str, Any]]]
) -> None:
    check, severity, _hazard, others = case
    found = failed(settings, f"{check}-{rig.name}", with_info=True)
    names = {(finding["check"], finding["severity"]) for finding in found}
    assert names == {(check, severity)}
    for number, _other in enumerate(others):
        name = f"{check}-not-{number}-{rig.name}"
        assert checks(settings, name, with_info=True) == []


IN_FILE = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guard.static.k8s.io}
webhooks:
  - name: guard.certflow.test
    clientConfig: {url: "https://127.0.0.1:1/"}
    rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
    failurePolicy: Ignore
    sideEffects: None
    admissionReviewVersions: [v1]
"""
OF_FILES = """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
  - name: ValidatingAdmissionWebhook
    configuration:
      apiVersion: apiserver.config.k8s.io/v1
      kind: WebhookAdmissionConfiguration
      staticManifestsDir: DIRECTORY
"""


def test_webhooks_from_files_are_reported(
    rig: AuditRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API does not show them, so only the metrics do. Their names in the metrics need no suffix."""
    assert checks(rig.audit(), "kube-apiserver", with_info=True) == []
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "guard.yaml").write_text(IN_FILE)
    (tmp_path / "admission.yaml").write_text(OF_FILES.replace("DIRECTORY", str(tmp_path / "manifests")))
    row = clusters.PROFILES["onprem"]
    flag = f"--admission-control-config-file={tmp_path / 'admission.yaml'}"
    monkeypatch.setitem(clusters.PROFILES, "onprem", replace(row, apiserver=(*row.apiserver, flag)))
    with clusters.running({"files": "onprem"}) as fleet:
        result = operate(OPERATION, {"kubeconfig": str(fleet["files"].kubeconfig)})
        assert not fleet["files"].api("GET", HOOKS)["items"]
    (finding,) = [finding for finding in result["findings"] if finding["object"]["name"] == "kube-apiserver"]
    assert (finding["check"], finding["severity"]) == ("webhook-in-file", "info")
    assert finding["evidence"] == ["ValidatingAdmissionWebhook"]


def etcd(rig: AuditRig, call: str, body: dict[str, str]) -> dict[str, Any]:
    folder = rig.cluster.directory / "pki"
    client = AdminClient(
        f"https://127.0.0.1:{rig.cluster._ports.etcd}",
        folder / "etcd-ca.crt",
        folder / "etcd.crt",
        folder / "etcd.key",
    )
    return client.api("POST", f"/v3/kv/{call}", body)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Renewal


def test_a_certificate_that_only_a_person_renews(rig: AuditRig) -> None:
    hook, query = "renewal-unmanaged", "?fieldManager=kubectl-create"
    names = [
        rig.hook(hook, query=query),
        rig.hook("renewed", query="?fieldManager=an-operator"),
        rig.hook("injected", query=query, metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
    ]
    port = rig.serve(leaf(rig.server_name, end=NOW + 3000 * DAY))
    names.append(rig.hook("long", query=query, port=port))
    result = rig.audit()
    assert [checks(result, name) for name in names] == [[hook], [], [], []]


# CustomResourceDefinitions


def definition(group: str, plural: str, *versions: tuple[str, bool, bool]) -> dict[str, Any]:
    """Return a definition of the kind Widget. versions: name, served, storage."""
    schema = {"openAPIV3Schema": {"type": "object"}}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": plural, "kind": "Widget"},
            "versions": [
                {"name": name, "served": served, "storage": storage, "schema": schema}
                for name, served, storage in versions
            ],
        },
    }


def test_definitions_with_old_versions_and_with_other_names(rig: AuditRig) -> None:
    group = f"w.{rig.name}.certflow.test"
    rig.make(DEFINITIONS, definition(group, "widgets", ("v1beta1", True, True)))
    path = f"{DEFINITIONS}/widgets.{group}"
    wait_for(lambda: rig.cluster.api("GET", path)["status"].get("storedVersions"))
    assert checks(rig.audit(), f"widgets.{group}", with_info=True) == []
    newer = definition(group, "widgets", ("v1beta1", False, False), ("v1", True, True))
    patch = {"spec": {"versions": newer["spec"]["versions"]}}
    rig.cluster.api("PATCH", path, patch, "application/merge-patch+json")
    rig.make(DEFINITIONS, definition(group, "gadgets", ("v1", True, True)))
    wait_for(lambda: len(rig.cluster.api("GET", path)["status"]["storedVersions"]) == 2)
    wait_for(lambda: checks(rig.audit(), f"gadgets.{group}") == ["crd-not-ready"])
    result = rig.audit()
    assert checks(result, f"widgets.{group}", with_info=True) == ["stored-versions"]
    (finding,) = failed(result, f"gadgets.{group}")
    assert any("NamesAccepted" in line for line in finding["evidence"])


# The cluster


def test_the_ca_of_the_cluster(rig: AuditRig) -> None:
    """A proxy changes the CA that the API server publishes."""
    usual = rig.audit()
    front = proxy.Proxy(rig.cluster)

    def publish(exchange: proxy.Exchange) -> None:
        if exchange.path != ROOT_CA:
            return exchange.pass_on()
        return exchange.say(
            200, {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": old_ca(100).pem}}
        )

    front.inject(lambda _number: publish)
    try:
        result = rig.audit(kubeconfig=rig.proxied(front.url))
    finally:
        front.close()
    new = prints(result) - prints(usual)
    found = {
        finding["check"]: finding["severity"]
        for finding in result["findings"]
        if finding["fingerprint"] in new
    }
    assert found == {"cluster-ca-expiring": "warning"}


def prints(result: dict[str, Any]) -> set[str]:
    return {finding["fingerprint"] for finding in result["findings"] if finding["status"] == "fail"}
