# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The provider of a cluster, and the signer for serving certificates that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._csr.errors import ProviderError
from .._csr.issuing import providers
from .._csr.issuing.providers import ProviderVerdict
from .._kube.client import Client
from .._kube.cluster_facts import read_cluster_facts

AUTO = "auto"
# A value that reads as if the task found the signer by throw-away requests. No task sends such requests beside its own work.
_PROBE = "probe"


@dataclass(frozen=True)
class ProviderOptions:
    """How the provider and its signer are chosen."""

    #: The name of a provider, or "auto" to detect it.
    provider: str = AUTO
    #: Entries that extend or override the table of providers, see providers.merge_rows. "default" is the signer for an unknown provider.
    providers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_detected(self) -> bool:
        """Return True if the cluster shows its provider, and the task does not name it."""
        return self.provider == AUTO


def find_provider(client: Client, options: ProviderOptions) -> ProviderVerdict:
    """Return the provider that the options name, or detect it. Raises ProviderError, KubeError."""
    if options.provider == _PROBE:
        raise ProviderError(
            "the option provider has the value 'probe', which is not a provider",
            remedy="Run the module k8s_signer_probe first, and set signer_name to a signer that issues",
        )
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
