# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.
"""Repair a certificate that no program renews: issue it again as k8s_csr does, for every object that calls the Service.

The Secret must have been issued by this collection, or be named by the user and hold the private key that the endpoints serve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .._base.accept import OTHER_CONTENT
from .._certificate import secret_store
from .._certificate.certificate_flow import ensure_certificate
from .._certificate.certificate_run import CertificateRun
from .._certificate.cluster_signer import ProviderOptions, find_provider, signer_of
from .._csr import markers
from .._csr.intent import Intent, intent_from
from .._csr.secret_content import ExistingSecret
from .._kube.approved_plan import PlanGuard
from .._kube.client import Client
from .._webhook.bundle_targets import ServiceName, Target
from .._webhook.workloads import ServingOptions
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from .bundle_repairs import ObjectChanged
from .repair_model import Action, Case, Refusal, RepairOptions, RepairWrite, Written
from .surroundings import MountedSecret


@dataclass(frozen=True)
class ReissueAction(Action):
    """A new certificate for one Secret."""

    service: ServiceName
    secret: MountedSecret
    #: The DNS names and IP addresses of the certificate in the Secret.
    names: tuple[str, ...]
    #: Every object that calls the Service.
    targets: tuple[Target, ...]
    #: The hashes of the public keys that the endpoints serve.
    served_keys: frozenset[str]

    @property
    def key(self) -> tuple[str, ...]:
        return ("reissue", str(self.secret))

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        own = ("v1", "Secret", self.secret.name, self.secret.namespace)
        content = [*self.service, sorted(self.names), sorted(map(str, self.targets))]
        return (RepairWrite("patch", *own, ("/data/tls.crt", "/data/tls.key"), content),)

    def carry_out(self, client: Client, options: RepairOptions, guard: PlanGuard) -> Written:
        """Run the certificate flow, under its Lease. Raises ObjectChanged, CertflowError."""
        intent = self._intent(client, options)
        held = secret_store.read(client, intent.secret)
        self._check_key(held)
        if held is not None and held.is_ours and held.key_type:
            intent = replace(intent, request=replace(intent.request, key_type=held.key_type))
        serving = ServingOptions(timeout=options.wait_timeout)
        result = ensure_certificate(
            CertificateRun(client, intent, self.targets, serving, options.check_mode, guard=guard)
        )
        if not result.changed:
            raise ObjectChanged(
                f"the certificate in {self.secret} is not due for renewal",
                remedy="Add the kind reload, which restarts the pods",
            )
        return Written()

    def _intent(self, client: Client, options: RepairOptions) -> Intent:
        """Return the wanted certificate. The provider of the cluster decides the signer. Annotations have no effect on it."""
        provider = ProviderOptions(providers=options.providers)
        parameters = {
            "service": self.service[1],
            "namespace": self.service[0],
            "secret": {"name": self.secret.name, "ca_key": "ca.crt" if self.secret.ca else ""},
            "signer_name": signer_of(find_provider(client, provider), provider),
            "names": list(self.names),
            "wait_timeout": options.wait_timeout,
        }
        return intent_from(parameters, options.consent)

    def _check_key(self, held: ExistingSecret | None) -> None:
        """Raise ObjectChanged unless this collection issued the Secret, or every endpoint serves its private key."""
        if held is not None and held.is_ours:
            return
        if held is None or not held.key_sha256 or self.served_keys != {held.key_sha256}:
            raise ObjectChanged(
                f"the private key in {self.secret} is not the one that every endpoint serves",
                remedy="Name in accept the Secret whose private key the endpoints serve",
                code="key-not-served",
            )


def plan_reissue(case: Case) -> ReissueAction | Refusal | None:
    """Return the new certificate for the Secret that the endpoints serve. None if the API server calls no Service."""
    service = case.point.config.service
    if service is None:
        return None
    issued_here = [secret for secret in case.around.secrets if _is_issued_here(secret, service)]
    candidates = {str(secret): secret for secret in (*issued_here, *case.around.named)}.values()
    served = case.served
    facts = [(secret, held) for secret in candidates if (held := _facts(secret))]
    if len(facts) != 1 or not served:
        return Refusal(
            "secret-not-known",
            f"{len(facts)} Secrets of Service {'/'.join(service)} were issued by this collection, or are named by the task. There must be exactly 1",
            f"Name the Secret that holds the served certificate with accept: [{{{OTHER_CONTENT}: [Secret/{service[0]}/NAME]}}]",
            tuple(map(str, case.around.secrets)),
        )
    ((secret, held),) = facts
    names = tuple(dict.fromkeys((*held.dns_names, *held.ip_addresses)))
    keys = frozenset(entry.public_key_sha256 for entry in served)
    return ReissueAction(service, secret, names, _callers(case, service), keys)


def _is_issued_here(secret: MountedSecret, service: ServiceName) -> bool:
    annotations = secret.metadata.get("annotations") or {}
    return markers.is_ours({"metadata": secret.metadata}) and annotations.get(markers.SERVICE) == "/".join(
        service
    )


def _facts(secret: MountedSecret) -> CertificateFacts | None:
    try:
        return certificate_facts.describe_pem(secret.certificate)
    except CertificateError:
        return None


def _callers(case: Case, service: ServiceName) -> tuple[Target, ...]:
    """Return every object whose caBundle verifies the Service."""
    webhooks: dict[tuple[str, str], list[str]] = {}
    for point in case.data.points:
        if point.is_verified and point.config.service == service:
            names = webhooks.setdefault((point.object.kind, point.object.name), [])
            names += filter(None, [point.config.webhook])
    return tuple(Target(kind, name, tuple(names)) for (kind, name), names in webhooks.items())
