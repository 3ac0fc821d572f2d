# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release of external-snapshotter on a cluster with a node, installed with its manifests and kubectl.

Three things differ from upstream's text. The images' tags are the release's own. minReadySeconds is short.
The certificate is made here: create-cert.sh of 4.2.1 uses an API that no longer exists, and later ones use a
signer that never issues on an EKS-like cluster. All pods are real programs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support import clusters
from tests.support.clusters import build, pki
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters import Cluster

REGISTRY = "registry.k8s.io/sig-storage"
WEBHOOK_NAMESPACE = "default"  # the namespace of upstream's manifests
CONTROLLER = "/apis/apps/v1/namespaces/kube-system/deployments/snapshot-controller"
CONFIGURATION = "validation-webhook.snapshot.storage.k8s.io"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1"
GROUP_CONTENTS = "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io"


@dataclass(frozen=True)
class Era:
    """The names of a release's webhook."""

    #: "validation", "conversion", or "" without a webhook.
    kind: str
    deployment: str = ""
    service: str = ""
    secret: str = ""
    files: tuple[str, str] = ("tls.crt", "tls.key")

    @property
    def program(self) -> str:
        return f"snapshot-{self.kind}-webhook"

    @property
    def deployment_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{WEBHOOK_NAMESPACE}/deployments/{self.deployment}"


def era(release: str) -> Era:
    """Return the names for a release from 4.2 to 8.7.

    The Secret's format changed at 6.2. The validation webhook ended at 8.2, and the conversion webhook began
    at 8.4.
    """
    number = _number(release)
    if number < (8, 2):
        files = ("cert.pem", "key.pem") if number < (6, 2) else ("tls.crt", "tls.key")
        prefix = "snapshot-validation"
        return Era("validation", f"{prefix}-deployment", f"{prefix}-service", f"{prefix}-secret", files)
    if number < (8, 4):
        return Era("")
    prefix = "snapshot-conversion-webhook"
    return Era("conversion", f"{prefix}-deployment", f"{prefix}-service", f"{prefix}-secret")


def load_images(cluster: Cluster, release: str) -> None:
    """Load the release's programs into the node as images with upstream's names."""
    directory = build.snapshot_programs(release)
    for program in sorted(directory.iterdir()):
        cluster.load_image(f"{REGISTRY}/{program.name}:v{release}", program)


