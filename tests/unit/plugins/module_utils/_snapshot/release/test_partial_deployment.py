# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a Deployment are merged, or refused. tests/system/upgrade/test_partial_deployment.py compares the merge with the API server's."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import partial_deployment

from tests.support.failures import fails
from tests.support.upgrade.partial_deployments import INVALID, MERGED, NAME, base, of_container, of_pods

LABELS = "spec.template.metadata.labels"
PODS = "spec.template.spec"


def labelled(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"metadata": {"labels": {name: "x"}}}}}


# The option, its value, and names in the refusal.
REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("controller", {"replicas": 2}, ("controller", "replicas", "spec")),
    ("controller", {"kind": "Deployment"}, ("kind",)),
    ("controller", {"status": {}}, ("status",)),
    ("controller", {"metadata": {"name": "x"}}, ("metadata.name",)),
    ("controller", {"metadata": {"namespace": "x"}}, ("metadata.namespace",)),
    ("controller", {"metadata": {"finalizers": ["x"]}}, ("metadata.finalizers",)),
    ("controller", {"spec": {"selector": {"matchLabels": {}}}}, ("spec.selector",)),
    ("controller", {"spec": {"template": {"metadata": {"name": "x"}}}}, ("spec.template.metadata.name",)),
    ("controller", labelled("app.kubernetes.io/version"), (f"{LABELS}.app.kubernetes.io/version",)),
    ("webhook", labelled("certflow.kubernetes/port"), (f"{LABELS}.certflow.kubernetes/port",)),
    ("controller", of_container(image="x"), ("image_registry", "digests")),
    ("controller", of_container(args=[]), ("controller_arguments",)),
    ("webhook", of_container(args=[]), ("webhook_arguments",)),
    ("controller", of_container(command=None), ("spec.template.spec.containers.command",)),
    ("controller", of_pods(initContainers=[{"name": "a", "restartPolicy": "Always"}]), ("restartPolicy",)),
    ("webhook", of_pods(hostNetwork=True), ("webhook_host_network",)),
    ("controller", {"$patch": "delete"}, ("$patch",)),
    ("controller", of_pods(**{"$setElementOrder/containers": []}), ("$setElementOrder/containers",)),
    ("controller", {"spec": []}, ("spec",)),
    ("controller", {"metadata": {"labels": ["x"]}}, ("metadata.labels",)),
    ("controller", of_pods(containers={"name": "x"}), ("spec.template.spec.containers",)),
    ("controller", of_container(env={"A": "b"}), ("spec.template.spec.containers.env",)),
    ("controller", of_container(ports=["8443"]), ("spec.template.spec.containers.ports",)),
    ("controller", {"metadata": {"labels": {"env": ["prod"]}}}, ("metadata.labels.env",)),
    ("controller", {"metadata": {"labels": {"a.example.com/b": 1}}}, ("metadata.labels.a.example.com/b",)),
    ("controller", {"metadata": {"annotations": {"ports": ["80"]}}}, ("metadata.annotations.ports",)),
    ("controller", {"metadata": {"annotations": ["x"]}}, ("metadata.annotations",)),
    ("webhook", {"spec": {"template": {"metadata": {"annotations": {"a": {"b": "c"}}}}}}, ("spec.template.metadata.annotations.a",)),
    ("controller", of_pods(containers=[{"name": ["x"]}]), (f"{PODS}.containers.name",)),
    ("controller", of_container(env=[{"name": ["x"]}]), (f"{PODS}.containers.env.name",)),
    ("controller", of_pods(initContainers=[{"name": "a", "env": [{"name": ["x"]}]}]), (f"{PODS}.initContainers.env.name",)),
    ("controller", of_pods(volumes=[{"name": ["x"]}]), (f"{PODS}.volumes.name",)),
    ("controller", of_pods(imagePullSecrets=[{"name": {}}]), (f"{PODS}.imagePullSecrets.name",)),
    ("controller", of_container(ports=[{"containerPort": [1]}]), (f"{PODS}.containers.ports.containerPort",)),
    ("controller", of_container(ports=[{"containerPort": 1, "protocol": ["TCP"]}]), (f"{PODS}.containers.ports.protocol",)),
    ("controller", of_container(volumeMounts=[{"mountPath": {}}]), (f"{PODS}.containers.volumeMounts.mountPath",)),
    ("controller", {"spec": {"paused": True}}, ("spec.paused",)),
    ("controller", of_pods(serviceAccountName="other"), (f"{PODS}.serviceAccountName",)),
    ("webhook", of_pods(serviceAccount="other"), (f"{PODS}.serviceAccount",)),
    ("controller", of_pods(hostPID=True), (f"{PODS}.hostPID",)),
    ("controller", of_pods(hostIPC=True), (f"{PODS}.hostIPC",)),
    ("webhook", of_pods(volumes=None), (f"{PODS}.volumes",)),
    ("controller", of_pods(containers=None), (f"{PODS}.containers",)),
    ("webhook", of_container(volumeMounts=None), (f"{PODS}.containers.volumeMounts",)),
]  # fmt: skip
ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("controller", {}),
    ("controller", of_pods(hostNetwork=True)),
    ("controller", {"metadata": {"labels": {"ports": "x"}, "annotations": {"env": "x"}}}),
    ("controller", of_pods(initContainers=None, imagePullSecrets=None)),
    ("controller", of_container(env=None, ports=None)),
    ("controller", {"metadata": {"labels": {"a": None}, "annotations": None}}),
    ("controller", of_pods(nodeSelector={"containers": "x", "$odd": "x"})),
    *(("webhook", partial) for partial in (*MERGED.values(), *INVALID.values())),
]


