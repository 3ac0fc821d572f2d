# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requests that control planes and nodes make, as dry runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)

from tests.support.certificates import csr_by_hand
from tests.support.rig import encoded
from tests.system.audit.matrix.row import ACCEPTED

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import Lab

MERGE = "application/merge-patch+json"
CHANGE = {"metadata": {"annotations": {"certflow.test/changed": "yes"}}}
SYSTEM = "/api/v1/namespaces/kube-system"
POD_SPEC = {"containers": [{"name": "a", "image": "a"}]}
APPS = "/apis/apps/v1/namespaces/kube-system"
LEASE = {"spec": {"holderIdentity": "node-a"}}
NAMED = {"name": "matrix"}
TEMPLATE = {
    "selector": {"matchLabels": {"app": "matrix"}},
    "template": {"metadata": {"labels": {"app": "matrix"}}, "spec": POD_SPEC},
}


def _deleted(lab: Lab) -> str:
    """Return the name of a namespace of its own for each lab, because the deletion of one takes time."""
    return f"{lab.name}-deleted"


def setup(lab: Lab) -> None:
    """Create the objects that the requests change."""
    for path, body in (
        (
            f"{SYSTEM}/pods",
            {"metadata": {"name": "matrix", "labels": {"k8s-app": "kube-dns"}}, "spec": POD_SPEC},
        ),
        (f"{APPS}/deployments", {"metadata": NAMED, "spec": {"replicas": 0, **TEMPLATE}}),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            {"metadata": {"name": "matrix"}, **LEASE},
        ),
        ("/api/v1/namespaces", {"metadata": {"name": _deleted(lab)}}),
    ):
        lab.make(path, body)


def _requests(lab: Lab) -> list[tuple[str, str, Any]]:
    """Return verb, path and body of each request."""
    csr = csr_by_hand.pem(CertificateRequest(common_name="system:node:new", organizations=("system:nodes",)))
    pod = {"metadata": {"name": "new", "labels": {"k8s-app": "kube-dns"}}, "spec": POD_SPEC}
    return [
        ("PATCH", "/api/v1/nodes/node-a/status", CHANGE),
        ("PATCH", "/api/v1/nodes/node-a", CHANGE),
        ("POST", "/api/v1/nodes", {"metadata": {"name": "new", "labels": {"kubernetes.io/os": "linux"}}}),
        ("POST", f"{SYSTEM}/pods", pod),
        ("PATCH", f"{SYSTEM}/pods/matrix/status", CHANGE),
        ("POST", f"{SYSTEM}/pods/matrix/binding", {"metadata": NAMED, "target": {"kind": "Node", "name": "node-a"}}),
        ("DELETE", f"{SYSTEM}/pods/matrix", None),
        ("POST", f"{SYSTEM}/serviceaccounts/default/token", {"spec": {"audiences": ["matrix"]}}),
        ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/matrix", CHANGE),
        ("POST", "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", {"metadata": NAMED, "addressType": "IPv4", "endpoints": []}),
        ("POST", f"{SYSTEM}/configmaps", {"metadata": NAMED}),
        ("POST", f"{SYSTEM}/secrets", {"metadata": NAMED}),
        ("POST", f"{SYSTEM}/services", {"metadata": NAMED, "spec": {"ports": [{"port": 443}]}}),
        ("POST", f"{SYSTEM}/serviceaccounts", {"metadata": NAMED}),
        ("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}}),
        ("PATCH", f"/api/v1/namespaces/{_deleted(lab)}", CHANGE),
        ("PUT", f"/api/v1/namespaces/{_deleted(lab)}/finalize", {"metadata": {"name": _deleted(lab)}, "spec": {"finalizers": []}}),
        ("DELETE", f"/api/v1/namespaces/{_deleted(lab)}", None),
        ("PATCH", f"{APPS}/deployments/matrix", CHANGE),
        ("PATCH", f"{APPS}/deployments/matrix/status", CHANGE),
        (
            "POST",
            csr_by_hand.CSRS,
            {
                "metadata": NAMED,
                "spec": {
                    "request": encoded(csr),
                    "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                    "usages": ["digital signature", "client auth"],
                },
            },
        ),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "none"}}),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"user": "a", "nonResourceAttributes": {"path": "/", "verb": "get"}}}),
    ]  # fmt: skip


def send_all(lab: Lab) -> None:
    """Send all requests, once for each lab. None of them is refused."""
    if lab.has_sent:
        return
    lab.has_sent = True
    setup(lab)
    for seen in lab.recorded:
        seen.clear()
    for verb, path, body in _requests(lab):
        answer = lab.says(verb, f"{path}?dryRun=All", body, MERGE if verb == "PATCH" else "application/json")
        assert answer == ACCEPTED, (verb, path, answer)
