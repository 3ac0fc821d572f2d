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
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._errors import CertflowError
from ._kube.cluster_facts import read_cluster_uid
from ._kube.errors import Forbidden

if TYPE_CHECKING:
    from ._kube.client import Client

OPTION = {
    "approved_plan": {
        "type": "dict",
        "options": {
            "cluster": {"type": "str", "required": True},
            "options": {"type": "list", "elements": "str", "required": True},
            "writes": {"type": "list", "elements": "str", "required": True},
        },
    }
}
#: The option that no digest covers -> the reason.
UNCOVERED = {
    **dict.fromkeys(("kubeconfig", "context", "host", "cluster_uid"), "The UID shows which cluster it is"),
    **dict.fromkeys(
        ("api_key", "username", "password", "ca_cert", "client_cert", "client_key", "persist_config"),
        "Credentials change, and the run with `--check` may have other ones",
    ),
    **dict.fromkeys(("impersonate_user", "impersonate_groups"), "An identity changes only what is permitted"),
    **dict.fromkeys(("proxy", "no_proxy", "proxy_headers"), "The way to the API server changes no write"),
    **dict.fromkeys(("wait_timeout", "served_timeout", "step_timeout"), "A time-out changes no write"),
    "cache_directory": "The files of a release match their checksums wherever they are kept",
    "source_auth": "The digests of the writes cover what the mirror serves",
    **dict.fromkeys(("backup_directory", "backup_in_cluster"), "A backup copies what was there before the run"),
    "approved_plan": "It holds the digests",
}
_MOST_DIFFERENCES = 3
_LOGIN = re.compile(r"(?<=//)[^/@]*@")


class PlanDiffersError(CertflowError):
    """The run would write more or something else than the approved plan."""

    code = "plan-differs"


@dataclass(frozen=True)
class Write:
    """A write that a run wants to do."""

    #: The id of the step. A word of this collection, without text of the cluster.
    id: str
    #: For a message: what is written.
    title: str
    #: JSON data that decides if another write is the same.
    content: Any


@dataclass
class PlanGuard:
    """The digests of a task's plan, and their comparison with the approved ones. The default neither collects nor compares."""

    approved: Mapping[str, Any] | None = None
    cluster: str = ""
    options: Sequence[str] = ()
    writes: list[str] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        return bool(self.cluster)

    @property
    def values(self) -> dict[str, Any]:
        """Return the digests as a result carries them, {} without them."""
        plan = {"cluster": self.cluster, "options": list(self.options), "writes": sorted(self.writes)}
        return {"plan_digests": plan} if self.is_active else {}

    def allow(self, writes: Iterable[Write]) -> None:
        """Collect the writes that a run is about to do. Raises PlanDiffersError if the approved plan does not have them all."""
        if not self.is_active:
            return
        planned = {entry.partition(":")[2] for entry in self.approved["writes"]} if self.approved else set()
        differences = []
        for write in writes:
            value = digest(write.content)
            if f"{write.id}:{value}" not in self.writes:
                self.writes.append(f"{write.id}:{value}")
            if self.approved and value not in planned:
                is_known = any(entry.startswith(f"{write.id}:") for entry in self.approved["writes"])
                differences.append(
                    f"{write.title}: the plan {'has other content' if is_known else 'does not have it'}"
                )
        _refuse(list(dict.fromkeys(differences)))

    def check_cluster(self) -> None:
        """Raise PlanDiffersError if the cluster or an option is not that of the approved plan."""
        if self.approved is None:
            return
        if self.approved["cluster"] != self.cluster:
            _refuse(["the plan is for another cluster"])
        different = {*self.approved["options"]} ^ {*self.options}
        _refuse(sorted({f"the option {entry.partition(':')[0]}" for entry in different}))


def begin(
    client: Client, parameters: Mapping[str, Any], spec: Mapping[str, Any], *, check_mode: bool
) -> PlanGuard:
    """Return the guard of a task. Without check mode and without an approved plan, it sends no request.

    Without the permission to read the UID, a task in check mode returns no digests.

    Raises PlanDiffersError, KubeError.
    """
    approved = parameters.get("approved_plan")
    if not (check_mode or approved):
        return PlanGuard()
    try:
        uid = read_cluster_uid(client)
    except Forbidden:
        if approved:
            raise
        return PlanGuard()
    options = [
        f"{name}:{digest(_LOGIN.sub('', value) if isinstance(value, str) else value)}"
        for name, value in sorted(parameters.items())
        if name in spec and name not in UNCOVERED and value not in (None, spec[name].get("default"))
    ]
    guard = PlanGuard(approved, digest(uid), options)
    guard.check_cluster()
    return guard


def digest(content: Any) -> str:
    """Return the digest of JSON data: the first 160 bits of SHA-256 over its canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _refuse(differences: list[str]) -> None:
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        shown = [*differences[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
        raise PlanDiffersError(
            f"the run differs from the approved plan: {'; '.join(shown)}",
            evidence=differences,
            remedy="Make a new plan with --check, and have it approved",
        )
