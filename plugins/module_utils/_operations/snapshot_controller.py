# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller: install, upgrade or verify the snapshot controller of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._ansible.operation import Operation
from .._base.errors import CertflowError
from .._base.paths import expand
from .._base.result import Result
from .._certificate.cluster_signer import AUTO, ProviderOptions
from .._download import source_auth
from .._kube import approved_plan
from .._kube.client import Client
from .._process import interrupt, progress_lines
from .._snapshot.release import partial_deployment
from .._snapshot.release.pod_templates import ReleaseSettings
from .._snapshot.release.release_source import UPSTREAM, ReleaseSource
from .._upgrade.engine import Upgrade
from .._upgrade.preflight import ROLES
from .._upgrade.upgrade_request import CertificateOptions, UpgradeRequest
from . import snapshot_controller_info
from .snapshot_controller_info import parse_options, parse_release

PRESENT, VERIFIED = "present", "verified"
#: The options with a part of a Deployment.
DEPLOYMENTS = ("controller", "webhook")
ARGUMENTS: dict[str, Any] = {
    **snapshot_controller_info.ARGUMENTS,
    "state": {"type": "str", "choices": [PRESENT, VERIFIED], "default": PRESENT},
    **{option: {"type": "dict", "default": {}} for option in DEPLOYMENTS},
    "source": {"type": "str", "default": UPSTREAM},
    "source_auth": {
        "type": "dict",
        "options": {
            "headers": {"type": "dict", "no_log": True},
            "token": {"type": "str", "no_log": True},
            "url_username": {"type": "str"},
            "url_password": {"type": "str", "no_log": True},
            "client_cert": {"type": "path"},
            "client_key": {"type": "path", "no_log": False},  # a path
            "ca_path": {"type": "path"},
        },
    },
    "sums": {"type": "dict", "default": {}},
    "cache_directory": {"type": "path", "default": "~/.cache/certflow.kubernetes/releases"},
    "digests": {"type": "dict", "default": {}},
    "signer_name": {"type": "str"},
    "provider": {"type": "str", "default": AUTO},
    "providers": {"type": "dict", "default": {}},
    "expiration_seconds": {"type": "int"},
    "renew_before": {"type": "str"},
    "probe_namespace": {"type": "str"},
    "undo": {"type": "bool", "default": True},
    "backup": {"type": "str"},
    "step_timeout": {"type": "int", "default": 600},
    "wait_timeout": {"type": "int", "default": 3600},
    **approved_plan.OPTION,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Install, upgrade or verify. Raises CertflowError."""
    progress = progress_lines.start_progress()
    # A signal before the first write ends with a result too. A worker that ends without one ends the play of every cluster.
    with interrupt.stop_on_signal():
        request = parse_request(parameters)
        guard = approved_plan.begin(client, parameters, ARGUMENTS, check_mode=check_mode)
        upgrade = Upgrade(client, request, progress, guard)
        client.hooks.append(progress.repeat_if_due)
        if parameters["state"] == VERIFIED:
            return upgrade.verify(check_mode=check_mode)
        return upgrade.check() if check_mode else upgrade.run()


def parse_request(parameters: Mapping[str, Any]) -> UpgradeRequest:
    """Return the request of snapshot_controller's parameters.

    It needs no cluster, so an error is found before a cluster is contacted. Raises CertflowError for a value that is not valid.
    """
    if parameters["step_timeout"] < 1:
        raise CertflowError(
            f"the option step_timeout has the value {parameters['step_timeout']}, which is not a number of seconds",
            remedy="Set step_timeout to 1 or more seconds",
        )
    deployments = {option: parameters[option] or {} for option in DEPLOYMENTS}
    for option, partial in deployments.items():
        partial_deployment.check(option, partial)
    backup = parse_backup(parameters["backup"])
    return UpgradeRequest(
        release=parse_release(parameters),
        options=parse_options(parameters),
        settings=ReleaseSettings(
            deployments=deployments,
            host_network=parameters["webhook_host_network"],
            registry=parameters["image_registry"],
            digests=parameters["digests"],
            port=parameters["webhook_port"],
        ),
        source=ReleaseSource(
            parameters["source"],
            Path(parameters["cache_directory"]),
            parameters["sums"],
            source_auth.parse(parameters["source_auth"]),
        ),
        certificate=CertificateOptions(
            signer_name=parameters["signer_name"] or "",
            provider=ProviderOptions(parameters["provider"], parameters["providers"]),
            expiration_seconds=parameters["expiration_seconds"],
            renew_before=parameters["renew_before"],
        ),
        probe_namespace=parameters["probe_namespace"] or "",
        undo=parameters["undo"],
        backup_directory=Path(expand(backup)) if backup else None,
        step_timeout=parameters["step_timeout"],
    )


def parse_backup(value: str | None) -> str:
    """Return an absolute path, or "" for no backup. Raises CertflowError for another value."""
    backup = (value or "").strip()
    if backup and not backup.startswith(("/", "~")):
        raise CertflowError(
            f"the option backup has the value {backup}, which is not an absolute path",
            remedy="Set backup to an absolute path. Leave it empty to write no backup",
        )
    return backup


OPERATION = Operation(
    name="snapshot_controller", argument_spec=ARGUMENTS, run=run, roles=lambda _parameters: ROLES
)
