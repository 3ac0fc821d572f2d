# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare what a task would write with the plan that was approved.

A task in check mode returns the digests of its plan. The same task with the option approved_plan writes at most what they cover: the
cluster, the options, and the wanted content of each write. They cover no live values, times, random names or PEM. Fewer writes are no
difference, so a run that was killed is completed with the same plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._base.text import quoted
from .cluster_facts import read_cluster_uid
from .errors import Forbidden

if TYPE_CHECKING:
    from .client import Client

OPTION = {"approved_plan": {"type": "list", "elements": "str"}}
WRITE = "write "
_CREDENTIALS = "Credentials change, and the run with `--check` may have another identity"
#: An option that no digest covers -> the reason.
UNCOVERED = {
    **dict.fromkeys(("kubeconfig", "context", "host", "cluster_uid"), "The UID shows which cluster it is"),
    **dict.fromkeys(("api_key", "client_cert", "client_key"), _CREDENTIALS),
    **dict.fromkeys(("impersonate_user", "impersonate_groups"), _CREDENTIALS),
    **dict.fromkeys(
        ("proxy", "no_proxy", "proxy_headers", "ca_cert"), "The way to the API server changes no write"
    ),
    **dict.fromkeys(("wait_timeout", "step_timeout", "proof_after"), "A time-out changes no write"),
    "findings": "The digests of the writes cover what is repaired",
    "cache_directory": "The files of a release match their checksums wherever they are kept",
    **dict.fromkeys(
        ("source", "source_auth"), "The digests of the writes cover the manifests that the mirror serves"
    ),
    "backup": "A backup copies what was there before the run",
    "approved_plan": "It holds the digests",
}
MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class Write:
    """A write that a run wants to do."""

    #: The id of the step. A word of this collection, without text of the cluster.
    id: str
    #: The object of the write, for a message.
    title: str
    #: JSON data that is equal for equal writes.
    content: Any


@dataclass
class PlanGuard:
    """The digests of a task's plan, and their comparison with the approved ones.

    Without digests of a cluster, it neither collects nor compares.
    """

    #: None for no comparison.
    approved: Sequence[str] | None = None
    #: The digests of the cluster and of its options.
    fixed: Sequence[str] = ()
    writes: set[str] = field(default_factory=set)

    def as_result(self) -> dict[str, Any]:
        """Return the digests as a result carries them, {} without them."""
        return {"plan_digests": [*self.fixed, *sorted(self.writes)]} if self.fixed else {}

    def allow(self, writes: Iterable[Write]) -> None:
        """Collect the writes that a run is about to do. Raises CertflowError if the approved plan does not have them all."""
        if not self.fixed:
            return
        titles = {f"{WRITE}{write.id}:{digest(write.content)}": write.title for write in writes}
        self.writes |= titles.keys()
        # The digest of an option may be equal to that of a write.
        values = {entry.rpartition(":")[2] for entry in self.approved or () if entry.startswith(WRITE)}
        self._refuse(title for entry, title in titles.items() if entry.rpartition(":")[2] not in values)

    def check_options(self) -> None:
        """Raise CertflowError if the cluster or an option is not that of the approved plan."""
        approved = {entry for entry in self.approved or () if not entry.startswith(WRITE)}
        self._refuse(
            f"the {entry.rpartition(':')[0] or f'entry {quoted(entry)}'}"
            for entry in sorted(approved ^ set(self.fixed))
        )

    def _refuse(self, differences: Iterable[str]) -> None:
        lines = list(dict.fromkeys(differences))
        if self.approved is None or not lines:
            return
        more = f", and {len(lines) - MOST_DIFFERENCES} more" if len(lines) > MOST_DIFFERENCES else ""
        raise CertflowError(
            f"the approved plan does not cover {'; '.join(lines[:MOST_DIFFERENCES])}{more}",
            code="plan-differs",
            evidence=lines,
            remedy="Make a new plan with --check, and have it approved",
        )


def begin(
    client: Client, parameters: Mapping[str, Any], spec: Mapping[str, Any], *, check_mode: bool
) -> PlanGuard:
    """Return the guard of a task. Without check mode and without an approved plan, it sends no request.

    Without the permission to read the UID, a task in check mode returns no digests.

    Raises CertflowError, KubeError.
    """
    approved = parameters.get("approved_plan")
    if approved is None and not check_mode:
        return PlanGuard()
    try:
        uid = read_cluster_uid(client)
    except Forbidden:
        if approved is None:
            return PlanGuard()
        raise
    options = [
        f"option {name}:{digest(_in_one_order(value, spec[name]))}"
        for name, value in sorted(parameters.items())
        if name in spec and name not in UNCOVERED and value not in (None, spec[name].get("default"))
    ]
    guard = PlanGuard(approved, [f"cluster:{digest(uid)}", *options])
    guard.check_options()
    return guard


def _in_one_order(value: Any, option: Mapping[str, Any]) -> Any:
    """Return the value of an option with each list in one order. Ansible's filters for sets, such as union, return another one in each run.

    A write whose lists have an order has it in its own digest.
    """
    inner = option.get("options")
    if isinstance(value, list):
        return sorted((_in_one_order(item, {"options": inner or {}}) for item in value), key=digest)
    if inner is not None and isinstance(value, Mapping):
        return {name: _in_one_order(item, inner.get(name, {})) for name, item in value.items()}
    return value


def digest(content: Any) -> str:
    """Return the digest of JSON data: the first 160 bits of SHA-256 over its canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
