# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about conversions, aggregated APIs, CustomResourceDefinitions, and Certificates of cert-manager."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.waiting import becomes_true
from tests.support.webhooks.https_webhook import convert
from tests.support.webhooks.probe_rig import API_SERVICES, DEFINITIONS
from tests.support.world.certificates import Leaf
from tests.system.audit.matrix.certificate_rows import UNKNOWN
from tests.system.audit.matrix.lab import CERTIFICATES
from tests.system.audit.matrix.reach_rows import MIXED, REFUSED
from tests.system.audit.matrix.row import ACCEPTED, HEALTHY, Made, Pod, Row, Shape, healthy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.system.audit.matrix.lab import Lab
    from tests.system.audit.matrix.row import Make

DEAD = "conversion-dead: error, proven, now"
DOWN = "apiservice-down: error, proven, now"
HOURS = 1 / 24


def _definition(
    group: str, conversion: Mapping[str, Any], *versions: str, unserved: tuple[str, ...] = ()
) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {"name": text, "served": text in versions, "storage": text == "v1", "schema": schema}
            for text in (*versions, *unserved)
        ],
        "conversion": conversion,
    }
    return {"metadata": {"name": f"things.{group}"}, "spec": spec}


def _conversion(
    lab: Lab,
    name: str,
    *,
    shape: Shape,
    versions: tuple[str, ...] = ("v1", "v1beta1"),
    unserved: tuple[str, ...] = (),
) -> Made:
    """Make a conversion webhook. The API server is asked for an object of v1 at the last version.

    unserved: further versions of the definition, which are neither served nor stored.
    """
    group = f"{name}.{lab.id}.certflow.test"
    config = lab.client_config(name, shape, convert)
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}
    lab.make(DEFINITIONS, _definition(group, webhook, *versions, unserved=unserved))

    def ask() -> str:
        path = f"/apis/{group}/{{}}/namespaces/{lab.name}/things"
        body = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a"}}
        assert becomes_true(lambda: lab.says("POST", path.format("v1"), body) == ACCEPTED)
        answer = lab.says("GET", f"{path.format(versions[-1])}/a")
        lab.says("DELETE", f"{path.format('v1')}/a")
        return answer

    return Made((f"things.{group}",), ask)


def conversion(*pods: Pod, **fields: Any) -> Make:
    versions, unserved = fields.pop("versions", ("v1", "v1beta1")), fields.pop("unserved", ())
    return partial(_conversion, shape=Shape(pods or HEALTHY, **fields), versions=versions, unserved=unserved)


def _api(lab: Lab, name: str, *, shape: Shape, is_verified: bool = True) -> Made:
    """Make an aggregated API. The API server is asked for its resources."""
    group = f"{name}.{lab.id}.certflow.test"
    resources = {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1",
        "resources": [],
    }
    config = lab.client_config(name, shape, lambda _asked: (200, resources))
    config["service"].pop("path")
    trust = {"caBundle": config["caBundle"]} if is_verified else {"insecureSkipTLSVerify": True}
    spec = {
        "group": group,
        "version": "v1",
        "groupPriorityMinimum": 10,
        "versionPriority": 10,
        "service": config["service"],
    }
    full = f"v1.{group}"
    lab.make(API_SERVICES, {"metadata": {"name": full}, "spec": {**spec, **trust}})

    def served() -> str:
        return lab.says("GET", f"/apis/{group}/v1")

    def condition() -> str:
        conditions = lab.cluster.api("GET", f"{API_SERVICES}/{full}").get("status", {}).get("conditions", ())
        return next((entry["status"] for entry in conditions if entry["type"] == "Available"), "")

    def ask() -> str:
        # The state of the object follows within seconds.
        assert becomes_true(lambda: condition() == ("True" if served() == ACCEPTED else "False"))
        return served()

    return Made((full,), ask)


def api(*pods: Pod, is_verified: bool = True, **fields: Any) -> Make:
    return partial(_api, shape=Shape(pods or HEALTHY, **fields), is_verified=is_verified)