@pytest.mark.parametrize(("option", "partial", "names"), REFUSED, ids=lambda row: str(row)[:60])
def test_what_the_release_owns_is_refused(
    option: str, partial: dict[str, Any], names: tuple[str, ...]
) -> None:
    with fails("invalid-input") as caught:
        partial_deployment.check(option, partial)
    text = str(caught.value)
    assert caught.value.remedy
    assert all(name in text for name in (option, *names)), text


@pytest.mark.parametrize(("option", "partial"), ALLOWED, ids=str)
def test_other_fields_are_allowed(option: str, partial: dict[str, Any]) -> None:
    partial_deployment.check(option, partial)


@pytest.mark.parametrize(
    ("partial", "name"),
    [
        (labelled("app.kubernetes.io/name"), "app.kubernetes.io/name"),
        (of_pods(containers=[{"name": "x"}]), "x"),
    ],
)
def test_labels_of_the_selector_and_other_containers_are_refused(partial: dict[str, Any], name: str) -> None:
    with fails("invalid-input", "controller", name):
        partial_deployment.merged("controller", base(), partial)


def test_a_container_without_a_name_is_that_of_the_release() -> None:
    named = of_container(resources={"limits": {"cpu": "1"}})
    unnamed = of_pods(containers=[{"resources": {"limits": {"cpu": "1"}}}])
    merged = [partial_deployment.merged("controller", base(), partial) for partial in (named, unnamed)]
    assert merged[0] == merged[1] != base()


