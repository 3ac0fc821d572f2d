# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the surroundings of a finding: the object, the pods that serve it, and the CAs that the cluster publishes for it.

A CA counts only if it comes from a Secret of the pods, a place of trust_anchors.PLACES or a ClusterTrustBundle. A certificate that an
endpoint sends never counts.
"""

from __future__ import annotations

import base64
import functools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._audit.facts.cluster_data import ROOT_CA, Backend, CallPoint, ClusterData
from .._base.errors import check_shape
from .._csr import trust_anchors
from .._csr.trust_anchors import INJECTABLE, PLACES, CaPlace, PublishedCa
from .._kube.client import Client
from .._kube.errors import ApiError
from .._webhook.bundles import bundle_targets
from .._webhook.bundles.bundle_targets import Target
from .._webhook.endpoints.served_chains import ServedChain
from .._webhook.workloads import secrets_of
from . import proof_calls
from .proof_calls import CallAnswer

Object = Mapping[str, Any]
_CERTIFICATE, _CA = "tls.crt", "ca.crt"
#: The keys of a Secret that are kept.
_PUBLIC = frozenset((_CERTIFICATE, _CA, "rootCA.crt"))
_NAME = re.compile("[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
#: The controllers of pods -> their resource.
_CONTROLLERS = {
    ("apps/v1", kind): f"{kind.lower()}s" for kind in ("ReplicaSet", "Deployment", "DaemonSet", "StatefulSet")
}


@dataclass(frozen=True)
class MountedSecret:
    """The public parts of a Secret that a pod of the webhook mounts. The private key is never kept."""

    namespace: str
    name: str
    certificate: str = ""
    ca: str = ""

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Surroundings:
    """The objects around one call point, as they were read."""

    target: Target
    obj: Object
    #: The Secrets of the pods behind the ready endpoints.
    secrets: tuple[MountedSecret, ...] = ()
    #: The other Secrets of all pods, also of those that are not ready or that terminate.
    later_secrets: tuple[MountedSecret, ...] = ()
    #: The pods and Secrets that could not be read, each with the reason.
    unread: tuple[str, ...] = ()
    published: tuple[PublishedCa, ...] = ()
    #: The Deployment, DaemonSet or StatefulSet of all pods, None if they do not have one in common.
    workload: Object | None = None
    #: The answer to a call, if the caBundle is empty. None for another caBundle, and for a call that was not made.
    call: CallAnswer | None = None

    @property
    def is_refused(self) -> bool:
        """Return True if the API server was seen to refuse the certificate with an empty caBundle."""
        return self.call is not None and self.call.is_answered is False


class SurroundingsReader:
    """Reads the surroundings of call points. Each object is read once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._target = functools.lru_cache(maxsize=None)(functools.partial(bundle_targets.read, client))
        self._find = functools.lru_cache(maxsize=None)(self._find_object)
        self._trust_bundles = functools.lru_cache(maxsize=None)(self._read_trust_bundles)

    def read(self, data: ClusterData, point: CallPoint) -> Surroundings:
        """Read the objects around a point. Those that may not be read are missing in the result. Raises KubeError, TargetError."""
        target = Target(point.object.kind, point.object.name)
        obj = self._target(target)
        unread: dict[str, None] = {}
        backend = data.backends.get(point.backend, Backend())
        pods = tuple(self._pods(backend.chains, unread))
        mounted = self._secrets(point, pods, unread)
        later = self._secrets(point, tuple(self._pods(backend.unready_chains, unread)), unread)
        workloads = [self._workload_of(pod) for pod in pods]
        common = workloads[0] if workloads and all(entry == workloads[0] for entry in workloads) else None
        published = tuple(self._published(point, mounted))
        # Without the certificate of each endpoint, nothing is planned that the call decides.
        may_call = (
            point.is_verified
            and not point.config.ca_bundle
            and all(chain.certificate for chain in backend.chains)
            and time.monotonic() < self._client.deadline
        )
        call = proof_calls.probe(self._client, data, point) if may_call else None
        return Surroundings(target, obj, mounted, later, tuple(unread), published, common, call)

    def _workload_of(self, obj: Object) -> Object | None:
        """Return the workload that controls a pod, None for another controller."""
        metadata = obj["metadata"]
        owners = [entry for entry in metadata.get("ownerReferences") or () if entry.get("controller")]
        for owner in owners:
            resource = _CONTROLLERS.get((owner["apiVersion"], owner["kind"]))
            found = self._find(resource, metadata["namespace"], owner["name"])[0] if resource else None
            if found and found["metadata"].get("uid") == owner["uid"]:
                named = {**found, "kind": owner["kind"]}
                if owner["kind"] != "ReplicaSet":
                    return named
                # The API server accepts a ReplicaSet that is its own controller.
                return None if obj.get("kind") == "ReplicaSet" else self._workload_of(named)
        return None

    def _pods(self, chains: Iterable[ServedChain], unread: dict[str, None]) -> Iterator[Object]:
        """Yield the pods of endpoints that exist. unread: gets those that cannot be read, as _secrets does."""
        for place in (chain.endpoint.pod for chain in chains if chain.endpoint.pod):
            pod, problem = self._find("pods", *place)
            if pod:
                yield pod
            elif problem:
                unread[f"Pod {'/'.join(place)}, which was not read: {problem}"] = None

    def _secrets(
        self, point: CallPoint, pods: Iterable[Object], unread: dict[str, None]
    ) -> tuple[MountedSecret, ...]:
        with check_shape(f"a pod that {point.object} calls"):
            places = dict.fromkeys(place for pod in pods for place in _mounted(pod))
        mounted = []
        for place in places:
            secret, problem = self._find("secrets", *place)
            if secret:
                mounted.append(MountedSecret(*place, _text_of(secret, _CERTIFICATE), _text_of(secret, _CA)))
            elif problem:
                unread[
                    f"Secret {'/'.join(place)}, which the pods mount and which was not read: {problem}"
                ] = None
        return tuple(mounted)

    def _published(self, point: CallPoint, secrets: tuple[MountedSecret, ...]) -> Iterator[PublishedCa]:
        for secret in secrets:
            source = f"ca.crt of {secret}, which the pods mount"
            yield PublishedCa(source, secret.ca, "" if secret.ca else "it is empty or does not exist")
        if point.config.service:
            yield from (self._place(place, *point.config.service) for place in PLACES)
        yield from self._trust_bundles()

    def _place(self, place: CaPlace, namespace: str, service: str) -> PublishedCa:
        # The cluster publishes its CA in each namespace. Fewer clients may write the one in kube-system.
        where = (place.namespace or ROOT_CA[0]).format(namespace=namespace)
        name = place.name.format(namespace=namespace, service=service)
        source = f"{place.resource[:-1]} {where}/{name}"
        obj, problem = self._find(place.resource, where, name)
        if not obj:
            return PublishedCa(source, problem=problem or "it does not exist")
        if place.mark and (obj["metadata"].get("annotations") or {}).get(place.mark[0]) != place.mark[1]:
            return PublishedCa(source, problem=f"it has no annotation {'='.join(place.mark)}")
        pem = next(filter(None, (_text_of(obj, key) for key in place.keys)), "")
        return PublishedCa(source, pem, "" if pem else "it is empty")

    def _find_object(self, resource: str, namespace: str, name: str) -> tuple[Object | None, str]:
        """Return an object, None if it does not exist, and the reason if it cannot be read. Secrets lose their private parts.

        The API server accepts any text as the Secret of a volume. A name with a slash would lead to another namespace.
        """
        if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
            return None, ""
        try:
            root = "/apis/apps/v1" if resource in _CONTROLLERS.values() else "/api/v1"
            obj = self._client.find(f"{root}/namespaces/{namespace}/{resource}/{name}")
        except ApiError as error:
            return None, error.message or error.cause
        if obj and resource == "secrets":
            public = {key: value for key, value in (obj.get("data") or {}).items() if key in _PUBLIC}
            mark = {INJECTABLE[0]: (obj["metadata"].get("annotations") or {}).get(INJECTABLE[0])}
            obj = {"kind": "Secret", "metadata": {"annotations": mark}, "data": public}
        return obj, ""

    def _read_trust_bundles(self) -> tuple[PublishedCa, ...]:
        """Return the ClusterTrustBundles of signers. Only clients that may attest for the signer can write them (KEP-3257)."""
        try:
            bundles = trust_anchors.read_bundles(self._client, "spec.signerName!=")
        except ApiError as error:
            return (PublishedCa("ClusterTrustBundles", problem=error.message or error.cause),)
        return tuple(PublishedCa(f"ClusterTrustBundle {name}", pem) for name, pem in bundles.items())


def _mounted(pod: Object) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each Secret that a volume of the pod holds."""
    for volume in pod["spec"].get("volumes") or ():
        yield from ((pod["metadata"]["namespace"], name) for name in secrets_of(volume))


def _text_of(obj: Object, key: str) -> str:
    """Return the text of a key of a Secret or ConfigMap, "" if it is missing or is not text."""
    value = str((obj.get("data") or {}).get(key) or "")
    if obj.get("kind") != "Secret":
        return value
    try:
        return base64.b64decode(value).decode()
    except ValueError:
        return ""
