# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shapes: one row of plain data for each way in which an API server can call a program, and for who keeps the object."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.world.certificates import Leaf

# Kinds of objects.
VALIDATING, MUTATING, CONVERSION, AGGREGATED = "validating", "mutating", "conversion", "aggregated"

# How the API server reaches the program.
#: A Service with a selector and pods. The controller of EndpointSlices lists them.
BY_PODS = "pods"
#: A Service without a selector, and an EndpointSlice that was written by hand.
BY_SLICE = "slice"
BY_URL = "url"
#: A Service of type ExternalName.
BY_NAME = "external name"
#: A Service without an endpoint.
NOWHERE = "nowhere"

# Endpoints.
READY, NOT_READY, TERMINATING = "ready", "not ready", "terminating"
#: A ready endpoint at which no program listens.
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Owner:
    """The program that writes an object, and what it does after a change by another one."""

    name: str
    #: The field manager.
    manager: str
    #: True if it writes by server-side apply.
    applies: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    #: The time of the cluster after which it writes its object again, None if it does not.
    rewrites_after: datetime.timedelta | None = None
    #: True if kubectl records what it applied.
    records: bool = False


_HELM = {"app.kubernetes.io/managed-by": "Helm"}
_ARGO = {"argocd.argoproj.io/tracking-id": "hooks:admissionregistration.k8s.io"}

BY_HAND = Owner("by hand", "kubectl-create")
KUBECTL = Owner("kubectl, client side", "kubectl-client-side-apply", records=True)
KUBECTL_SERVER = Owner("kubectl, server side", "kubectl", applies=True)
HELM = Owner("helm", "helm", labels=_HELM)
HELM_APPLIED = Owner("helm, server side", "helm", applies=True, labels=_HELM)
ARGO_CD = Owner("argo cd", "argocd-controller", applies=True, annotations=_ARGO)
ARGO_CD_AT_ONCE = replace(ARGO_CD, name="argo cd, at once", rewrites_after=datetime.timedelta())
HELM_NIGHTLY = replace(HELM, name="helm, nightly", rewrites_after=datetime.timedelta(days=1))
EKS = Owner("eks", "eks")
CERT_MANAGER = Owner("cert-manager", "cert-manager-cainjector")
OPERATOR = Owner("operator", "pilot-discovery")
OPERATOR_AT_ONCE = Owner("operator, at once", "pilot-discovery", rewrites_after=datetime.timedelta())
OPERATOR_NIGHTLY = Owner("operator, nightly", "pilot-discovery", rewrites_after=datetime.timedelta(days=1))


#: A certificate of a year of the CA that the cluster had at first, which was issued just now.
ISSUED = Leaf(("cluster",), life=(-1 / 288, 365))
#: The collection issues the certificate, and writes the bundle.
OURS = Leaf(("certflow.kubernetes",))


def issued(ca: str = "cluster", *, days: float = 365, **fields: Any) -> Leaf:
    """Return the certificate of a program, which ends in this number of days.

    ca: "cluster", a row of `certificates.CAS`, or the subject of another CA.
    """
    return replace(ISSUED, **{"chain": (ca,), "life": (ISSUED.life[0], days), **fields})


@dataclass(frozen=True)
class Shape:
    """An object by which the API server calls a program, and the program."""

    name: str
    kind: str = VALIDATING
    reached: str = BY_PODS
    endpoints: tuple[str, ...] = (READY,)
    owner: Owner = BY_HAND
    failure_policy: str = "Fail"
    certificate: Leaf = ISSUED
    #: The CAs of the bundle, None for no bundle.
    bundle: tuple[str, ...] | None = ("cluster",)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Further fields of the webhook, or of the spec.
    fields: Mapping[str, Any] = field(default_factory=dict)
