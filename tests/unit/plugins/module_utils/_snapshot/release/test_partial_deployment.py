# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a Deployment are merged, or refused. tests/system/test_partial_deployment.py compares the merge with the API server's."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import partial_deployment

from tests.support.failures import fails
from tests.support.partial_deployments import INVALID, MERGED, NAME, base, of_container, of_pods

LABELS = "spec.template.metadata.labels"


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
]  # fmt: skip
ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("controller", {}),
    ("controller", of_pods(hostNetwork=True)),
    ("controller", {"metadata": {"labels": {"ports": "x"}, "annotations": {"env": "x"}}}),
    ("controller", of_pods(nodeSelector={"containers": "x", "$odd": "x"})),
    *(("webhook", partial) for partial in (*MERGED.values(), *INVALID.values())),
]


@pytest.mark.parametrize(("option", "partial", "names"), REFUSED, ids=lambda row: str(row)[:60])
def test_what_the_release_owns_is_refused(
    option: str, partial: dict[str, Any], names: tuple[str, ...]
) -> None:
    with fails("invalid-input") as caught:
        partial_deployment.check(option, partial)
    text = f"{caught.value.cause} {caught.value.remedy}"
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
