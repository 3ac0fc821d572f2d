# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Define the request of an upgrade: the typed options of snapshot_controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .._certificate.cluster_signer import ProviderOptions
from .._snapshot.context.hop_context import UpgradeOptions
from .._snapshot.release.pod_templates import ReleaseSettings
from .._snapshot.release.release_source import ReleaseSource
from .._snapshot.release.release_table import Release


@dataclass(frozen=True)
class CertificateOptions:
    """The options of the webhook's certificate.

    signer_name: the signer, "" for the signer of the cluster's provider.
    provider: how that provider is chosen.
    expiration_seconds: the lifetime that the request asks for, None for the signer's own.
    renew_before: see k8s_csr, None for its default.
    """

    signer_name: str = ""
    provider: ProviderOptions = field(default_factory=ProviderOptions)
    expiration_seconds: int | None = None
    renew_before: str | None = None


@dataclass(frozen=True)
class UpgradeRequest:
    """The options of an upgrade.

    release: the release to go to.
    options: the choices that the plan depends on.
    settings: the content of the Deployments.
    source: the place of the release's manifests.
    certificate: the options of the webhook's certificate.
    probe_namespace: where verifications create objects, "" for the controller's namespace.
    undo: put back the previous release if a hop fails.
    backup_directory: None for no file.
    step_timeout: the longest time for one step, in seconds.
    """

    release: Release
    options: UpgradeOptions
    settings: ReleaseSettings
    source: ReleaseSource
    certificate: CertificateOptions
    probe_namespace: str = ""
    undo: bool = True
    backup_directory: Path | None = None
    step_timeout: int = 600
