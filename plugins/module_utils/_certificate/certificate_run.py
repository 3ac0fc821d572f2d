# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A run for one certificate, the state that it reads, and the Lease that it holds while it writes.

A run acquires the Lease of its Service before its first write and holds it until it ends. The decision rests on data read
before that, so the run reads the data again after a wait. The other run has usually done the work. A run that writes
nothing acquires no Lease. webhook_cabundle needs none, because it writes each object with one JSON patch on the version
that it read. Request, key, anchors and Secret of a certificate are several objects that belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Callable

from .._base.result import Result
from .._csr import markers
from .._csr.certificate_rules import CA_SWITCHED, RENEWAL_DUE, IssueReason
from .._csr.errors import SecretError
from .._csr.intent import Intent
from .._csr.request.pending_key import PendingRequest
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube.approved_plan import PlanGuard, Write
from .._kube.client import Client
from .._kube.errors import MissingPermissions
from .._kube.lease import Lease
from .._process.interrupt import clean_up_with
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import ClientConfig, Target
from .._webhook.workloads import ServingOptions, WebhookWorkload


@dataclass(frozen=True)
class CertificateRun:
    """One run for one certificate."""

    client: Client
    #: The certificate that the user wants.
    intent: Intent
    #: The webhooks that get the anchor of the certificate.
    targets: tuple[Target, ...] = ()
    serving: ServingOptions = field(default_factory=ServingOptions)
    check_mode: bool = False
    #: Also use the objects that call the Service, which the run lists.
    discovers: bool = False
    #: Warn about missing targets and a missing Service.
    is_hinting: bool = False
    #: The targets that were not named by the task, as the Secret records them. None leaves the record as it is.
    discovered: str | None = None
    #: The targets that only the record of added CAs names. They keep their trust, and the probe of the task is not for them.
    others: frozenset[Target] = frozenset()
    #: The objects that only this record names and that this identity may not read -> the error.
    unread: Mapping[Target, MissingPermissions] = field(default_factory=dict)
    #: None if the run writes without a Lease.
    lease: Lease | None = None
    guard: PlanGuard = field(default_factory=PlanGuard)
    #: Signer -> the intent of the task with this signer. Raises RequestError. None if the task names its signer.
    intent_for: Callable[[str], Intent] | None = None

    # What the run is about to write, for the comparison with an approved plan. Raises CertflowError.

    def allow_to_issue(self, reason: IssueReason, changes: Iterable[TargetChange]) -> None:
        """Compare the certificate, its Secret, and the caBundles of every target."""
        intent = self.intent
        request = {
            name: sorted(value) if isinstance(value, tuple) else value
            for name, value in asdict(intent.request).items()
        }
        # A switch of the CA only makes the ordinary renewal due earlier.
        content = [
            RENEWAL_DUE if reason.code == CA_SWITCHED else reason.code,
            intent.signer.name,
            intent.namespace,
            intent.service,
            request,
        ]
        self.guard.allow([Write("certificate", f"{intent}: {reason.message}", [intent.secret.path, content])])
        self.allow_to_store()
        self.allow_bundles(changes)

    def allow_to_store(self) -> None:
        """Compare a write of the Secret, or of the Secret with the key of its waiting request."""
        self.guard.allow([Write("secret", str(self.intent.secret), self.intent.secret.path)])

    def allow_restart(self, workload: WebhookWorkload) -> None:
        """Compare a restart. A plan lists it also if the pods may load the new certificate without it."""
        self.guard.allow([Write("restart", f"the restart of {workload}", str(workload))])

    def allow_to_touch(self) -> None:
        """Compare the annotation by which kubelet updates the volumes with the Secret."""
        spec = self.intent.secret
        self.guard.allow([Write("pods", f"an annotation of the pods that use {spec}", ["pods", spec.path])])

    def allow_bundles(self, changes: Iterable[TargetChange]) -> None:
        """Compare the caBundles that change."""
        self.allow_configs(
            (change.target, bundle.config)
            for change in changes
            for bundle in change.bundles
            if bundle.changed
        )

    def allow_configs(self, configs: Iterable[tuple[Target, ClientConfig]]) -> None:
        """Compare caBundles."""
        self.guard.allow(
            Write("target", f"the CA bundle of {target}", [target.kind, target.name, config.webhook])
            for target, config in configs
        )


@dataclass(frozen=True)
class TargetState:
    """A target with its object as it was read."""

    target: Target
    obj: Mapping[str, Any]


@dataclass(frozen=True)
class CertificateInUse:
    """A certificate that webhooks can go on using: it has its key and every wanted name, and its anchor verifies it."""

    secret: ExistingSecret
    anchor: TrustAnchor


@dataclass(frozen=True)
class CertificateState:
    """The objects that a decision rests on, as they were read before it."""

    #: None if it does not exist.
    secret: ExistingSecret | None
    targets: tuple[TargetState, ...]
    #: The time of the API server.
    now: datetime
    #: The later time of the API server's clock and of this machine's. None if it is ``now``.
    later: datetime | None = None
    #: None if the Secret holds no certificate that can stay in use.
    in_use: CertificateInUse | None = None
    #: The reason why no CA verifies the certificate in the Secret, "" if that is not the problem.
    anchor_problem: str = ""
    #: The certificate in use is of the outgoing CA of the cluster, and the successor signs.
    is_ca_switched: bool = False
    #: Fingerprints of the CAs of the cluster that are in use or younger, if it has more than one CA.
    cluster_cas: frozenset[str] = frozenset()
    #: The request of an earlier run with approve: false, and its key. A run that approves does not read it.
    waiting: PendingRequest | None = None
    #: The error if the Secret for the waiting key holds something else.
    waiting_fault: SecretError | MissingPermissions | None = None


class StateChanged(Exception):
    """The state changed while the run waited for its Lease. ``run_exclusively`` handles it."""


def run_exclusively(run: CertificateRun, act: Callable[[CertificateRun], Result]) -> Result:
    """Return the result of ``act``, which acquires the Lease of the run before its first write.

    Call ``act`` again if it raises StateChanged. Release the Lease in every case, also after a signal, because the next run
    would have to wait until it expires.

    Raises:
        LeaseHeldError, LeaseLostError: the Lease cannot be acquired, or another run has taken it over.
        CertflowError: as ``act``.
    """
    lease = _lease(run)
    run = replace(run, lease=lease)
    with clean_up_with(lease.release):
        try:
            result = act(run)
        except StateChanged:
            result = act(run)  # this run holds the Lease now, so no other run writes
    return replace(result, warnings=(*result.warnings, lease.problem)) if lease.problem else result


def acquire(lease: Lease | None, is_unchanged: Callable[[], bool]) -> None:
    """Acquire the Lease, unless this run has tried it before. Raises StateChanged, LeaseHeldError, KubeError."""
    if lease is None or lease.is_tried:
        return
    lease.acquire()
    # This holds also without the Lease: the wait for another run may have ended with a refusal.
    if not is_unchanged():
        raise StateChanged


def _lease(run: CertificateRun) -> Lease:
    labels = markers.labels_for(run.intent.secret)
    return Lease(
        run.client,
        run.intent.namespace,
        f"certflow-{run.intent.service or labels[markers.SECRET_LABEL]}",
        purpose=str(run.intent),
        metadata={"labels": labels},
    )
