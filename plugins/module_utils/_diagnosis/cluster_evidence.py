# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the cluster shows around a request, read for the rules that explain it. The edge of diagnosing.

Each fact is read once, and only when a request needs it. What this identity may not read is a sentence in the
observation, never a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, TypeVar

from .._csr import providers, trust_anchors
from .._csr.approval import approval_permissions
from .._csr.csr_content import COLLECTION
from .._csr.providers import ProviderVerdict
from .._kube.access_review import Permission, find_missing
from .._kube.client import Client
from .._kube.cluster_facts import (
    ManagerFlags,
    ManagerLease,
    find_manager_lease,
    read_cluster_facts,
    read_manager_flags,
)
from .._kube.errors import ApiError
from .._x509 import certificate_facts, pem_text
from .._x509.errors import CertificateError
from . import shortened, signer_stats
from .diagnose import diagnose
from .diagnosis import Diagnosis
from .observation import (
    APPROVED,
    CERT_MANAGER,
    CONTROLLED,
    ISSUED,
    PENDING,
    CertManagerIssuer,
    CsrObservation,
    PublishedCa,
    SignerEvent,
)
from .signer_stats import SignerStats
from .unissued import unserved

EVENTS = "/api/v1/namespaces/default/events"  # where those of cluster-wide objects are
CERT_MANAGER_API = "/apis/cert-manager.io"
PEERS_PAGE = "500"
T = TypeVar("T")


