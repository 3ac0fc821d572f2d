# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Which provider a cluster is from, and which signer issues serving certificates there, as a table.

No single mark decides: `-eks-` in the version is Amazon EKS and EKS Anywhere alike, providerIDs name the cloud and
not who runs the control plane. Each row lists marks with points, and ENOUGH of them make a match. No match, or two,
is "unknown", with everything that was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ._errors import ProviderError
from ._signers import EKS_APP_SERVING, KUBE_APISERVER_CLIENT, KUBELET_SERVING

try:
    import jmespath
    from jmespath.exceptions import JMESPathError
except ImportError:
    jmespath = None

ENOUGH = 3
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Signal:
    """One mark. rule: JMESPath over the facts of _kube._cluster; true as JMESPath means it. shows: what it is, with
    {} for what the rule found."""

    rule: str
    points: int
    shows: str


@dataclass(frozen=True)
class Provider:
    """One provider.

    requires: JMESPath rules that must hold, whatever the points.
    serving_signer: which signer issues a certificate for a Service's names, once approved.
    ca: where the CA that signs is published.
    not_served: (signer, why) for signers that leave such a request Approved for ever.
    longest_lifetime_seconds: None where the cluster's flags set it.
    forbidden_prefixes: of CSR object names.
    """

    name: str
    serving_signer: str
    signals: tuple[Signal, ...]
    ca: str
    source: str
    requires: tuple[str, ...] = ()
    not_served: tuple[tuple[str, str], ...] = ()
    longest_lifetime_seconds: int | None = None
    forbidden_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProviderVerdict:
    """name: a row's, or "unknown". signer: its serving signer, "" where unknown. row: None where unknown.

    evidence: what speaks for the name; where it is unknown, all that was seen and what could not be read.
    contradictions: what speaks for another row.
    """

    name: str
    signer: str
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...] = ()
    row: Provider | None = None


def detect(facts: Mapping[str, Any], overrides: Sequence[Mapping[str, Any]] = ()) -> ProviderVerdict:
    """Return the provider that the facts of _kube._cluster.cluster_facts show.

    overrides: rows of the user, see rows(). Those with a rule of their own are decided before all others.
    Raises ProviderError for a row that cannot be used, and where the library jmespath is missing.
    """
    raise NotImplementedError


def given(name: str, overrides: Sequence[Mapping[str, Any]] = ()) -> ProviderVerdict:
    """Return the verdict for a provider that the user names. Raises ProviderError for a name without a row."""
    raise NotImplementedError


def rows(overrides: Sequence[Mapping[str, Any]] = ()) -> tuple[Provider, ...]:
    """Return the table with the user's rows put in, by name.

    A row of the user has `name`, and `rule` (JMESPath), `serving_signer`, `ca`, `longest_lifetime_seconds`,
    `forbidden_prefixes`, `source`: what it leaves out stays as the built-in row of that name has it.
    """
    raise NotImplementedError
