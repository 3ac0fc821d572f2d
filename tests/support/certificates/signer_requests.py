# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificate requests for each signer: valid ones, refused ones with the messages, and accepted variants."""

from __future__ import annotations

from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.usages import (
    CLIENT_USAGES,
    SERVING_USAGES,
)

KUBELET_SERVING = "kubernetes.io/kubelet-serving"
APP_SERVING = "beta.eks.amazonaws.com/app-serving"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
CUSTOM = "example.com/my-signer"
OWN_HAND = "ephemeral-ca"

# A request that the signer accepts.
GOOD: dict[str, CertificateRequest] = {
    KUBELET_SERVING: CertificateRequest(
        common_name="system:node:hook.apps.svc",
        organizations=("system:nodes",),
        dns_names=("hook.apps.svc",),
        usages=SERVING_USAGES,
    ),
    CLIENT: CertificateRequest(common_name="jane", organizations=("developers",), usages=CLIENT_USAGES),
    KUBELET_CLIENT: CertificateRequest(common_name="system:node:one", organizations=("system:nodes",), usages=CLIENT_USAGES),
    APP_SERVING: CertificateRequest(common_name="anything", organizations=("any",), dns_names=("hook",), usages=SERVING_USAGES),
    CUSTOM: CertificateRequest(dns_names=("hook",), usages=("code signing",)),
    OWN_HAND: CertificateRequest(common_name="hook", dns_names=("hook",), usages=SERVING_USAGES),
}  # fmt: skip

SIX = [
    "subject organization is not system:nodes",
    "DNS or IP subjectAltName is required",
    "Email subjectAltNames are not allowed",
    "URI subjectAltNames are not allowed",
    "usages did not match [digital signature key encipherment server auth]",
    "subject common name does not begin with system:node:",
]

# Signer, the difference from its accepted request, and the refusals.
REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    (KUBELET_SERVING, {"organizations": ()}, SIX[:1]),
    (KUBELET_SERVING, {"organizations": ("system:nodes", "more")}, SIX[:1]),
    (KUBELET_SERVING, {"dns_names": ()}, SIX[1:2]),
    (KUBELET_SERVING, {"emails": ("a@example.com",)}, SIX[2:3]),
    (KUBELET_SERVING, {"uris": ("spiffe://a/b",)}, SIX[3:4]),
    (KUBELET_SERVING, {"usages": ("server auth",)}, SIX[4:5]),
    (KUBELET_SERVING, {"usages": (*SERVING_USAGES, "client auth")}, SIX[4:5]),
    (KUBELET_SERVING, {"common_name": "hook.apps.svc"}, SIX[5:]),
    (KUBELET_SERVING, {"organizations": (), "dns_names": (), "emails": ("a@b",), "uris": ("a:b",), "usages": ("any",), "common_name": "x"}, SIX),
    (CLIENT, {"organizations": ("system:masters",)}, ["use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"]),
    (
        CLIENT,
        {"usages": SERVING_USAGES},
        [
            "invalid usage for client certificate: server auth",
            "missing required usage for client certificate: client auth",
        ],
    ),
    (
        KUBELET_CLIENT,
        {"dns_names": ("a",), "ip_addresses": ("10.0.0.1",)},
        ["DNS subjectAltNames are not allowed", "IP subjectAltNames are not allowed"],
    ),
    (KUBELET_CLIENT, {"usages": ("client auth",)}, ["usages did not match [client auth digital signature key encipherment]"]),
    (APP_SERVING, {"usages": (*SERVING_USAGES, "client auth")}, [f"{APP_SERVING} issues no certificate with the usage client auth"]),
    (APP_SERVING, {"key_type": "ed25519"}, [f"{APP_SERVING} is not known to take keys of type ed25519"]),
    (CUSTOM, {"expiration_seconds": 599}, ["spec.expirationSeconds: may not specify a duration less than 600 seconds (10 minutes)"]),
    (CUSTOM, {"expiration_seconds": 2**31}, ["spec.expirationSeconds: it is an int32, at most 2147483647"]),
    (OWN_HAND, {"usages": ("client auth",)}, ["it makes only serving certificates for webhooks, and none with the usage client auth"]),
    (CUSTOM, {"usages": ()}, ["spec.usages: Required value"]),
    (CUSTOM, {"usages": ("server-auth",)}, ["spec.usages: Unsupported value: server-auth"]),
    (CUSTOM, {"usages": ("any", "any")}, ["spec.usages: Duplicate value: any"]),
]  # fmt: skip

TAKEN: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in GOOD),
    (KUBELET_SERVING, {"usages": ("server auth", "digital signature")}),
    (KUBELET_SERVING, {"dns_names": (), "ip_addresses": ("10.0.0.1",)}),
    (KUBELET_SERVING, {"key_type": "ed25519"}),
    (CLIENT, {"usages": ("client auth",)}),
    (CLIENT, {"dns_names": ("a",)}),
    (KUBELET_CLIENT, {"usages": ("client auth", "digital signature")}),
    (APP_SERVING, {"usages": ("server auth",), "key_type": "rsa-2048"}),
    (CUSTOM, {"expiration_seconds": 600}),
]
