# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about providers and signers, made from the two tables of the code."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.diagnosis import show_span

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.providers import (
        KubeconfigMark,
        Provider,
        ProviderSignal,
    )
    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.signers import Signer

BEGIN = """\
# Providers and signers

A provider is the kind of a cluster, such as `eks` or `kubeadm`. It decides which signer issues serving certificates for a Service. The
page [How the signer is chosen](signer_choice) explains the choice.

## Signers by provider

These signers issue for the names of a Service after the request is approved. `k8s_csr_info` shows the provider of a cluster, with the
marks that it found.

| Provider | Signer to use | Its CA is published in | Longest lifetime | Signers that do not issue |
|---|---|---|---|---|
"""
MARKS = """
## How a provider is recognised

Each mark has points. A cluster belongs to a provider if the marks of this provider have {enough} points or more, and those of no
other provider do. Otherwise the provider is `unknown`. The inventory plugin `kubeconfig` reads no cluster. It groups hosts by the marks
in the kubeconfig.

| Provider | Marks in the cluster, with their points | Marks in the kubeconfig | Sources |
|---|---|---|---|
"""
SIGNERS = """
## Signers

The modules check each request against the rules of its signer before they send it. The messages are on the page
[Why is my CSR not issued?](diagnosis#refusals-by-signers). Any other signer of the form `DOMAIN/PATH` works too, without such rules.

| Signer | Certificates | Default usages | Default organization | Longest lifetime |
|---|---|---|---|---|
"""


def provider_page() -> str:
    """Return the page."""
    parts = [BEGIN, *map(_provider_row, providers.PROVIDERS)]
    parts += [MARKS.format(enough=providers.ENOUGH), *map(_marks_row, providers.PROVIDERS)]
    parts += [SIGNERS, *map(_signer_row, signers.SIGNERS.values())]
    return rst.page(
        "".join(parts),
        "providers",
        "Made by `make docs` from providers.py and signers.py in plugins/module_utils/_csr.",
    )


def _provider_row(row: Provider) -> str:
    not_served = "<br>".join(f"`{fault.signer}`: {fault.why}. {fault.remedy}" for fault in row.not_served)
    prefixes = ", ".join(f"names that begin with `{prefix}`" for prefix in row.forbidden_prefixes)
    signer = f"`{row.serving_signer}`" if row.serving_signer else "not documented, use `ephemeral-ca`"
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
    """Return a mark in words. The patterns are in its rule, in quotation marks."""
    patterns = ", ".join(f"`{text}`" for text in dict.fromkeys(re.findall(r"'([^']+)'", signal.rule)))
    words = signal.shows.replace(" {}", "").replace("_id", "ID").replace("os_image", "OS image")
    return f"{words}{' without' if signal.rule.startswith('!') else ''} {patterns} ({signal.points})"


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