def install(
    cluster: Cluster,
    release: str,
    *,
    groups: bool = False,
    webhook: bool = True,
    failure_policy: str = "Fail",
    min_ready_seconds: int = 3,
    wait: bool = True,
    pods: bool = True,
) -> pki.KeyPair:
    """Install a release on a cluster without it. Return when its pods are available and the webhook is
    called.

    groups: install group snapshots too: CustomResourceDefinitions, the controller's flag, from 8.4 on the
    conversion webhook.

    pods: False installs only the objects, on a cluster without a node.

    Return the CA that signed the webhook's certificate.
    """
    if pods:
        load_images(cluster, release)
    deploy, crds = build.snapshot_manifests(release)
    has_webhook = webhook and (
        era(release).kind == "validation" or (era(release).kind == "conversion" and groups)
    )
    ca = pki.make_ca("snapshot-webhook")
    if has_webhook:
        _install_webhook(cluster, release, deploy, ca)
    apply_crds(cluster, crds, groups=groups, bundle=_bundle(ca) if has_webhook else "")
    kubectl(cluster, "apply", "-f", str(deploy / "snapshot-controller" / "rbac-snapshot-controller.yaml"))
    controller = _controller(release, deploy, groups=groups, min_ready_seconds=min_ready_seconds)
    kubectl(cluster, "apply", "-f-", stdin=controller)
    if has_webhook and era(release).kind == "validation":
        template = (deploy / "webhook-example" / "admission-configuration-template").read_text()
        kubectl(cluster, "apply", "-f-", stdin=_configurations(template, _bundle(ca), groups=groups))
    if wait and pods:
        wait_until_available(cluster, release, webhook=has_webhook)
        if has_webhook and era(release).kind == "validation":
            patch = json.dumps(
                [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": failure_policy}]
            )
            kubectl(
                cluster,
                "patch",
                "validatingwebhookconfiguration",
                CONFIGURATION,
                "--type=json",
                f"-p={patch}",
            )
    return ca


def apply_crds(cluster: Cluster, directory: Path, *, groups: bool, bundle: str = "") -> None:
    """Run kubectl apply of a release's CustomResourceDefinitions. bundle: caBundle of their conversion
    webhook.
    """
    names = ["snapshot.storage.k8s.io_", *(["groupsnapshot.storage.k8s.io_"] if groups else [])]
    documents = [
        yaml.safe_load(path.read_text()) for name in names for path in sorted(directory.glob(f"{name}*"))
    ]
    for document in documents:
        webhook = document["spec"].get("conversion", {}).get("webhook")
        if webhook and bundle:
            webhook["clientConfig"]["caBundle"] = bundle
    kubectl(cluster, "apply", "-f-", stdin=yaml.safe_dump_all(documents))
    kubectl(
        cluster, "wait", "--for=condition=Established", "--timeout=300s",
        *(f"crd/{document['metadata']['name']}" for document in documents),
    )  # fmt: skip


def wait_until_available(cluster: Cluster, release: str, *, webhook: bool = True) -> None:
    """Wait until all pods of the newest templates are available and the webhook refuses invalid objects."""
    paths = [CONTROLLER, *([era(release).deployment_path] if webhook and era(release).kind else [])]
    wait_for(
        lambda: all(_is_available(cluster, path) for path in paths),
        evidence=lambda: kubectl(cluster, "get", "pods,events", "--namespace=kube-system", "--output=wide"),
    )
    if webhook and era(release).kind == "validation":
        wait_for(lambda: webhook_refuses(cluster, release))


def webhook_refuses(cluster: Cluster, release: str) -> bool:
    """Return True if the API server calls the validation webhook. Only that webhook gives the refusal.

    Up to 7.0 it refuses an empty class name. From 8.0 on the schema refuses that, so the test uses a second
    default class. An older webhook with newer CRDs, as after an undo, refuses an empty reference.
    """
    if _number(release) < (8, 0):
        empty_class, no_namespace = snapshot("probe", snapshot_class=""), content("probe")
        no_namespace["spec"]["volumeSnapshotRef"]["namespace"] = ""
        said = _dry_run(cluster, f"{SNAPSHOTS}/namespaces/default/volumesnapshots", empty_class)
        if "denied the request: Spec.VolumeSnapshotClassName must not be the empty string" in said:
            return True
        return "denied the request: both Spec.VolumeSnapshotRef.Name" in _dry_run(
            cluster, f"{SNAPSHOTS}/volumesnapshotcontents", no_namespace
        )
    path = f"{SNAPSHOTS}/volumesnapshotclasses"
    first, second = (default_class(f"probe-{name}", driver="probe.certflow.invalid") for name in ("a", "b"))
    if "not found" in _message(cluster, "GET", f"{path}/{first['metadata']['name']}"):
        cluster.api("POST", path, first)
    said = _dry_run(cluster, path, second)
    cluster.api("DELETE", f"{path}/{first['metadata']['name']}")
    return "default snapshot class" in said


def snapshot(
    name: str, *, snapshot_class: str | None = None, claim: str = "data", version: str = "v1"
) -> dict[str, Any]:
    """Return a VolumeSnapshot of a claim."""
    spec: dict[str, Any] = {"source": {"persistentVolumeClaimName": claim}}
    if snapshot_class is not None:
        spec["volumeSnapshotClassName"] = snapshot_class
    return {
        "apiVersion": f"snapshot.storage.k8s.io/{version}",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": spec,
    }


def content(name: str, *, version: str = "v1") -> dict[str, Any]:
    """Return a pre-provisioned VolumeSnapshotContent for a VolumeSnapshot of its name that does not exist."""
    spec = {
        "deletionPolicy": "Retain",
        "driver": "test.certflow.invalid",
        "source": {"snapshotHandle": f"handle-{name}"},
        "volumeSnapshotRef": {"name": name, "namespace": "default"},
    }
    return {
        "apiVersion": f"snapshot.storage.k8s.io/{version}",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name},
        "spec": spec,
    }


