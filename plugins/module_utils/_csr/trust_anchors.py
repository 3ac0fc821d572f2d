# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Which CA vouches for a certificate: found by verifying, never assumed.

The CA that signs requests is not the one in kube-root-ca.crt by right (KEP-1513): OpenShift, Gardener and old k3s
sign with another one. So each candidate is tried, and only certificates through which the leaf verifies are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from .._kube.client import Client
from .._kube.errors import Forbidden
from .._x509 import certificate_facts, pem_text
from .._x509.errors import CertificateError
from .._x509.verify import verify
from .errors import AnchorError
from .intent import Intent


@dataclass(frozen=True)
class AnchorCandidate:
    """A bundle that may vouch, and where it was found. ``problem`` says why there is none to try."""

    source: str
    pem: str = ""
    problem: str = ""


@dataclass(frozen=True)
class TrustAnchor:
    """The certificates of one candidate through which the leaf verifies, as PEM text."""

    source: str
    pem: str


# ConfigMaps in which clusters publish CAs: (namespace, "" for the Secret's own; name; key; source).
CONFIG_MAPS: tuple[tuple[str, str, str, str], ...] = (
    ("", "kube-root-ca.crt", "ca.crt", "root-ca-cert-publisher of kube-controller-manager"),
    (
        "openshift-config-managed",
        "csr-controller-ca",
        "ca-bundle.crt",
        "OpenShift's cluster-kube-controller-manager-operator",
    ),
)

_RECORDED = "the anchor that an earlier run added to the targets"


def candidates(
    client: Client, intent: Intent, certificate_pem: str, recorded: str = "", *, own: str = ""
) -> Iterator[AnchorCandidate]:
    """Candidates in the order in which they count; each is read only when the ones before it did not do.

    recorded: the PEM text of anchors that earlier runs found and added, where they still stand.
    own: that of the CA that this collection made for the certificate, "" where a signer of the cluster was asked.
    """
    if not intent.signer.is_asked:
        # Nobody but this collection knows its CA, and trusting that is as narrow as trusting the certificate: it
        # signs nothing else. So neither trust nor ca_bundle has a meaning.
        if own:
            yield AnchorCandidate(f"the CA made for this certificate alone, kept in {intent.secret}", own)
        if recorded:
            yield AnchorCandidate(_RECORDED, recorded)
        return
    if intent.trust == "leaf":
        leaf = certificate_facts.load_leaf_and_chain(certificate_pem)[0]
        yield AnchorCandidate("the certificate itself (trust: leaf)", certificate_facts.to_pem(leaf))
        return
    if intent.ca_bundle:
        yield AnchorCandidate("the task's ca_bundle", intent.ca_bundle)
    if client.connection.ca_pem:
        yield AnchorCandidate(f"the API server's CA in {client.auth_source}", client.connection.ca_pem)
    if recorded:  # saves the requests below on clusters that sign with a CA of its own (OpenShift)
        yield AnchorCandidate(_RECORDED, recorded)
    for namespace, name, key, _source in CONFIG_MAPS:
        yield _published(client, namespace or intent.secret.namespace, name, key)
    if intent.trust == "chain":
        _leaf, chain = certificate_facts.load_leaf_and_chain(certificate_pem)
        text = "".join(certificate_facts.to_pem(certificate) for certificate in chain)
        yield AnchorCandidate(
            "the chain that came with the certificate (trust: chain)", text, "" if text else "it is empty"
        )


def choose(
    intent: Intent, certificate_pem: str, offered: Iterable[AnchorCandidate], now: datetime
) -> TrustAnchor:
    """The first candidate that vouches. Raises AnchorError that lists all of them and why each did not do."""
    leaf, chain = certificate_facts.load_leaf_and_chain(certificate_pem)
    usage = "client auth" if intent.is_client else "server auth"
    tried: list[str] = []
    for candidate in offered:
        reason = candidate.problem
        if not reason:
            verdict = verify(
                leaf, candidate.pem, name=intent.verified_name, intermediates=chain, now=now, usage=usage
            )
            if verdict.ok:
                return TrustAnchor(candidate.source, _only(candidate.pem, verdict.anchors))
            reason = verdict.reason
        tried.append(f"{candidate.source}: {reason}")
    raise AnchorError(
        f"no CA that is known here vouches for the {intent}, issued by {leaf.issuer.rfc4514_string()}",
        evidence=tried,
        remedy="give that CA in ca_bundle; or choose trust: chain where the signer sends its CA along, or trust: leaf "
        "to trust the certificate alone",
    )


def _published(client: Client, namespace: str, name: str, key: str) -> AnchorCandidate:
    source = f"ConfigMap {namespace}/{name}"
    try:
        config_map = client.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    except Forbidden:
        return AnchorCandidate(source, problem="not readable for this identity")
    text = str(((config_map or {}).get("data") or {}).get(key) or "")
    return AnchorCandidate(source, text, "" if text else "there is none")


def _only(pem: str, fingerprints: Iterable[str]) -> str:
    """The certificates with these fingerprints, in the order of the bundle, each once."""
    wanted, kept = set(fingerprints), {}
    for block in pem_text.blocks(pem):
        try:
            certificate = certificate_facts.load_block(block)
        except CertificateError:
            continue  # Go skips what it cannot parse
        if certificate_facts.fingerprint(certificate) in wanted:
            kept[certificate_facts.fingerprint(certificate)] = certificate_facts.to_pem(certificate)
    return "".join(kept.values())