def test_ports_of_two_protocols_are_two_ports() -> None:
    partial = of_container(
        ports=[{"containerPort": 8443, "protocol": "UDP"}, {"containerPort": 8443, "name": "a"}]
    )
    (container,) = partial_deployment.merged("controller", base(), partial)["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["name"] == NAME
    assert [(port["protocol"], port.get("name")) for port in container["ports"]] == [
        ("TCP", "a"),
        ("UDP", None),
    ]


def test_neither_value_is_changed() -> None:
    deployment, partial = base(), of_container(env=[{"name": "FIRST", "value": "x"}])
    partial_deployment.merged("controller", deployment, partial)
    assert deployment == base()
    assert partial == of_container(env=[{"name": "FIRST", "value": "x"}])


# Part of a Deployment, and the name in the refusal.
RELEASED: list[tuple[dict[str, Any], str]] = [
    (of_pods(volumes=[{"name": "certs", "secret": {"secretName": "other"}}]), "certs"),
    (of_pods(volumes=[{"name": "certs", "secret": None, "emptyDir": {}}]), "certs"),
    *(
        (of_container(volumeMounts=[{"name": "other", "mountPath": path}]), path)
        for path in ("/certs", "/certs/", "//certs", "certs", "/tmp/../certs", "/certs/tls.crt")
    ),
    (of_pods(containers=[{"volumeMounts": [{"name": "other", "mountPath": "/certs"}]}]), "/certs"),
]


@pytest.mark.parametrize(("partial", "name"), RELEASED, ids=str)
def test_volumes_and_mounts_of_the_release_are_refused(partial: dict[str, Any], name: str) -> None:
    partial_deployment.check("webhook", partial)
    with fails("invalid-input", "webhook", name) as caught:
        partial_deployment.merged("webhook", base(), partial)
    assert caught.value.remedy


def test_other_volumes_and_mounts_are_added() -> None:
    mount = {"name": "tmp", "mountPath": "/certs-of-others"}
    init = {"name": "a", "image": "b", "volumeMounts": [{"name": "tmp", "mountPath": "/certs"}]}
    partial = of_container(volumeMounts=[mount])
    partial["spec"]["template"]["spec"].update(
        volumes=[{"name": "tmp", "emptyDir": {}}], initContainers=[init]
    )
    pod = partial_deployment.merged("webhook", base(), partial)["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["certs", "tmp"]
    assert pod["containers"][0]["volumeMounts"][1:] == [mount]
    assert pod["initContainers"] == [init]


def value_at(value: Any, path: str) -> Any:
    """Return the value of a path. A list stands for its first item."""
    for word in path.split("."):
        value = value[word]
        value = value[0] if isinstance(value, list) else value
    return value


PROBE = {
    "initialDelaySeconds": "1",
    "periodSeconds": "2",
    "timeoutSeconds": "3",
    "failureThreshold": "4",
    "successThreshold": "1",
}
# The path below the spec of the pods, or "" for the Deployment, the part, and the merged value.
TEMPLATED: list[tuple[str, dict[str, Any], Any]] = [
    ("spec.replicas", {"spec": {"replicas": "2"}}, 2),
    ("spec.replicas", {"spec": {"replicas": "0"}}, 0),
    ("spec.minReadySeconds", {"spec": {"minReadySeconds": "5"}}, 5),
    ("spec.revisionHistoryLimit", {"spec": {"revisionHistoryLimit": "5"}}, 5),
    ("spec.progressDeadlineSeconds", {"spec": {"progressDeadlineSeconds": "5"}}, 5),
    ("spec.strategy.rollingUpdate.maxSurge", {"spec": {"strategy": {"rollingUpdate": {"maxSurge": "1"}}}}, 1),
    ("spec.strategy.rollingUpdate.maxSurge", {"spec": {"strategy": {"rollingUpdate": {"maxSurge": "1%"}}}}, "1%"),
    (f"{PODS}.terminationGracePeriodSeconds", of_pods(terminationGracePeriodSeconds="60"), 60),
    (f"{PODS}.tolerations.tolerationSeconds", of_pods(tolerations=[{"operator": "Exists", "tolerationSeconds": "60"}]), 60),
    *((f"{PODS}.securityContext.{key}", of_pods(securityContext={key: "1000"}), 1000) for key in ("runAsUser", "runAsGroup", "fsGroup")),
    (f"{PODS}.containers.securityContext.runAsUser", of_container(securityContext={"runAsUser": "1000"}), 1000),
    (f"{PODS}.containers.ports.name", of_container(ports=[{"containerPort": "8443", "name": "a"}]), "a"),
    (f"{PODS}.containers.ports.hostPort", of_container(ports=[{"containerPort": "8443", "hostPort": "8443"}]), 8443),
    *(
        (f"{PODS}.containers.{probe}.{key}", of_container(**{probe: PROBE}), int(PROBE[key]))
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for key in PROBE
    ),
    (f"{PODS}.containers.livenessProbe.httpGet.port", of_container(livenessProbe={"httpGet": {"port": "8443"}}), 8443),
    (f"{PODS}.initContainers.ports.containerPort", of_pods(initContainers=[{"name": "a", "ports": [{"containerPort": "1"}]}]), 1),
    (f"{PODS}.hostNetwork", of_pods(hostNetwork="True"), True),
    (f"{PODS}.securityContext.runAsNonRoot", of_pods(securityContext={"runAsNonRoot": "false"}), False),
    # These are texts.
    ("spec.replicas", {"spec": {"replicas": "2 "}}, "2 "),
    ("spec.replicas", {"spec": {"replicas": "\u0662"}}, "\u0662"),
    ("metadata.labels.replicas", {"metadata": {"labels": {"replicas": "2"}}}, "2"),
    (f"{PODS}.containers.resources.limits.cpu", of_container(resources={"limits": {"cpu": "2"}}), "2"),
    (f"{PODS}.containers.env.value", of_container(env=[{"name": "FIRST", "value": "2"}]), "2"),
    (f"{PODS}.volumes.secret.defaultMode", of_pods(volumes=[{"name": "tmp", "secret": {"defaultMode": "0400"}}]), "0400"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "partial", "expected"), TEMPLATED, ids=str)
def test_numbers_and_booleans_of_templates_have_their_type(
    path: str, partial: dict[str, Any], expected: Any
) -> None:
    partial_deployment.check("controller", partial)
    deployment = base()
    if ".volumes." in path:
        deployment["spec"]["template"]["spec"]["volumes"] = []
    found = value_at(partial_deployment.merged("controller", deployment, partial), path)
    assert (type(found), found) == (type(expected), expected)
