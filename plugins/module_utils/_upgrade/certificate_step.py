# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The webhook's certificate: the certificate flow of k8s_csr as a step of an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._operations import k8s_csr, k8s_csr_info
from .._result import Result
from .._snapshot.plan.step_types import Step
from .._snapshot.plan.upgrade_context import UpgradeContext
from .upgrade_request import CertificateOptions

if TYPE_CHECKING:
    from .._kube.client import Client


def signer_of(client: Client, options: CertificateOptions) -> str:
    """Return the signer of the option, or the one that the cluster's provider has. Raises CertflowError."""
    if options.signer_name:
        return options.signer_name
    given = {
        "gather": ["provider", "signer"],
        "provider": options.provider,
        "providers": options.providers,
        "signers": options.signers,
    }
    found = k8s_csr_info.run(client, k8s_csr_info.OPERATION.parameters(given), True)
    return str(found.values["signer_name"])


def issue(
    client: Client,
    step: Step,
    options: CertificateOptions,
    *,
    signer: str,
    take_over: bool,
    check_mode: bool = False,
    existing: UpgradeContext | None = None,
) -> Result:
    """Bring the certificate of a step, its Secret and its targets to the wanted state.

    Args:
        existing: try only the targets that can have a CA bundle in this state of the cluster.

    Raises:
        CertflowError: as k8s_csr.
    """
    given = step.parameters
    return k8s_csr.run(
        client,
        k8s_csr.OPERATION.parameters(
            {
                "service": given["service"],
                "namespace": given["namespace"],
                "secret": _secret(given["secret"]),
                "targets": _targets(given["targets"], existing),
                "signer_name": signer,
                "expiration_seconds": options.expiration_seconds,
                "renew_before": options.renew_before,
                "take_over": take_over,
            }
        ),
        check_mode,
    )


def _targets(targets: list[dict[str, Any]], existing: UpgradeContext | None) -> list[dict[str, Any]]:
    """Return the targets as k8s_csr's parameters have them.

    existing: leave out the targets that cannot have a CA bundle in this state, because a later step creates them.
    """
    if existing is not None:
        installed = existing.installed
        converting = [name for name, crd in installed.crds.items() if crd.conversion.strategy == "Webhook"]
        ready = {one.name for one in installed.configurations} | set(converting)
        targets = [one for one in targets if one["name"] in ready]
    return [{"webhooks": None, **one} for one in targets]


def _secret(name: str) -> dict[str, Any]:
    options = k8s_csr.OPERATION.argument_spec["secret"]["options"]
    return {**{key: spec.get("default") for key, spec in options.items()}, "name": name, "ca_key": "ca.crt"}
