# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The provider of a cluster, and the signer for serving certificates that it has.

If the provider is not known, a run can probe the signers once. The Secret keeps the answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._base.times import format_time
from .._csr import markers, providers
from .._csr.errors import ProviderError
from .._csr.intent import SecretSpec
from .._csr.providers import ProviderVerdict
from .._csr.signers import EPHEMERAL_CA
from .._diagnosis import signer_probe
from .._diagnosis.signer_probe import probe_signers
from .._kube.client import Client
from .._kube.cluster_facts import read_cluster_facts
from . import secret_store

PROBE = "probe"
PROBE_SECONDS = 15


@dataclass(frozen=True)
class ProbedSigner:
    """The answer of a probe."""

    signer_name: str
    #: The value of the annotation markers.PROBED, which keeps the answer.
    record: str
    warnings: tuple[str, ...] = ()


def find_probed_signer(
    client: Client, verdict: ProviderVerdict, secret: SecretSpec, *, may_probe: bool
) -> ProbedSigner | None:
    """Return the answer that the Secret keeps, or probe. Return None if this run must not probe.

    The answer holds for the minor version and the marks of the cluster that it was found with. Raises ProviderError, KubeError.
    """
    version = client.get("/version")
    marks = {
        "version": f"{version.get('major')}.{version.get('minor')}",
        "marks": sorted(row.name for row in verdict.candidates),
    }
    existing = secret_store.read(client, secret)
    record = existing.annotations.get(markers.PROBED, "") if existing and existing.is_ours else ""
    signer_name = _recorded_signer(record, marks)
    if signer_name:
        return ProbedSigner(signer_name, record)
    return _probe(client, marks) if may_probe else None


def _recorded_signer(record: str, marks: Mapping[str, Any]) -> str:
    """Return the signer of the record, "" if it was found on another version or with other marks, or cannot be read."""
    try:
        answer = json.loads(record)
        signer_name = str(answer.pop("signer_name"))
        del answer["probed_at"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # the text of an annotation
        return ""
    return signer_name if answer == marks and signer_name in signer_probe.serving_signers() else ""


def _probe(client: Client, marks: Mapping[str, Any]) -> ProbedSigner:
    report = probe_signers(
        client,
        signer_probe.serving_signers(),
        secrets.token_hex(5),
        seconds=PROBE_SECONDS,
        check_mode=False,
    )
    # An issued certificate may still differ from the request.
    working = [entry for entry in report.signers if entry["issued"] and not entry["diagnosis"]]
    if not working:
        raise ProviderError(
            "the provider of this cluster is not recognised, and no probed signer issues a serving certificate here: "
            + ", ".join(entry["signer_name"] for entry in report.signers),
            code="signer-not-known",
            evidence=[
                f"{entry['signer_name']}: {(entry['diagnosis'] or {}).get('cause', 'no answer')}"
                for entry in report.signers
            ],
            remedy=f"Set signer_name to the signer of this cluster, or to {EPHEMERAL_CA}, which needs no signer of the cluster",
        )
    answer = {
        "signer_name": working[0]["signer_name"],
        "probed_at": format_time(client.now()),
        **marks,
    }
    return ProbedSigner(answer["signer_name"], json.dumps(answer, sort_keys=True), report.leftovers)


AUTO = "auto"


@dataclass(frozen=True)
class ProviderOptions:
    """How the provider and its signer are chosen."""

    #: The name of a provider, "auto" to detect it, or "probe" to detect it and to probe the signers if it is unknown.
    provider: str = AUTO
    #: Entries that extend or override the table of providers, see providers.merge_rows. "default" is the signer for an unknown provider.
    providers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_detected(self) -> bool:
        """Return True if the cluster shows its provider, and the task does not name it."""
        return self.provider in (AUTO, PROBE)

    @property
    def default_signer(self) -> str:
        """Return the signer for an unknown provider, or "". Raises ProviderError."""
        return providers.default_signer(self.providers)


def find_provider(client: Client, options: ProviderOptions) -> ProviderVerdict:
    """Return the provider that the options name, or detect it. Raises ProviderError, KubeError."""
    default = options.default_signer
    if not options.is_detected:
        return providers.named_by_user(options.provider, options.providers, required=not default)
    return providers.detect(read_cluster_facts(client), options.providers)


def signer_of(verdict: ProviderVerdict, options: ProviderOptions) -> str:
    """Return the signer of the provider, or the default of the options. Raises ProviderError."""
    return providers.signer_for(verdict, options.default_signer)


def describe(verdict: ProviderVerdict) -> dict[str, Any]:
    """Return the provider as the results of modules show it."""
    return {
        "name": verdict.name,
        "signer_name": verdict.signer,
        "evidence": list(verdict.evidence),
        "contradictions": list(verdict.contradictions),
        "ca": verdict.row.ca if verdict.row else "",
        "longest_lifetime_seconds": verdict.row.longest_lifetime_seconds if verdict.row else None,
    }
