# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the installed state that is made from the objects of a cluster."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import (
    fetch_objects,
    parse_objects,
    pod_specs,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
    StoredSnapshots,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    CONVERSION,
    SIDECAR,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    crd_sets,
    release_table,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    SNAPSHOT,
    SNAPSHOT_CRDS,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.plugins.module_utils._snapshot import objects

REGISTRY = "registry.k8s.io/sig-storage"
APPS = "/apis/apps/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
STORED = f"/apis/{SNAPSHOT}/v1"


def installed(answers: dict[str, Any], target: str = "8.1.1") -> InstalledState:
    api: Any = objects.ObjectApi(
        {f"{APPS}/{kind}s": [] for kind in ("deployment", "statefulset", "daemonset")} | answers
    )
    release = release_table.get(target)
    rules = crd_sets.row(release.crds, SNAPSHOT).rules
    return parse_objects.installed(fetch_objects.observe(api, needs_rules=rules), release)


def crds(key: str, group: str = SNAPSHOT, **given: Any) -> dict[str, Any]:
    row = crd_sets.row(key, group)
    return {f"{CRDS}/{name}": objects.crd(name, row, **given) for name in crd_sets.names(group)}


def deployments(*items: dict[str, Any]) -> dict[str, Any]:
    return {f"{APPS}/deployments": list(items)}


CONTROLLER_702 = objects.workload(
    "kube-system",
    "snapshot-controller",
    f"{REGISTRY}/snapshot-controller:v7.0.2",
    "--v=5",
    "--leader-election=true",
)


def test_an_empty_cluster() -> None:
    here = installed({})
    assert here.is_empty
    assert (here.kubernetes, here.unreadable) == ((1, 36), {})


IMAGES = [
    (f"{REGISTRY}/snapshot-controller:v7.0.2", CONTROLLER, (7, 0, 2)),
    ("mirror.example.com:5000/a/snapshot-controller:v8.2.0-eks-1", CONTROLLER, (8, 2, 0)),
    ("rancher/hardened-snapshot-controller:v8.2.0-build1", CONTROLLER, (8, 2, 0)),
    ("quay.io/openshift/csi-snapshot-controller@sha256:00", CONTROLLER, None),
    (f"{REGISTRY}/snapshot-validation-webhook:v6.2.1", VALIDATION, (6, 2, 1)),
    (f"{REGISTRY}/snapshot-conversion-webhook:v8.4.0@sha256:00", CONVERSION, (8, 4, 0)),
    (f"{REGISTRY}/csi-snapshotter:v8.2.0", SIDECAR, (8, 2, 0)),
    ("acme/own-csi-snapshotter:v8.2.0", SIDECAR, (8, 2, 0)),
    ("example.com/snapshot-controller-operator:v1.0.0", "", None),
    ("example.com/snapshot-controller", CONTROLLER, None),
    ("example.com/volume-snapshot-controller:v1.0.0", CONTROLLER, (1, 0, 0)),
    ("acme/volume-snapshot-validation-webhook:v2.1.0", "", None),
    ("acme/snapshot-conversion-webhook-proxy:v2.1.0", "", None),
    ("rancher/mirrored-sig-storage-snapshot-validation-webhook:v6.2.1", VALIDATION, (6, 2, 1)),
]


@pytest.mark.parametrize(("image", "program", "version"), IMAGES)
def test_programs_by_their_images(image: str, program: str, version: tuple[int, int, int] | None) -> None:
    assert pod_specs.program_of(image) == program
    if program:
        assert pod_specs.version_of(image) == version


def test_controllers_of_all_kinds_and_namespaces() -> None:
    old = objects.workload(
        "default", "snapshot-controller", "k8s.gcr.io/sig-storage/snapshot-controller:v4.0.0"
    )
    driver = objects.workload(
        "csi", "driver", f"{REGISTRY}/csi-snapshotter:v8.1.0", "--enable-volume-group-snapshots"
    )
    here = installed(
        {**deployments(CONTROLLER_702), f"{APPS}/statefulsets": [old], f"{APPS}/daemonsets": [driver]}
    )
    assert [str(workload) for workload in here.running(CONTROLLER)] == [
        "Deployment kube-system/snapshot-controller",
        "StatefulSet default/snapshot-controller",
    ]
    assert [(str(workload), workload.arguments) for workload in here.running(SIDECAR)] == [
        ("DaemonSet csi/driver", ("--enable-volume-group-snapshots",))
    ]
    assert here.running(CONTROLLER)[0].arguments == ("--v=5", "--leader-election=true")
    assert [workload.available for workload in here.workloads] == [2, 2, 2]


