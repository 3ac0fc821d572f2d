# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about providers and signers, made from the two tables of the code."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import show_span

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.providers import (
        KubeconfigMark,
        Provider,
        ProviderSignal,
    )
    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import Signer


def provider_page() -> str:
    """Return the page."""
    return rst.rendered(
        "providers",
        "Made by `make docs` from providers.py and signers.py in plugins/module_utils/_csr.",
        enough=providers.ENOUGH,
        providers="".join(map(_provider_row, providers.PROVIDERS)),
        marks="".join(map(_marks_row, providers.PROVIDERS)),
        signers="".join(map(_signer_row, signers.SIGNERS.values())),
    )


def _provider_row(row: Provider) -> str:
    not_served = "<br>".join(f"`{fault.signer}`: {fault.why}. {fault.remedy}" for fault in row.not_served)
    prefixes = ", ".join(f"names that begin with `{prefix}`" for prefix in row.forbidden_prefixes)
    signer = f"`{row.serving_signer}`" if row.serving_signer else "not documented, use `ephemeral-ca`"
    if row.doubt:
        signer += f". This row is a guess: {row.doubt}"
    faults = "<br>".join(filter(None, (not_served, prefixes)))
    return _row(f"`{row.name}`", signer, row.ca, _lifetime(row.longest_lifetime_seconds), faults)


def _marks_row(row: Provider) -> str:
    marks = "<br>".join(map(_mark, row.signals))
    return _row(
        f"`{row.name}`",
        marks,
        "<br>".join(map(_kubeconfig_mark, row.kubeconfig_marks)),
        rst.linked(row.source),
    )


def _mark(signal: ProviderSignal) -> str:
    """Return a mark in words."""
    patterns = ", ".join(f"`{pattern}`" for pattern in signal.patterns)
    return f"{signal.fact} {patterns} ({signal.points})"


def _kubeconfig_mark(mark: KubeconfigMark) -> str:
    return f"{mark.field} `{mark.pattern}`"


def _signer_row(row: Signer) -> str:
    lifetime = row.longest_lifetime_seconds or row.own_lifetime_seconds
    kind = "cannot be used" if row.unusable else row.purpose
    return _row(
        f"`{row.name}`",
        kind,
        ", ".join(row.usages),
        ", ".join(row.organizations) or "none",
        _lifetime(lifetime),
    )


def _lifetime(seconds: int | None) -> str:
    return show_span(timedelta(seconds=seconds)) if seconds else "set by the cluster"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"
