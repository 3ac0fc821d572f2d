# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The data model of repairs: the planned writes, the reasons of refusals, and the outcomes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from .._audit.facts.cluster_data import Backend, CallPoint, ClusterData
from .._audit.facts.finding import AuditFinding
from .._base.accept import NOTHING, Consent
from .._base.text import shortened
from .._csr.ca_rotation import EksCa
from .._kube.access_review import Permission
from .._kube.approved_plan import Write, digest
from .._kube.client import Client
from .._webhook import trust_removal
from .._webhook.trust_removal import Serving
from .._x509.certificate_facts import CertificateFacts

if TYPE_CHECKING:  # each play of a fleet loads this file
    from .surroundings import Surroundings

# What became of a repair.
PLANNED, REPAIRED, REFUSED, WAITING = "planned", "repaired", "refused", "waiting"
GONE, OVERWRITTEN, PUT_BACK, FAILED = "gone", "overwritten", "put-back", "failed"
#: A CA was added, and it is not proven that it cures the fault. It stays, because an addition breaks nothing.
WRITTEN = "written"
#: The states in which a write did not have its effect, so that the task fails.
BAD_STATES = frozenset((OVERWRITTEN, PUT_BACK, FAILED))
#: The codes of a wait that ends by itself: a later run has work, and this one has nothing left to do.
NOT_DUE = frozenset(("not-switched", "rollback-available", "not-settled"))
# What proved a repair: a call of the API server in addition to the second audit, the second audit only, or the field itself.
BY_CALL, BY_AUDIT, BY_FIELD = "call", "audit", "field"


@dataclass(frozen=True)
class Refusal:
    """The reason to write nothing for a finding, or the reason of a failure."""

    #: An id that never changes.
    code: str
    reason: str
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    #: REFUSED, or WAITING if a later run may write.
    state: str = REFUSED


@dataclass(frozen=True)
class RepairWrite:
    """One write of a repair, as the plan lists it. It has no live value, time or PEM text."""

    verb: str
    api_version: str
    kind: str
    name: str
    namespace: str = ""
    #: The JSON pointers of the fields, in the object as it was read.
    fields: tuple[str, ...] = ()
    #: The parts of what is wanted, as JSON data. A run may write fewer parts than its plan has.
    content: Sequence[Any] = ()

    def as_result(self) -> dict[str, Any]:
        keys = ("verb", "api_version", "kind", "namespace", "name")
        own = {key: shortened(getattr(self, key)) for key in keys}
        return {**own, "fields": list(self.fields), "digest": digest([*self._identity, self.content])}

    def promises(self, kind: str) -> Iterator[Write]:
        """Yield each part of the write for the comparison with an approved plan. kind: the name of the kind of repair."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        for part in self.content or [None]:
            yield Write(kind, f"{self.verb} {self.kind} {place}", [*self._identity, part])

    @property
    def _identity(self) -> list[str]:
        return [self.verb, self.api_version, self.kind, self.namespace, self.name]


@dataclass(frozen=True)
class RotationOptions:
    """What the user knows about the rotation of the cluster's CA."""

    #: The successor as PEM text, if the cluster publishes it and switches to it at one restart.
    successor: str = ""
    #: The CAs as Amazon EKS describes them.
    eks_cas: tuple[EksCa, ...] = ()
    #: True if the user confirms that every API server and every signer uses the successor.
    is_confirmed: bool = False
    #: Fingerprints of the CAs that the cluster no longer publishes, and that are to be removed.
    outgoing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RepairOptions:
    """The options of a task."""

    kinds: tuple[str, ...]
    #: The only findings to repair: fingerprint -> the finding as an audit reported it, or {}. None for every finding.
    findings: Mapping[str, Mapping[str, Any]] | None = None
    consent: Consent = NOTHING
    #: Seconds for a read of the cluster, and for the proof of a repair.
    wait_timeout: int = 120
    #: Seconds after which a written field is read again.
    proof_after: int = 60
    probe_urls: bool = False
    check_mode: bool = False
    rotation: RotationOptions = RotationOptions()


@dataclass(frozen=True)
class Case:
    """A finding with the data that a kind of repair needs to plan its action."""

    finding: AuditFinding
    point: CallPoint
    data: ClusterData
    around: Surroundings
    options: RepairOptions

    @property
    def backend(self) -> Backend:
        """Return what the point calls."""
        return self.data.backends.get(self.point.backend, Backend(is_known=False))

    @property
    def serves(self) -> Serving:
        """Return what the point may serve. A Service that does not exist now may come back, and its pods still serve what they did."""
        backend = self.backend
        chains = (*backend.chains, *backend.unready_chains)
        unread = backend.ready + backend.unready - len(chains)
        problem = f"{self.point.object} has no endpoint"
        return trust_removal.serving(chains, problem, unread=unread, hidden=self.around.unread)

    @property
    def served(self) -> list[CertificateFacts]:
        """Return the certificates of the endpoints that showed one."""
        return [chain.certificate for chain in self.backend.chains if chain.certificate]


class Action(Protocol):
    """The writes of a repair. Actions with the same key are merged into one write of one object."""

    @property
    def key(self) -> tuple[str, ...]:
        """Return what is equal for actions on one object."""

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        """Return the writes, as a plan promises them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user confirms by the writes, for the plan and the outcome."""
        return ()

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """Return the permissions that the writes need."""

    def merged(self, _other: Any) -> Any:
        """Return one action that does the work of both. By default both do the same."""
        return self

    def carry_out(self, client: Client, options: RepairOptions) -> Written:
        """Carry out the writes, in check mode by a dry run. Raises CertflowError."""


class Written:
    """A write that was made. By default it is a restart, which is not undone."""

    def find_overwriter(self, _client: Client, _webhook: str) -> str:
        """Return the client that replaced the written values of a webhook, "" if they are unchanged. Raises KubeError."""
        return ""

    def put_back(self, _client: Client, _webhooks: Collection[str]) -> bool:
        """Restore the earlier values, unless another client has changed the object. Return True if they were restored. Raises KubeError.

        webhooks: the names of the webhooks whose fields are restored, "" for an object without webhooks.
        """
        return False


@dataclass(frozen=True)
class Repair:
    """The outcome of one finding."""

    finding: str
    check: str
    object: Mapping[str, str]
    kind: str = ""
    state: str = PLANNED
    code: str = ""
    reason: str = ""
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    #: BY_CALL, BY_AUDIT or BY_FIELD, "" without a proof.
    proof: str = ""
    action: Action | None = field(default=None, compare=False)

    def with_refusal(self, refusal: Refusal, state: str = "") -> Repair:
        return replace(self, **{**vars(refusal), "state": state or refusal.state})

    @property
    def is_left(self) -> bool:
        """Return True if the task did not repair the finding, and waits for no time. What no kind answers is only there if the user named it."""
        return self.state in (REFUSED, WAITING, WRITTEN) and self.code not in NOT_DUE

    def as_result(self) -> dict[str, Any]:
        """Return the repair as results carry it. Text of the cluster has no hidden characters."""
        plain = ("finding", "check", "kind", "state", "code", "proof")
        return {
            **{key: getattr(self, key) for key in plain},
            "is_left": self.is_left,
            "object": dict(self.object),
            "reason": shortened(self.reason),
            "remedy": shortened(self.remedy),
            "evidence": [shortened(line) for line in self.evidence],
            "writes": [write.as_result() for write in self.action.writes] if self.action else [],
        }