def _plural_twice(lab: Lab, name: str) -> Made:
    """Make two definitions of one kind in one group. The API server is asked for the objects of the second one."""
    group = f"{name}.{lab.id}.certflow.test"
    first = _definition(group, {"strategy": "None"}, "v1")
    lab.make(DEFINITIONS, first)
    second = _definition(group, {"strategy": "None"}, "v1")
    second["metadata"]["name"] = f"others.{group}"
    second["spec"]["names"] = {"plural": "others", "kind": "Thing"}
    assert becomes_true(lambda: lab.says("GET", f"/apis/{group}/v1/things") == ACCEPTED)
    lab.make(DEFINITIONS, second)
    path = f"{DEFINITIONS}/others.{group}"
    assert becomes_true(lambda: lab.cluster.api("GET", path).get("status", {}).get("conditions"))
    return Made((f"others.{group}",), lambda: lab.says("GET", f"/apis/{group}/v1/others"))


CONVERSIONS = (
    healthy("a conversion webhook", conversion(), is_daily=True),
    healthy("a conversion webhook of two pods", conversion(Pod(), Pod())),
    healthy("a conversion webhook without a Service, and one version", conversion(calls="nosuch", versions=("v1",))),
    healthy("a conversion webhook of another CA, and one version", conversion(Pod(Leaf(("other",))), versions=("v1",))),
    Row("a conversion webhook without a Service, and two versions", "not found", DEAD, conversion(calls="nosuch"), True),
    Row("a conversion webhook of another CA", UNKNOWN, DEAD, conversion(Pod(Leaf(("other",))))),
    Row("a conversion webhook whose certificate has expired", "has expired", "conversion-dead: error, proven, 1 days ago",
        conversion(Pod(Leaf(life=(-60, -1))))),
    Row("a conversion webhook whose certificate ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days",
        conversion(Pod(Leaf(life=(-60, 5))))),
    Row("a conversion webhook whose pod does not listen", "connection refused", "conversion-dead: error, likely, now",
        conversion(Pod(listens=False))),
    Row("a conversion webhook with an empty bundle", UNKNOWN, "conversion-dead: error, likely, now", conversion(bundle=None)),
    Row("a definition with the kind of another one", "404 page not found", "crd-not-ready: warning, proven", _plural_twice),
)  # fmt: skip

APIS = (
    healthy("an aggregated API", api(), is_daily=True),
    healthy("an aggregated API of two pods", api(Pod(), Pod())),
    Row("an aggregated API whose certificate is not verified", ACCEPTED, "apiservice-insecure: warning, proven",
        api(Pod(Leaf(("other",))), is_verified=False), True),
    Row("an aggregated API without a Service", "service unavailable", DOWN, api(calls="nosuch")),
    Row("an aggregated API of another CA", "service unavailable", DOWN, api(Pod(Leaf(("other",))))),
    Row("an aggregated API whose certificate has expired", "service unavailable", DOWN, api(Pod(Leaf(life=(-60, -1))))),
    Row("an aggregated API whose certificate ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days", api(Pod(Leaf(life=(-60, 5))))),
    Row("an aggregated API without a pod", "service unavailable", DOWN, partial(_api, shape=Shape(()))),
)  # fmt: skip


def _issued(
    lab: Lab,
    name: str,
    *,
    life: tuple[float, float],
    renewal: float,
    is_ready: bool = True,
    served: tuple[float, float] | None = None,
) -> Made:
    """Make a webhook, and the Certificate of cert-manager that it names. Days count from now.

    served: the life of the certificate that the pod serves, None for that of the Certificate.
    """
    server_name = f"{name}.{lab.name}.svc"
    spec = {"secretName": name, "issuerRef": {"name": "ca"}, "dnsNames": [server_name]}
    path = CERTIFICATES.format(lab.name)
    body = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": name},
        "spec": spec,
    }
    made = lab.make(path, body)
    times = {"notBefore": life[0], "notAfter": life[1], "renewalTime": renewal}
    made["status"] = {
        key: lab.certificates.at(day).strftime("%Y-%m-%dT%H:%M:%SZ") for key, day in times.items()
    }
    made["status"]["conditions"] = [{"type": "Ready", "status": str(is_ready)}]
    lab.cluster.api("PUT", f"{path}/{name}/status", made)
    return _injected(lab, name, life=served or life)


