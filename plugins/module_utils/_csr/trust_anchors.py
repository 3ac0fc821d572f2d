# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the CA that vouches for a certificate, by verifying the certificate against candidates.

The CA that signs requests need not be the one in kube-root-ca.crt (KEP-1513). OpenShift, Gardener and old k3s sign with
another one. So each candidate is tried, and only the certificates through which the leaf verifies are used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from .._kube.access_review import Permission, missing_permissions
from .._kube.client import Client
from .._kube.errors import ApiError, Forbidden, NotFound
from .._x509 import certificate_facts
from .._x509.chain.chain_judge import LEAF, ChainBreak, judge
from .errors import AnchorError
from .intent import Intent

# ClusterTrustBundles, in which signers publish their CAs (KEP-3257).
_GROUP, _RESOURCE = "certificates.k8s.io", "clustertrustbundles"
# v1 is served from Kubernetes 1.37 on. The older versions are off by default.
_VERSIONS = ("v1", "v1beta1", "v1alpha1")


@dataclass(frozen=True)
class PublishedCa:
    """A bundle of CAs that may vouch for a certificate."""

    #: Where it was found.
    source: str
    pem: str = ""
    #: The reason why there is no bundle to try, or "".
    problem: str = ""


@dataclass(frozen=True)
class TrustAnchor:
    """The certificates of one candidate through which the leaf verifies, as PEM text."""

    source: str
    pem: str
    #: The date that leaves no chain, None if it is not known.
    breaks: ChainBreak | None = None

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Return a warning if another certificate of the chain ends before the leaf."""
        if self.breaks is None or self.breaks.place == LEAF:
            return ()
        return (f"{self.breaks.in_words(now)}, before the certificate that it verifies",)


@dataclass(frozen=True)
class CaPlace:
    """An object in which a program publishes a CA."""

    resource: str
    #: "" for any namespace. {namespace} and {service} are those of a Service.
    namespace: str
    name: str
    keys: tuple[str, ...]
    #: The program that writes it.
    source: str
    #: An annotation that the object must have, None for none.
    mark: tuple[str, str] | None = None
    #: True for a CA of a signer of the cluster, False for one of a program that serves a webhook.
    is_cluster_ca: bool = False


_CERTIFICATE, _CA = "tls.crt", "ca.crt"
INJECTABLE = ("cert-manager.io/allow-direct-injection", "true")
#: In the order in which they are tried.
PLACES = (
    CaPlace("secrets", "{namespace}", "{service}.{namespace}.svc.kyverno-tls-ca", (_CERTIFICATE, "rootCA.crt"), "kyverno pkg/tls"),
    CaPlace("secrets", "{namespace}", "{service}-ca", (_CA, _CERTIFICATE), "cert-manager pkg/server/tls/authority", INJECTABLE),
    # istiod writes it to each namespace. Clients that may write ConfigMaps only in another namespace cannot write this one.
    CaPlace("configmaps", "istio-system", "istio-ca-root-cert", ("root-cert.pem",), "istio pilot/pkg/serviceregistry/kube/controller"),
    CaPlace("configmaps", "", "kube-root-ca.crt", (_CA,), "kube-controller-manager root-ca-cert-publisher", is_cluster_ca=True),
    CaPlace(
        "configmaps", "openshift-config-managed", "csr-controller-ca", ("ca-bundle.crt",),
        "OpenShift cluster-kube-controller-manager-operator", is_cluster_ca=True,
    ),
    CaPlace(
        "configmaps", "openshift-config-managed", "kubelet-serving-ca", ("ca-bundle.crt",),
        "openshift/hypershift hosted-cluster-config-operator", is_cluster_ca=True,
    ),
)  # fmt: skip
CONFIG_MAPS = tuple(place for place in PLACES if place.is_cluster_ca)

_RECORDED = "the anchor that an earlier run added to the targets"


def candidates(
    client: Client, intent: Intent, certificate_pem: str, recorded: str = "", *, own: str = ""
) -> Iterator[PublishedCa]:
    """Yield the candidates in their order of precedence. Each is read only if the ones before it did not verify.

    recorded: the PEM text of anchors that earlier runs added and that are still in the targets.
    own: the PEM text of the CA that this collection made for the certificate, or "" for a signer of the cluster.
    """
    if not intent.signer.is_asked:
        # This CA signs nothing else, so trust in it is as narrow as trust in the certificate. The options trust and
        # ca_bundle have no effect.
        if own:
            yield PublishedCa(f"the CA made only for this certificate, stored in {intent.secret}", own)
        if recorded:
            yield PublishedCa(_RECORDED, recorded)
        return
    if intent.trust == "leaf":
        leaf = certificate_facts.load_leaf_and_chain(certificate_pem)[0]
        yield PublishedCa("the certificate itself (trust: leaf)", leaf.pem)
        return
    if intent.ca_bundle:
        yield PublishedCa("the task's ca_bundle", intent.ca_bundle)
    if client.connection.ca_pem:
        yield PublishedCa(f"the API server's CA in {client.auth_source}", client.connection.ca_pem)
    if recorded:  # This saves the requests below on clusters with another signing CA (OpenShift).
        yield PublishedCa(_RECORDED, recorded)
    for config_map in CONFIG_MAPS:
        yield _read_published(client, config_map, intent.secret.namespace)
    yield from _read_trust_bundles(client, intent.signer.name)
    if intent.trust == "chain":
        _leaf, chain = certificate_facts.load_leaf_and_chain(certificate_pem)
        text = "".join(certificate.pem for certificate in chain)
        yield PublishedCa(
            "the chain that came with the certificate (trust: chain)", text, "" if text else "it is empty"
        )


def choose(
    intent: Intent, certificate_pem: str, offered: Iterable[PublishedCa], now: datetime
) -> TrustAnchor:
    """Return the first candidate that verifies. Raise AnchorError that lists why each candidate does not."""
    leaf, chain = certificate_facts.load_leaf_and_chain(certificate_pem)
    usage = "client auth" if intent.is_client else "server auth"
    tried: list[str] = []
    for candidate in offered:
        reason = candidate.problem
        if not reason:
            judged = judge(
                leaf, candidate.pem, name=intent.verified_name, intermediates=chain, now=now, usage=usage
            )
            if judged.verdict.ok:
                pem = select_certificates(candidate.pem, judged.verdict.anchors)
                return TrustAnchor(candidate.source, pem, judged.breaks[0])
            reason = judged.refusal
        tried.append(f"{candidate.source}: {reason}")
    raise AnchorError(
        f"no known CA vouches for the {intent}, issued by {leaf.issuer}",
        evidence=tried,
        remedy="Set ca_bundle to that CA. If the signer sends its CA with the certificate, trust: chain accepts it. "
        "trust: leaf trusts only the certificate itself",
    )


def _read_published(client: Client, config_map: CaPlace, own_namespace: str) -> PublishedCa:
    namespace = config_map.namespace or own_namespace
    source = f"ConfigMap {namespace}/{config_map.name}"
    try:
        obj = client.find(f"/api/v1/namespaces/{namespace}/configmaps/{config_map.name}")
    except Forbidden:
        return PublishedCa(source, problem="this identity has no permission to read it")
    text = str(((obj or {}).get("data") or {}).get(config_map.keys[0]) or "")
    return PublishedCa(source, text, "" if text else "it does not exist")


def _read_trust_bundles(client: Client, signer_name: str) -> Iterator[PublishedCa]:
    try:
        bundles = read_bundles(client, f"spec.signerName={signer_name}")
    except ApiError as error:
        yield PublishedCa(f"ClusterTrustBundles of {signer_name}", problem=error.message or error.cause)
        return
    for name, pem in bundles.items():
        yield PublishedCa(f"ClusterTrustBundle {name}", pem, "" if pem else "it is empty")


def select_certificates(pem: str, fingerprints: Iterable[str]) -> str:
    """Return the certificates with these fingerprints, in the order of the bundle, each once."""
    wanted = set(fingerprints)
    kept = {entry.fingerprint: entry for entry in certificate_facts.load_readable(pem)}
    return "".join(entry.pem for print_, entry in kept.items() if print_ in wanted)


def read_bundles(client: Client, selector: str) -> dict[str, str]:
    """Return the bundles by name, as PEM text. Empty if the API server serves no bundles.

    selector: a field selector of spec.signerName or metadata.name. Raises ApiError, for example Forbidden.
    """
    for version in _VERSIONS:
        with contextlib.suppress(NotFound):
            path = f"/apis/{_GROUP}/{version}/{_RESOURCE}"
            answer = client.list_all(path, {"fieldSelector": selector})
            return {str(obj["metadata"]["name"]): str(obj["spec"]["trustBundle"]) for obj in answer["items"]}
    return {}


def read_bundle_source(client: Client, *, name: str | None, signer_name: str | None) -> str:
    """Return the PEM text of the bundle of that name, or of all bundles of that signer.

    Raises AnchorError if there is no such bundle, MissingPermissions, and ApiError.
    """
    field, value = ("metadata.name", name) if name else ("spec.signerName", signer_name)
    try:
        # An empty value, such as that of an empty variable, selects each bundle without a signer.
        bundles = read_bundles(client, f"{field}={value}") if value else {}
    except Forbidden as error:
        lacking = [Permission("list", _GROUP, _RESOURCE)]
        raise missing_permissions(lacking, "read ClusterTrustBundles", error.message) from error
    pem = "\n".join(bundles.values())
    if not pem:
        raise AnchorError(
            f"the cluster has no ClusterTrustBundle whose {field} is {value or 'empty'}",
            remedy="List them with kubectl get clustertrustbundles. Kubernetes serves them by default from 1.37 on",
        )
    return pem