def test_a_digest_and_a_label_tell_the_release() -> None:
    image = f"{REGISTRY}/snapshot-controller@sha256:00"
    labels = {"app.kubernetes.io/version": "8.1.0"}
    here = installed(deployments(objects.workload("kube-system", "c", image, selector=labels)))
    assert here.workloads[0].version == (8, 1, 0)


def test_crds_with_their_stored_versions() -> None:
    here = installed({**crds("4.1", stored=("v1beta1", "v1")), **crds("7.0", GROUP)})
    crd = here.crds[SNAPSHOT_CRDS[0]]
    assert (crd.set and crd.set.key, crd.stored_versions, crd.storage) == ("4.1", ("v1beta1", "v1"), "v1")
    assert set(here.crds) == {*SNAPSHOT_CRDS, *GROUP_CRDS}


WEBHOOK = objects.workload(
    "hooks",
    "snapshot-validation-deployment",
    f"{REGISTRY}/snapshot-validation-webhook:v6.1.0",
    secret="old-certs",
)


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")])
    now = datetime(2026, 9, 1, tzinfo=timezone.utc)
    built = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("snapshot-validation-service.hooks.svc")])
    signed = built.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def test_the_objects_of_a_webhook() -> None:
    core = "/api/v1/namespaces/hooks"
    secret = {"cert.pem": certificate(), "key.pem": "c2VjcmV0"}
    service = {
        "metadata": {"namespace": "hooks", "name": "snapshot-validation-service"},
        "spec": {"selector": {"a": "b"}},
    }
    account = {"metadata": {"namespace": "hooks", "name": "snapshot-webhook"}}
    role, binding = ({"metadata": {"name": f"snapshot-webhook-{part}"}} for part in ("runner", "role"))
    request = {"metadata": {"name": "snapshot-validation-service.hooks"}}
    other = objects.configuration("policies.example.com", "apps", "deployments")
    here = installed(
        {
            **deployments(WEBHOOK),
            CONFIGURATIONS: [
                objects.configuration(
                    f"validation-webhook.{SNAPSHOT}", SNAPSHOT, "volumesnapshots", policy="Fail"
                ),
                other,
            ],
            f"{core}/secrets/old-certs": {
                "metadata": {"namespace": "hooks", "name": "old-certs"},
                "data": secret,
            },
            f"{core}/services/snapshot-validation-service": service,
            f"{core}/serviceaccounts/snapshot-webhook": account,
            f"{RBAC}/clusterroles/snapshot-webhook-runner": role,
            f"{RBAC}/clusterrolebindings/snapshot-webhook-role": binding,
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/snapshot-validation-service.hooks": request,
        }
    )
    (configuration,) = here.configurations
    assert (configuration.groups, configuration.hooks[0].failure_policy, configuration.hooks[0].service) == (
        (SNAPSHOT,),
        "Fail",
        ("hooks", "snapshot-validation-service"),
    )
    (found,) = here.secrets
    assert (found.type, found.keys) == ("Opaque", ("cert.pem", "key.pem"))
    assert here.workloads[0].secrets == ("old-certs",)
    assert here.webhook_account
    assert [service.selector for service in here.services] == [{"a": "b"}]
    assert {kind for kind, _namespace, _name in here.leftovers} == {
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "CertificateSigningRequest",
    }
    assert "c2VjcmV0" not in repr(here)


def test_pods_without_their_deployment() -> None:
    image = f"{REGISTRY}/snapshot-validation-webhook:v6.1.0"
    marked = {"certflow.kubernetes/detached": "snapshot-validation-deployment"}
    sets = [
        objects.workload("kube-system", "snapshot-validation-deployment-5d8", image, secret="old", labels={"pod-template-hash": "5d8"}),
        objects.workload("kube-system", "snapshot-validation-deployment-of-acme", image),
        objects.workload("kube-system", "other-77", image, labels=marked),
        objects.workload("kube-system", "owned-1", image, ownerReferences=[{"kind": "Deployment", "name": "owned"}]),
    ]  # fmt: skip
    history = objects.workload("kube-system", "snapshot-validation-deployment-4c1", image)
    history["spec"]["replicas"] = 0
    here = installed({f"{APPS}/namespaces/kube-system/replicasets": [*sets, history]})
    assert [
        (orphan_set.of, orphan_set.labelled, orphan_set.workload.secrets) for orphan_set in here.orphan_sets
    ] == [
        ("snapshot-validation-deployment", False, ("old",)),
        ("snapshot-validation-deployment", True, ()),
    ]
    assert here.workloads == ()


