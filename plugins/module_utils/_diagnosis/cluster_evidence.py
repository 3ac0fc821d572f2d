# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the facts about a request and its cluster for the rules that explain the request.

Each fact is read once, and only if a request needs it. A fact that this identity may not read is a sentence in the
observation, and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, TypeVar

from .._csr import trust_anchors
from .._csr.issuing import providers
from .._csr.issuing.providers import ProviderVerdict
from .._csr.request.approval import approval_permissions
from .._csr.request.csr_content import COLLECTION
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
from .._x509 import certificate_facts
from .._x509.encoding import pem_text
from .._x509.errors import CertificateError
from . import observation
from .causes import diagnose
from .observation import (
    APPROVED,
    BUILT_IN_SIGNERS,
    PENDING,
    CsrObservation,
    Diagnosis,
    PublishedAuthority,
    SignerEvent,
    SignerStats,
)
from .unissued import find_unserved

EVENTS = "/api/v1/namespaces/default/events"  # the namespace of Events on cluster-wide objects
PAGE_SIZE = "500"
T = TypeVar("T")


class ClusterEvidence:
    """The facts about the requests of one cluster.

    provider: the provider, if it is known already.
    listed: all requests of the cluster, if they have been read already.
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
        self._listed = None if listed is None else observation.group_by_signer(listed)
        self._lease: ManagerLease | None = None

    def explain(self, csr: Mapping[str, Any]) -> Diagnosis | None:
        """Return why the request is not issued, or not as it was requested. Return None if there is no fault."""
        return diagnose(self.observe(csr))

    def observe(self, csr: Mapping[str, Any]) -> CsrObservation:
        """Read the facts that the state and the signer of the request require."""
        self._used = []
        facts = dict(self._facts(csr))
        faults = (self._faults[fact] for fact in self._used if fact in self._faults)
        return CsrObservation(csr, self._client.now(), **facts, unreadable=tuple(dict.fromkeys(faults)))

    def forget(self) -> None:
        """Forget the facts that change during a wait."""
        for fact in [fact for fact in self._known if fact.startswith(("Lease", "requests", "Events"))]:
            del self._known[fact]
            self._faults.pop(fact, None)

    def _facts(self, csr: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        request = CsrObservation(csr, self._client.now())
        if request.symptom not in (PENDING, APPROVED):
            return
        provider = self._read_provider()
        yield "provider", provider
        stats = self._read_stats(request.signer)
        yield "stats", stats.without(csr, request.now) if stats else None
        if request.symptom == PENDING:
            yield "lacking", self._review_approval(request.signer)
        # If the provider does not serve this signer, the controller manager has no part in it.
        if not find_unserved(CsrObservation(csr, request.now, provider=provider)):
            yield from self._signer_facts(csr, request.signer, stats)

    def _signer_facts(
        self, csr: Mapping[str, Any], signer: str, stats: SignerStats | None
    ) -> Iterator[tuple[str, Any]]:
        if signer in BUILT_IN_SIGNERS:
            yield "lease", self._read_lease()
            yield "flags", self._read_flags()
        else:
            yield "events", self._read_events().get(csr["metadata"]["uid"], ())
        if signer in BUILT_IN_SIGNERS or (stats and stats.issuers):
            yield "authorities", self._read_authorities()

    def _once(self, fact: str, read: Callable[[], T], default: T) -> T:
        """Return a fact, which is read once. fact: its name in the sentence about a failure to read it."""
        self._used.append(fact)
        if fact not in self._known:
            try:
                self._known[fact] = read()
            except ApiError as error:
                self._known[fact] = default
                self._faults[fact] = f"cannot read {fact}: {error.message or error.cause}"
        value: T = self._known[fact]
        return value

    def _read_provider(self) -> ProviderVerdict:
        if "provider" not in self._known:  # Its evidence names what could not be read.
            self._known["provider"] = providers.detect(read_cluster_facts(self._client))
        verdict: ProviderVerdict = self._known["provider"]
        return verdict

    def _read_stats(self, signer: str) -> SignerStats | None:
        def read() -> SignerStats | None:
            csrs: Iterable[Mapping[str, Any]]
            if self._listed is not None:
                csrs = self._listed.get(signer, ())
            else:
                query = {"fieldSelector": f"spec.signerName={signer}", "limit": PAGE_SIZE}
                csrs = self._client.get(COLLECTION, query).get("items") or ()
            return observation.count_requests(csrs, self._client.now())

        return self._once(f"requests of the signer {signer}", read, None)

    def _read_lease(self) -> ManagerLease | None:
        self._lease = self._once(
            "Lease kube-system/kube-controller-manager",
            lambda: find_manager_lease(self._client, before=self._lease),
            None,
        )
        return self._lease

    def _read_flags(self) -> tuple[ManagerFlags, ...]:
        return self._once("pods in kube-system", lambda: read_manager_flags(self._client), ())

    def _review_approval(self, signer: str) -> tuple[Permission, ...] | None:
        """Return the permissions that this identity lacks to approve, or None if a review failed."""
        wanted = approval_permissions(signer)
        return self._once(
            f"the permission to approve for the signer {signer}",
            lambda: tuple(find_missing(self._client, wanted)),
            None,
        )

    def _read_authorities(self) -> tuple[PublishedAuthority, ...]:
        source = f"the API server's CA in {self._client.auth_source}"
        authorities = list(_parse_authorities(source, self._client.connection.ca_pem or "", False))
        for config_map in trust_anchors.CONFIG_MAPS:
            where = f"{config_map.namespace or 'kube-system'}/{config_map.name}"
            read = partial(self._read_config_map, where, config_map.keys[0])
            text = self._once(f"ConfigMap {where}", read, "")
            authorities += _parse_authorities(f"ConfigMap {where}", text, bool(config_map.namespace))
        return tuple(authorities)

    def _read_config_map(self, where: str, key: str) -> str:
        namespace, name = where.split("/")
        obj = self._client.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return str(((obj or {}).get("data") or {}).get(key) or "")

    def _read_events(self) -> Mapping[str, tuple[SignerEvent, ...]]:
        """Return the Events on certificate signing requests, by the UID of the request, the oldest first."""
        return self._once("Events", lambda: dict(_events_by_uid(self._client)), {})


def _parse_authorities(source: str, pem: str, signs_requests: bool) -> Iterator[PublishedAuthority]:
    for block in pem_text.blocks(pem):
        try:
            facts = certificate_facts.load_block(block)
        except CertificateError:
            continue
        yield PublishedAuthority(source, facts.subject, facts.not_after, signs_requests)


def _events_by_uid(client: Client) -> Iterator[tuple[str, tuple[SignerEvent, ...]]]:
    query = {"fieldSelector": "involvedObject.kind=CertificateSigningRequest", "limit": PAGE_SIZE}
    by_uid: dict[str, list[Mapping[str, Any]]] = {}
    for event in client.get(EVENTS, query).get("items") or ():
        by_uid.setdefault(event["involvedObject"].get("uid", ""), []).append(event)
    for uid, events in by_uid.items():
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        yield uid, tuple(map(_parse_event, events))


def _parse_event(event: Mapping[str, Any]) -> SignerEvent:
    reporter = event.get("reportingComponent") or (event.get("source") or {}).get("component") or ""
    reason, message = (" ".join(str(event.get(key) or "").split()) for key in ("reason", "message"))
    return SignerEvent(reporter, reason, message, event.get("type") == "Warning")