def _injected(lab: Lab, name: str, *, life: tuple[float, float] = (-60, 300), ca: str = "root") -> Made:
    """Make a webhook with the annotation for the injector of cert-manager."""
    metadata = {"annotations": {"cert-manager.io/inject-ca-from": f"{lab.name}/{name}"}}
    return lab.admission(
        name,
        Shape((Pod(Leaf((ca,), life=life)),), metadata=metadata, field_manager="cert-manager-cainjector"),
    )


CERT_MANAGER = (
    healthy("cert-manager renews the certificate in 30 days", partial(_issued, life=(-30, 60), renewal=30), is_daily=True),
    healthy("a certificate of a day, before its renewal", partial(_issued, life=(-20 * HOURS, 4 * HOURS), renewal=2 * HOURS)),
    healthy("a certificate that was renewed some minutes ago, and is not loaded yet",
        partial(_issued, life=(-0.5 * HOURS, 90), renewal=60, served=(-60, 30))),
    Row("cert-manager has not renewed a certificate that is due", ACCEPTED, "expiring: warning, proven, in 30 days",
        partial(_issued, life=(-60, 30), renewal=-2 * HOURS), True),
    Row("the Certificate is not ready, and ends in 4 hours", ACCEPTED, "expiring: warning, proven, in 0.2 days",
        partial(_issued, life=(-20 * HOURS, 4 * HOURS), renewal=2 * HOURS, is_ready=False)),
    Row("the pod has not loaded the certificate that was renewed 2 hours ago", ACCEPTED, "not-reloaded: warning, proven, in 60 days",
        partial(_issued, life=(-2 * HOURS, 90), renewal=60, served=(-30, 60))),
    Row("the annotation names a Certificate that does not exist", UNKNOWN, "ca-mismatch: error, proven, now", partial(_injected, ca="other")),
)  # fmt: skip

#: The certificate of a pod whose owner requests it from a signer of the cluster.
_SIGNED, _LACKING = (Pod(Leaf(("cluster-ca",))),), "bundle-without-successor: warning, proven"
_OLD, _BOTH = ("cluster-ca",), ("cluster-ca", "cluster-successor")
# The certificate of the successor is older than the others. So the outgoing CA issued the newest one, and the cluster has not switched.
_SWITCHED = (Pod(Leaf(("cluster-successor",), life=(-90, 300))),)
CLUSTER_CA = (
    healthy("the bundle has both CAs of the cluster", Shape(_SIGNED, _BOTH), is_daily=True),
    healthy("the bundle has both CAs of the cluster, and the pod a certificate of the successor", Shape(_SWITCHED, _BOTH)),
    Row("the bundle has the CA of the cluster, and the CA of the certificate", ACCEPTED, "bundle-without-successor: warning, likely",
        Shape(bundle=("cluster-ca", "root"))),
    healthy("another CA with the name of the CA of the cluster", Shape((Pod(Leaf(("namesake",))),), ("namesake",)), is_daily=True),
    healthy("an aggregated API with both CAs of the cluster", api(*_SIGNED, bundle=_BOTH)),
    Row("the bundle has only the outgoing CA of the cluster", ACCEPTED, _LACKING, Shape(_SIGNED, _OLD), True),
    Row("a failurePolicy of Ignore, and only the outgoing CA of the cluster in the bundle", ACCEPTED, _LACKING,
        Shape(_SIGNED, _OLD, webhook={"failurePolicy": "Ignore"})),
    Row("a URL, and only the outgoing CA of the cluster in the bundle", ACCEPTED, _LACKING,
        Shape((Pod(Leaf(("cluster-ca",))),), _OLD, url="localhost")),
    Row("a conversion with only the outgoing CA of the cluster", ACCEPTED, _LACKING, conversion(*_SIGNED, bundle=_OLD)),
    Row("an aggregated API with only the outgoing CA of the cluster", ACCEPTED, _LACKING, api(*_SIGNED, bundle=_OLD)),
    Row("one of two pods has a certificate of the successor, and the bundle only the outgoing CA of the cluster", UNKNOWN,
        f"bundle-without-successor: error, proven, now; {MIXED}", Shape((*_SIGNED, *_SWITCHED), _OLD), True),
    Row("the bundle has only the outgoing CA of the cluster, and no pod listens", REFUSED,
        "bundle-without-successor: warning, likely; handshake-fails: error, likely, now", Shape((Pod(listens=False),), _OLD)),
)  # fmt: skip
