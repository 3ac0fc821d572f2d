# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The webhook's certificate: the certificate flow of k8s_csr as a step of an upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._base.result import Result
from .._certificate import cluster_signer
from .._certificate.certificate_flow import ensure_certificate
from .._certificate.certificate_run import CertificateRun
from .._csr.intent import intent_from
from .._snapshot.actions.webhook_actions import IssueCertificate
from .._snapshot.context.upgrade_context import UpgradeContext
from .._snapshot.kinds import Reference
from .._webhook.bundles import bundle_targets
from .upgrade_request import CertificateOptions, UpgradeRequest

if TYPE_CHECKING:
    from .._kube.client import Client


def signer_of(client: Client, options: CertificateOptions) -> str:
    """Return the signer of the option, or the signer of the cluster's provider. Raises CertflowError."""
    if options.signer_name:
        return options.signer_name
    return cluster_signer.signer_of(cluster_signer.find_provider(client, options.provider), options.provider)


def issue(
    client: Client,
    request: UpgradeRequest,
    action: IssueCertificate,
    signer: str,
    existing: UpgradeContext | None = None,
) -> Result:
    """Bring the certificate of the action, its Secret and its targets to the wanted state.

    Args:
        existing: the state of the cluster, to try only the targets that can have a CA bundle in it. None to write.

    Raises:
        CertflowError: as k8s_csr.
    """
    intent = intent_from(
        {
            "service": action.service,
            "namespace": action.namespace,
            "secret": {"name": action.secret, "ca_key": "ca.crt"},
            "signer_name": signer,
            "expiration_seconds": request.certificate.expiration_seconds,
            "renew_before": request.certificate.renew_before,
        },
        request.options.accept,
    )
    targets = bundle_targets.targets_from(_targets(action.targets, existing))
    return ensure_certificate(CertificateRun(client, intent, targets, check_mode=existing is not None))


def _targets(targets: Sequence[Reference], existing: UpgradeContext | None) -> list[dict[str, Any]]:
    """Return the targets of the action, without those that cannot have a CA bundle yet, because a later step creates them.

    existing: the state of the cluster, None for all targets.
    """
    ready = {target.name for target in targets}
    if existing is not None:
        installed = existing.installed
        ready = {name for name, crd in installed.crds.items() if crd.conversion.strategy == "Webhook"}
        ready.update(configuration.name for configuration in installed.configurations)
    return [{"kind": target.kind, "name": target.name} for target in targets if target.name in ready]