def snapshot(name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "a", "name": name, **metadata}, "spec": spec}


def test_stored_objects_are_read_if_a_rule_needs_them() -> None:
    old = objects.field("velero", "Update", f"{SNAPSHOT}/v1beta1")
    stored = {
        f"{STORED}/volumesnapshots": [
            snapshot("good", {"source": {"persistentVolumeClaimName": "x"}}, managedFields=[old]),
            snapshot("bad", {"source": {}}),
        ],
        f"{STORED}/volumesnapshotcontents": [],
    }
    here = installed({**crds("7.0"), **stored}).objects
    assert here.old_clients == ("velero",)
    assert [fault.place for fault in here.faults] == ["a/bad"]
    for key, target in (("7.0", "7.0.2"), ("8.0", "8.7.0")):  # no rules yet, or rules that bind already
        here = installed({**crds(key), **stored}, target).objects
        assert here == StoredSnapshots(), key


def test_default_classes() -> None:
    marked = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    classes = [
        {"metadata": {"name": name, "annotations": marked if name != "c" else {}}, "driver": "d"}
        for name in "abc"
    ]
    assert installed({**crds("8.0"), f"{STORED}/volumesnapshotclasses": classes}).default_classes == {
        "d": ("a", "b")
    }


def content(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"source": {"volumeHandles": ["a"]}}, "status": status}


def test_group_objects_and_hidden_lists() -> None:
    """The CRDs of 8.6 convert nothing. So an object that is stored at v1beta1 has no list at v1beta2."""
    base = f"/apis/{GROUP}"
    answers = {
        **crds("8.6", GROUP, stored=("v1beta1", "v1beta2")),
        f"{base}/v1beta2/volumegroupsnapshotcontents": [
            content("new", volumeSnapshotInfoList=[{}]),
            content("old"),
        ],
        f"{base}/v1beta1/volumegroupsnapshotcontents": [
            content("new"),
            content("old", volumeSnapshotHandlePairList=[{}]),
        ],
        f"{base}/v1beta2/volumegroupsnapshots": [],
        f"{base}/v1beta2/volumegroupsnapshotclasses": [],
    }
    groups = installed(answers, "8.7.0").groups
    assert (groups.contents, groups.lists, groups.hidden) == (2, 1, 1)


def test_a_failing_conversion_is_reported() -> None:
    path = f"/apis/{GROUP}/v1beta2/volumegroupsnapshotcontents"
    here = installed(
        {**crds("8.4", GROUP, conversion=("default", "gone")), path: objects.forbidden("conversion")}, "8.7.0"
    )
    assert "group_contents" in here.unreadable


def test_lists_that_cannot_be_read_are_reported() -> None:
    here = installed(
        {
            f"{CRDS}/{GROUP_CONTENTS}": objects.forbidden("customresourcedefinitions"),
            f"{APPS}/deployments": objects.forbidden("deployments"),
            "/api/v1/namespaces/kube-system/secrets/snapshot-validation-tls": objects.forbidden("secrets"),
        }
    )
    assert set(here.unreadable) == {"crds", "deployments", "secrets"}
    assert here.unreadable["deployments"] == "deployments is forbidden"


def test_objects_of_owners() -> None:
    chart = {"metadata": {"namespace": "kube-system", "name": "rke2-snapshot-controller"}}
    here = installed(
        {
            **deployments(CONTROLLER_702),
            "/apis": {"groups": [{"name": "helm.cattle.io"}]},
            "/apis/helm.cattle.io/v1/helmcharts": [chart],
        }
    )
    assert here.workloads[0].origin.key == "rke2"


def test_a_cluster_of_kubespray() -> None:
    """kubespray's ClusterRoleBinding shows it. A run without the permission to read it continues."""
    name = "kubespray:system:node"
    applied = [objects.field("kubectl-client-side-apply", "Update")]
    given = deployments(
        {**CONTROLLER_702, "metadata": {**CONTROLLER_702["metadata"], "managedFields": applied}}
    )
    path = f"{RBAC}/clusterrolebindings/{name}"
    found = installed({**given, path: {"metadata": {"name": name}}})
    assert found.workloads[0].origin.key == "kubespray"
    unread = installed({**given, path: objects.forbidden("clusterrolebindings")})
    assert (unread.workloads[0].origin.key, list(unread.unreadable)) == ("kubectl", [name])