def default_class(name: str, *, driver: str = "test.certflow.invalid") -> dict[str, Any]:
    """Return a VolumeSnapshotClass that is its driver's default."""
    annotations = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": annotations},
        "driver": driver,
        "deletionPolicy": "Delete",
    }


def delete(cluster: Cluster, *names: str) -> None:
    """Delete objects, each "kind/name", and wait until they are gone."""
    kubectl(cluster, "delete", "--wait=false", "--ignore-not-found", *names)

    def is_gone() -> bool:
        left = kubectl(cluster, "get", "--ignore-not-found", "-oname", *names).split()
        for name in left:
            remind(cluster, name)
        return not left

    wait_for(is_gone)


def remind(cluster: Cluster, name: str) -> None:
    """Change a definition that is being deleted.

    An API server that has just begun to serve it may fail to empty it ("storage is (re)initializing"). It
    tries again only after a change.
    """
    with contextlib.suppress(AssertionError):  # deleted meanwhile
        kubectl(cluster, "annotate", "--overwrite", name, f"reminded={time.time_ns()}")


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as administrator. It must succeed. Return its output."""
    done = subprocess.run(
        [str(clusters.programs() / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _install_webhook(cluster: Cluster, release: str, deploy: Path, ca: pki.KeyPair) -> None:
    own = era(release)
    server = f"{own.service}.{WEBHOOK_NAMESPACE}.svc"
    pair = pki.issue(ca, server, names=(server,))
    data = dict(zip(own.files, (pair.certificate_pem, pair.key_pem), strict=True))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": own.secret, "namespace": WEBHOOK_NAMESPACE},
        "type": "kubernetes.io/tls" if "tls.crt" in own.files else "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(secret))
    folder = deploy / "webhook-example"
    for rbac in folder.glob("rbac-*.yaml"):
        kubectl(cluster, "apply", "-f", str(rbac))
    kubectl(cluster, "apply", "-f-", stdin=_own_image((folder / "webhook.yaml").read_text(), release))


def _controller(release: str, deploy: Path, *, groups: bool, min_ready_seconds: int) -> str:
    text = _own_image(
        (deploy / "snapshot-controller" / "setup-snapshot-controller.yaml").read_text(), release
    )
    text = re.sub(r"minReadySeconds: \d+", f"minReadySeconds: {min_ready_seconds}", text)
    flag = (
        "--feature-gates=CSIVolumeGroupSnapshot=true"
        if _number(release) >= (8, 2)
        else "--enable-volume-group-snapshots=true"
    )
    return (
        text.replace('- "--leader-election=true"', f'- "--leader-election=true"\n            - "{flag}"')
        if groups
        else text
    )


def _configurations(template: str, bundle: str, *, groups: bool) -> str:
    """Return the webhook's configuration. That of group snapshots is included only with groups."""
    documents = template.replace("${CA_BUNDLE}", bundle).split("\n---")
    return "\n---".join(documents if groups else documents[:1])


def _own_image(text: str, release: str) -> str:
    """Use the release's own image. Upstream's manifests name that of an older release."""
    return re.sub(r"image: \S+/(snapshot-[-a-z]+):v\S+", rf"image: {REGISTRY}/\1:v{release}", text)


def _is_available(cluster: Cluster, path: str) -> bool:
    deployment = cluster.api("GET", path)
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == {wanted}


def _dry_run(cluster: Cluster, collection: str, body: dict[str, Any]) -> str:
    return _message(cluster, "POST", f"{collection}?dryRun=All", body)


def _message(cluster: Cluster, method: str, path: str, body: dict[str, Any] | None = None) -> str:
    """Return the message of an error, "" after a success."""
    try:
        cluster.api(method, path, body)
    except clusters.AdminApiError as error:
        return error.message
    return ""


def _bundle(ca: pki.KeyPair) -> str:
    return base64.b64encode(ca.certificate_pem).decode()


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
