# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The provider of a cluster, and the signer for serving certificates that it has.

If the provider is not known, a run can probe the signers. Later runs use the signer of the certificate in the Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._csr import markers
from .._csr.errors import ProviderError
from .._csr.intent import SecretSpec
from .._csr.issuing import providers
from .._csr.issuing.providers import ProviderVerdict
from .._csr.issuing.signers import EPHEMERAL_CA
from .._diagnosis import signer_probe
from .._diagnosis.signer_probe import probe_signers
from .._kube.client import Client
from .._kube.cluster_facts import read_cluster_facts
from . import secret_store

AUTO, PROBE = "auto", "probe"
PROBE_SECONDS = 15


def find_probed_signer(
    client: Client, secret: SecretSpec, *, may_probe: bool
) -> tuple[str, tuple[str, ...]] | None:
    """Return the signer of the certificate in the Secret, or of a probe, with warnings. Return None if this run must not probe.

    Only a serving signer of the table is believed. Raises ProviderError, KubeError.
    """
    signer_names = signer_probe.serving_signers()
    existing = secret_store.read(client, secret)
    held = existing.annotations.get(markers.SIGNER) if existing and existing.is_ours else None
    if held in signer_names:
        return held, ()
    if not may_probe:
        return None
    report = probe_signers(client, signer_names, seconds=PROBE_SECONDS, check_mode=False)
    # An issued certificate may still differ from the request.
    working = [entry for entry in report.signers if entry["issued"] and not entry["diagnosis"]]
    if working:
        return working[0]["signer_name"], report.leftovers
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


def find_provider(client: Client, options: ProviderOptions) -> ProviderVerdict:
    """Return the provider that the options name, or detect it. Raises ProviderError, KubeError."""
    default = providers.default_signer(options.providers)
    if not options.is_detected:
        return providers.named_by_user(options.provider, options.providers, required=not default)
    return providers.detect(read_cluster_facts(client), options.providers)


def signer_of(verdict: ProviderVerdict, options: ProviderOptions) -> str:
    """Return the signer of the provider, or the default of the options. Raises ProviderError."""
    return providers.signer_for(verdict, providers.default_signer(options.providers))


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
