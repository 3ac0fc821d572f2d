# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair caBundles around a rotation of the cluster's CA: add the successor, and later remove the outgoing CA. Pure.

The successor is added before the switch, so that no call fails at the switch, and also after it (aws/containers-roadmap#2874). The
outgoing CA is removed only if it is proven that no endpoint needs it, and that the cluster does not return to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from .._audit.facts.cluster_data import CaData, ClusterData
from .._base.errors import CertflowError
from .._base.text import some
from .._base.times import format_time
from .._csr.ca_rotation import ClusterCa, ClusterCas, published_cas, signer_of
from .._webhook.bundles import bundle_content
from .._x509 import certificate_facts
from .._x509.chain.issuer_index import IssuerIndex
from .bundle_repairs import (
    ABSENT,
    APPEND,
    BundleAction,
    plan_edit,
    refusal_to_remove,
)
from .repair_model import WAITING, Case, Refusal, RotationOptions

#: A controller manager that has not switched may become the leader again, and sign with the outgoing CA.
SETTLED_AFTER = timedelta(hours=24)
#: cainjector reads the CA that it injects from its own ServiceAccount, once at its start
#: (https://cert-manager.io/docs/concepts/ca-injector/).
_CERT_SIGN = certificate_facts.KEY_USAGES["key_cert_sign"]
#: Also in the versions of EKS Anywhere and of EKS Distro.
_EKS_VERSION = "-eks-"
_INJECTS_OWN_CA = ("cert-manager.io/inject-apiserver-ca", "true")


def plan_add_successor(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that adds each CA that the caBundle needs, and removes nothing. None without a rotation."""
    if case.data.ca is None:
        return None
    at = case.finding.breaks_at
    until = f". Calls fail from {format_time(at)} on" if at else ""
    name, _value = _INJECTS_OWN_CA
    if _INJECTS_OWN_CA in (case.around.obj["metadata"].get("annotations") or {}).items():
        return Refusal(
            "injected-at-start",
            f"cainjector writes the CA that it read at its start, because of the annotation {name}{until}",
            "Restart the Deployment of cainjector, so that it reads the successor",
            state=WAITING,
        )
    missing = case.data.ca.cas.missing_in(case.point.config.ca_bundle)
    # The API server needs no root above a CA of a caBundle. The root of a company verifies more than the cluster's CA.
    own = (entry.pem for ca in missing for entry in ca.certificates if entry.fingerprint in ca.fingerprints)
    planned = plan_edit(case, "".join(own), mode=APPEND)
    return replace(planned, reason=planned.reason + until) if isinstance(planned, Refusal) else planned


def plan_remove_outgoing(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that removes the CAs that are outgoing, and those that the user names, if they may go."""
    ca, bundle, now = case.data.ca, case.point.config.ca_bundle, case.data.now
    if ca is None:
        return None
    # The finding ca-left is about CAs that the cluster no longer publishes. The removal of others would not settle it.
    published = () if case.finding.check == "ca-left" else ca.cas.superseded
    prints = case.options.rotation.outgoing.union(*(entry.fingerprints for entry in published))
    going = [entry for entry in bundle_content.certificates(bundle) if entry.fingerprint in prints]
    if not going:
        return None
    pem = "".join(entry.pem for entry in going)
    for chain in case.serves.seen:
        signer = signer_of(ca.cas.cas, *chain.parsed)
        if chain.certificate and signer and not signer.fingerprints.isdisjoint(prints):
            return Refusal(
                "outgoing-served",
                f"{chain.endpoint} serves a certificate of the outgoing CA until {format_time(chain.certificate.not_after)}",
                "Let the owner of the certificate renew it",
                state=WAITING,
            )
    left = bundle_content.merge(bundle, pem, mode=ABSENT, now=now)
    if not bundle_content.certificates(left):
        return Refusal(
            "still-needed",
            "the caBundle would be empty, so the API server would trust the roots of its own machine",
            "Add the CA that verifies what the endpoints serve first",
        )
    return refusal_to_remove(case, left, going) or plan_edit(case, pem, mode=ABSENT)


def check_options(data: ClusterData, options: RotationOptions) -> None:
    """Raise CertflowError if the user names a CA that cannot be a successor of this cluster, or one that it needs as outgoing."""
    cas = data.ca.cas if data.ca else None
    if cas and any(not options.outgoing.isdisjoint(ca.fingerprints | ca.above) for ca in cas.needed):
        raise CertflowError(
            "outgoing in the option cluster_ca names a CA that this cluster uses, or that it will use",
            evidence=[str(ca) for ca in cas.needed],
            remedy="Remove the CA from the published CAs of the cluster first, or remove it from outgoing",
        )
    if not options.successor:
        return
    if cas is None:
        raise CertflowError(
            "no published CA of this cluster is known to be in use, so no successor can be compared with it",
            remedy="Audit the cluster, and follow the remedy of the unknown findings",
        )
    published = published_cas(data.cluster_ca or data.kubeconfig_ca)
    for ca in published_cas(options.successor):
        reason = _fault_of_successor(ca, cas, published, options, data.now)
        if reason:
            raise CertflowError(
                f"the successor in the option cluster_ca is not one of this cluster: {reason}",
                evidence=[f"successor: {ca}", *(f"CA in use: {entry}" for entry in cas.in_use)],
                remedy="Set successor to the CA to which this cluster switches next, with the twin that the CA in use signed. "
                "To trust another CA, use the module webhook_cabundle",
            )


def _fault_of_successor(
    ca: ClusterCa,
    cas: ClusterCas,
    published: Iterable[ClusterCa],
    options: RotationOptions,
    now: datetime,
) -> str:
    """Return why a CA cannot be the successor, "" if it can be."""
    for facts in ca.certificates:
        usages = set(facts.usages).intersection(certificate_facts.KEY_USAGES.values())
        if not facts.is_ca or (usages and _CERT_SIGN not in usages):
            return f"{facts.subject} is not a CA"
        if not facts.not_before <= now < facts.not_after:
            return f"{facts.subject} is valid from {format_time(facts.not_before)} to {format_time(facts.not_after)}"
    used = next((entry for entry in cas.in_use if not entry.fingerprints.isdisjoint(ca.fingerprints)), None)
    if used:
        # After the switch, the phase runs again with the same options.
        return "" if cas.superseded or used is not cas.in_use[0] else "it is the CA in use"
    if ca.begin <= cas.in_use[0].begin:
        return "it is older than the CA in use"
    is_known = any(not entry.fingerprints.isdisjoint(ca.fingerprints) for entry in published)
    described = {entry.fingerprint for entry in options.eks_cas}
    # The description of another cluster does not have the CA in use of this one.
    is_own = any(not described.isdisjoint(entry.fingerprints) for entry in cas.in_use)
    is_named = is_own and not described.isdisjoint(ca.fingerprints)
    index = IssuerIndex(issuer for entry in published for issuer in entry.certificates)
    is_crossed = any(True for entry in ca.certificates for _key in index.issuers(entry))
    if is_known or is_named or is_crossed:
        return ""
    return "the cluster does not publish it, Amazon EKS does not name it together with the CA in use, and no published CA signed a twin of it"


def find_wait(data: ClusterData, options: RotationOptions) -> Refusal | None:
    """Return what the removal of the outgoing CA waits for in the whole cluster, None if it waits for nothing."""
    return next(_waits(data, data.rotation, options), None) if data.rotation else None


def _waits(data: ClusterData, ca: CaData, options: RotationOptions) -> Iterator[Refusal]:
    cas = ca.cas
    if not cas.superseded:
        last = ca.eks.final_activation if ca.eks else None
        until = f". Amazon EKS switches at {format_time(last)} at the latest" if last else ""
        yield _wait(
            "not-switched",
            f"a signer or an API server still uses the outgoing CA{until}",
            "Switch each control plane node to the successor, and run the task again a day later",
            cas.late_servers,
        )
    if not any(old.is_in(point.config.ca_bundle) for point in data.points for old in cas.superseded):
        return
    yield from _eks_waits(data, cas, options)
    if not options.is_confirmed:
        confirm = "If every API server and every signer uses the successor, set confirmed in the option cluster_ca to true"
        unseen = [address for address, of in cas.servers.items() if of is None]
        if unseen or not cas.servers:
            reached = "each of these addresses" if unseen else "each API server"
            yield _wait(
                "api-server-unseen",
                f"the audit saw no certificate of {f'the API server at {some(unseen)}' if unseen else 'an API server'}",
                f"Set probe_urls to true, and let the machine that runs the task reach {reached}. {confirm}",
                unseen,
            )
        if cas.signer is None:
            yield _wait("signer-unseen", "no certificate of a signer was seen since the switch", confirm)
    settled_at = switched_since(data, cas) + SETTLED_AFTER
    if data.now < settled_at:
        yield _wait(
            "not-settled",
            f"the switch is less than 24 hours old until {format_time(settled_at)}",
            "Run the task again after this time",
        )


def _eks_waits(data: ClusterData, cas: ClusterCas, options: RotationOptions) -> Iterator[Refusal]:
    """Yield the wait for Amazon EKS, which may return to the outgoing CA for a time that only its API shows."""
    update = "Update certificate_authorities in the option cluster_ca with the description of the CA in use, and run the task again"
    if any(entry.has_rollback for entry in options.eks_cas):
        yield _wait(
            "rollback-available",
            "Amazon EKS can still return to the outgoing CA",
            f"Wait until Amazon EKS can no longer return to it. {update}",
        )
    is_described = any(
        entry.is_in_use and any(entry.fingerprint in ca.fingerprints for ca in cas.in_use)
        for entry in options.eks_cas
    )
    if _EKS_VERSION in data.version and not (is_described or options.is_confirmed):
        yield _wait(
            "rollback-unknown",
            "the version of the cluster is that of Amazon EKS, and it is not known if EKS can return to the outgoing CA",
            f"{update}. If the cluster is not one of Amazon EKS, set confirmed to true",
        )


def _wait(code: str, reason: str, remedy: str, evidence: Iterable[str] = ()) -> Refusal:
    return Refusal(code, reason, remedy, tuple(evidence), state=WAITING)


def switched_since(data: ClusterData, cas: ClusterCas) -> datetime:
    """Return the time since which no outgoing CA signs: the first certificate of a later CA, or a later one of an outgoing CA.

    The certificate of the API server counts only without another one, because it may have been made before the switch.
    """
    leaves = [
        *map(certificate_facts.load_leaf_and_chain, data.issued.values()),
        *(
            chain.parsed
            for backend in data.backends.values()
            for chain in (*backend.chains, *backend.unready_chains)
            if chain.certificate
        ),
    ]
    begins = [(signer_of(cas.cas, leaf, sent), leaf.not_before) for leaf, sent in leaves]
    later = cas.cas[cas.cas.index(cas.in_use[-1]) :]
    first = min(
        (begin for signer, begin in begins if signer in later),
        default=certificate_facts.load_leaf_and_chain(data.api_server)[0].not_before,
    )
    return max((first, *(begin for signer, begin in begins if signer and signer not in later)))