class ClusterEvidence:
    """The facts around the requests of one cluster.

    provider: where it is known already. listed: all requests of the cluster, where they have been read.
    """

    def __init__(
        self,
        client: Client,
        provider: ProviderVerdict | None = None,
        listed: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._client = client
        self._known: dict[str, Any] = {} if provider is None else {"provider": provider}
        self._faults: dict[str, str] = {}
        self._used: list[str] = []
        self._listed = None if listed is None else signer_stats.group_by_signer(listed)
        self._lease: ManagerLease | None = None

    def explain(self, csr: Mapping[str, Any]) -> Diagnosis | None:
        """Why the request is not issued, or not as asked for; None where all is well."""
        return diagnose(self.observe(csr))

    def observe(self, csr: Mapping[str, Any]) -> CsrObservation:
        """What is known of the request, after reading what its state and its signer call for."""
        self._used = []
        facts = dict(self._facts(csr))
        faults = (self._faults[fact] for fact in self._used if fact in self._faults)
        return CsrObservation(csr, self._client.now(), **facts, unreadable=tuple(dict.fromkeys(faults)))

    def look_again(self, *, everything: bool) -> None:
        """Forget what changes while a request is waited for: the Lease, or with it the requests of others and Events."""
        changing = ("Lease", "requests", "Events") if everything else ("Lease",)
        for fact in [fact for fact in self._known if fact.startswith(changing)]:
            del self._known[fact]
            self._faults.pop(fact, None)

    def seconds_to_the_next_proof(self, csr: Mapping[str, Any]) -> float:
        """When a look at the Lease of the controller-manager may tell more than the last one did."""
        lease = self._lease
        if (
            lease is None
            or csr["spec"]["signerName"] not in CONTROLLED
            or lease.runs_out <= self._client.now()
        ):
            return float("inf")
        return (lease.runs_out - self._client.now()).total_seconds() + 1.0

    def _facts(self, csr: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        seen = CsrObservation(csr, self._client.now())
        if seen.symptom == ISSUED and shortened.is_noteworthy(csr, seen.now):
            yield "authorities", self._authorities()
            yield "provider", self._known.get("provider")
        if seen.symptom not in (PENDING, APPROVED):
            return
        provider = self._provider()
        yield "provider", provider
        peers = self._peers(seen.signer)
        yield "peers", peers.beside(csr, seen.now) if peers else None
        if seen.symptom == PENDING:
            yield "lacking", self._lacking(seen.signer)
        # Where the table says who else serves this signer, the controller-manager has no part in it.
        if not unserved(CsrObservation(csr, seen.now, provider=provider)):
            yield from self._facts_of_signer(csr, seen.signer, peers)

    def _facts_of_signer(
        self, csr: Mapping[str, Any], signer: str, peers: SignerStats | None
    ) -> Iterator[tuple[str, Any]]:
        if signer in CONTROLLED:
            yield "lease", self._read_lease()
            yield "flags", self._flags()
        else:
            yield "reports", self._reports().get(csr["metadata"]["uid"], ())
        if signer in CONTROLLED or (peers and peers.issuers):
            yield "authorities", self._authorities()
        if signer.startswith(CERT_MANAGER):
            yield "issuer", self._issuer(signer)

    # The facts, each under the name by which a failure to read it is told

    def _once(self, fact: str, read: Callable[[], T], otherwise: T) -> T:
        self._used.append(fact)
        if fact not in self._known:
            try:
                self._known[fact] = read()
            except ApiError as error:
                self._known[fact] = otherwise
                self._faults[fact] = f"cannot read {fact}: {error.message or error.cause}"
        value: T = self._known[fact]
        return value

    def _provider(self) -> ProviderVerdict:
        if "provider" not in self._known:  # what of it cannot be read stands in its evidence
            self._known["provider"] = providers.detect(read_cluster_facts(self._client))
        verdict: ProviderVerdict = self._known["provider"]
        return verdict

    def _peers(self, signer: str) -> SignerStats | None:
        def read() -> SignerStats | None:
            found: Iterable[Mapping[str, Any]]
            if self._listed is not None:
                found = self._listed.get(signer, ())
            else:
                query = {"fieldSelector": f"spec.signerName={signer}", "limit": PEERS_PAGE}
                found = self._client.get(COLLECTION, query).get("items") or ()
            return signer_stats.count_requests(signer_stats.without_nodes(found), self._client.now())

        return self._once(f"requests of the signer {signer}", read, None)

    def _read_lease(self) -> ManagerLease | None:
        self._lease = self._once(
            "Lease kube-system/kube-controller-manager",
            lambda: find_manager_lease(self._client, before=self._lease),
            None,
        )
        return self._lease

    def _flags(self) -> tuple[ManagerFlags, ...]:
        return self._once("pods in kube-system", lambda: read_manager_flags(self._client), ())

    def _lacking(self, signer: str) -> tuple[Permission, ...] | None:
        def ask(permission: Permission) -> tuple[Permission, ...] | None:
            return self._once(
                f"the right to {permission.verb} {permission.resource} {permission.name}".rstrip(),
                lambda: tuple(find_missing(self._client, [permission])),
                None,
            )

        answers = [ask(permission) for permission in approval_permissions(signer)]
        return (
            None
            if None in answers
            else tuple(permission for answer in answers for permission in answer or ())
        )

    def _authorities(self) -> tuple[PublishedCa, ...]:
        source = f"the API server's CA in {self._client.auth_source}"
        found = list(_read_authorities(source, self._client.connection.ca_pem or "", False))
        for namespace, name, key, _source in trust_anchors.CONFIG_MAPS:
            where = f"{namespace or 'kube-system'}/{name}"
            text = self._once(f"ConfigMap {where}", partial(self._config_map, where, key), "")
            found += _read_authorities(f"ConfigMap {where}", text, bool(namespace))
        return tuple(found)

    def _config_map(self, where: str, key: str) -> str:
        namespace, name = where.split("/")
        obj = self._client.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return str(((obj or {}).get("data") or {}).get(key) or "")

    def _reports(self) -> Mapping[str, tuple[SignerEvent, ...]]:
        """Events on certificate signing requests, by UID, the oldest first."""
        return self._once("Events", lambda: dict(_by_uid(self._client)), {})

    def _issuer(self, signer: str) -> CertManagerIssuer:
        kind, name = signer.split(".", 1)[0], signer.partition("/")[2]
        namespace, _dot, bare = name.partition(".")
        path = (
            f"clusterissuers/{name}" if kind == "clusterissuers" else f"namespaces/{namespace}/issuers/{bare}"
        )
        text = f"ClusterIssuer {name}" if kind == "clusterissuers" else f"Issuer {namespace}/{bare}"
        exists = self._once(text, partial(self._exists, f"{CERT_MANAGER_API}/v1/{path}"), None)
        installed = exists or self._once("cert-manager's API", partial(self._exists, CERT_MANAGER_API), None)
        return CertManagerIssuer(text, installed, False if installed is False else exists)

    def _exists(self, path: str) -> bool | None:
        return self._client.find(path) is not None


def _read_authorities(source: str, pem: str, for_requests: bool) -> Iterator[PublishedCa]:
    for block in pem_text.blocks(pem):
        try:
            facts = certificate_facts.describe(certificate_facts.load_block(block))
        except CertificateError:
            continue
        yield PublishedCa(source, facts.subject, facts.not_after, for_requests)


def _by_uid(client: Client) -> Iterator[tuple[str, tuple[SignerEvent, ...]]]:
    query = {"fieldSelector": "involvedObject.kind=CertificateSigningRequest", "limit": "500"}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in client.get(EVENTS, query).get("items") or ():
        found.setdefault(event["involvedObject"].get("uid", ""), []).append(event)
    for uid, events in found.items():
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        yield uid, tuple(map(_report, events))


def _report(event: Mapping[str, Any]) -> SignerEvent:
    reporter = event.get("reportingComponent") or (event.get("source") or {}).get("component") or ""
    reason, message = (" ".join(str(event.get(key) or "").split()) for key in ("reason", "message"))
    return SignerEvent(reporter, reason, message, event.get("type") == "Warning")
