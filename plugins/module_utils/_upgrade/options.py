# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The options of snapshot_controller and snapshot_controller_info, and the typed request that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._ansible import argument_specs
from .._errors import CertflowError
from .._paths import expand
from .._snapshot.errors import ReleaseError
from .._snapshot.hazards import table
from .._snapshot.installed import installers
from .._snapshot.plan.upgrade_context import UpgradeOptions
from .._snapshot.release import release_table
from .._snapshot.release.release_source import UPSTREAM, ReleaseSource
from .._snapshot.release.release_table import Release
from .._snapshot.release.settings import (
    REGISTRY,
    WEBHOOK_PORT,
    DeploymentSettings,
    ImageSettings,
    ReleaseSettings,
)

POLICIES = ("Ignore", "Fail")
PRESENT, VERIFIED = "present", "verified"

WORKLOAD: dict[str, Any] = {
    "replicas": {"type": "int"},
    "min_ready_seconds": {"type": "int"},
    "labels": {"type": "dict", "default": {}},
    "annotations": {"type": "dict", "default": {}},
    "tolerations": {"type": "list", "elements": "dict", "default": []},
    "node_selector": {"type": "dict", "default": {}},
    "affinity": {"type": "dict", "default": {}},
    "resources": {"type": "dict", "default": {}},
    "priority_class": {"type": "str", "default": ""},
    "host_network": {"type": "bool", "default": False},
}
PLAN: dict[str, Any] = {
    "version": {"type": "str", "required": True},
    "until_version": {"type": "str"},
    "installed_version": {"type": "str"},
    "namespace": {"type": "str"},
    "webhook_namespace": {"type": "str"},
    "validation_webhook": {"type": "bool"},
    "conversion_webhook": {"type": "bool"},
    "group_snapshots": {"type": "bool"},
    "failure_policy": {"type": "raw"},
    "controller_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook": {
        "type": "dict",
        "options": {**WORKLOAD, "port": {"type": "int", "default": WEBHOOK_PORT}},
    },
    "adopt": {
        "type": "list",
        "elements": "str",
        "choices": [owner.key for owner in installers.OWNERS if owner.adopting],
        "default": [],
    },
    "accept": {
        "type": "list",
        "elements": "str",
        "choices": [row.id for row in table.HAZARDS if row.handling == table.ASK],
        "default": [],
    },
    "remove_controllers": {"type": "list", "elements": "str", "default": []},
    **argument_specs.AUTH,
}
UPGRADE: dict[str, Any] = {
    **PLAN,
    "state": {"type": "str", "choices": [PRESENT, VERIFIED], "default": PRESENT},
    "controller": {"type": "dict", "options": WORKLOAD},
    "source": {"type": "str", "default": UPSTREAM},
    "sums": {"type": "dict", "default": {}},
    "cache_directory": {"type": "path", "default": "~/.cache/certflow.kubernetes/releases"},
    "image_registry": {"type": "str", "default": REGISTRY},
    "digests": {"type": "dict", "default": {}},
    "pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},  # names
    "signer_name": {"type": "str"},
    "provider": {"type": "str", "default": "auto"},
    "providers": {"type": "list", "elements": "dict", "default": []},
    "signers": {"type": "dict", "default": {}},
    "expiration_seconds": {"type": "int"},
    "renew_before": {"type": "str"},
    "probe_namespace": {"type": "str"},
    "undo": {"type": "bool", "default": True},
    "backup_directory": {"type": "path"},
    "backup_in_cluster": {"type": "bool", "default": False},
    "step_timeout": {"type": "int", "default": 600},
    "wait_timeout": {"type": "int", "default": 3600},
}


@dataclass(frozen=True)
class CertificateOptions:
    """How the webhook's certificate is obtained.

    signer_name: "" for the signer that the provider of the cluster has.
    expiration_seconds, renew_before: as of k8s_csr.
    """

    signer_name: str = ""
    provider: str = "auto"
    providers: Sequence[Mapping[str, Any]] = ()
    signers: Mapping[str, str] = field(default_factory=dict)
    expiration_seconds: int | None = None
    renew_before: str | None = None


@dataclass(frozen=True)
class Request:
    """An upgrade as the user wants it.

    release: the release to go to.
    until: the hop to stop after, None for all.
    options: the choices that the plan depends on.
    settings: the content of the Deployments.
    source: the place of the release's manifests.
    probe_namespace: where verifications create objects, "" for the controller's namespace.
    undo: put back the previous release if a hop fails.
    backup_directory: None for no file.
    backup_in_cluster: keep the backup in ConfigMaps too.
    step_timeout: the longest time for one step, in seconds.
    """

    release: Release
    options: UpgradeOptions
    settings: ReleaseSettings
    source: ReleaseSource
    certificate: CertificateOptions
    until: Release | None = None
    probe_namespace: str = ""
    undo: bool = True
    backup_directory: Path | None = None
    backup_in_cluster: bool = False
    step_timeout: int = 600

    def for_kubernetes(self, version: tuple[int, int]) -> Request:
        """Return the request for a cluster. version: of its API server, major and minor."""
        return replace(self, settings=replace(self.settings, kubernetes=version))


def request_from(parameters: Mapping[str, Any]) -> Request:
    """Return the request of snapshot_controller's parameters.

    It needs no cluster, so an error is found before a cluster is contacted. Raises CertflowError for a value that is not valid.
    """
    if parameters["step_timeout"] < 1:
        raise CertflowError(
            f"the option step_timeout has the value {parameters['step_timeout']}, which is not a number of seconds",
            remedy="Set step_timeout to 1 or more seconds",
        )
    webhook = parameters["webhook"] or {}
    backup = expand(parameters["backup_directory"] or "")
    return Request(
        release=release_from(parameters),
        options=options_from(parameters),
        until=until_from(parameters),
        settings=ReleaseSettings(
            controller=_workload(parameters["controller"]),
            webhook=_workload(webhook),
            images=ImageSettings(
                parameters["image_registry"], parameters["digests"], parameters["pull_secrets"]
            ),
            port=webhook.get("port") or WEBHOOK_PORT,
        ),
        source=ReleaseSource(parameters["source"], Path(parameters["cache_directory"]), parameters["sums"]),
        certificate=CertificateOptions(
            signer_name=parameters["signer_name"] or "",
            provider=parameters["provider"],
            providers=parameters["providers"],
            signers=parameters["signers"],
            expiration_seconds=parameters["expiration_seconds"],
            renew_before=parameters["renew_before"],
        ),
        probe_namespace=parameters["probe_namespace"] or "",
        undo=parameters["undo"],
        backup_directory=Path(backup) if backup else None,
        backup_in_cluster=parameters["backup_in_cluster"],
        step_timeout=parameters["step_timeout"],
    )


def release_from(parameters: Mapping[str, Any]) -> Release:
    """Return the release of the option version. Raises CertflowError."""
    if not parameters["version"].strip():
        raise CertflowError("the option version is empty", remedy="Give a release, such as version: 8.7.0")
    return release_table.target(parameters["version"])


def until_from(parameters: Mapping[str, Any]) -> Release | None:
    """Return the release of the option until_version, None if it is not set. Raises CertflowError."""
    return release_table.target(parameters["until_version"]) if parameters["until_version"] else None


def options_from(parameters: Mapping[str, Any]) -> UpgradeOptions:
    """Return the choices that the plan depends on. Raises CertflowError for a value that is not valid."""
    webhook = parameters["webhook"] or {}
    return UpgradeOptions(
        namespace=parameters["namespace"] or "",
        webhook_namespace=parameters["webhook_namespace"] or "",
        validation_webhook=parameters["validation_webhook"],
        conversion_webhook=parameters["conversion_webhook"],
        group_snapshots=parameters["group_snapshots"],
        **_policies(parameters["failure_policy"]),
        adopt=tuple(parameters["adopt"]),
        accept=tuple(parameters["accept"]),
        remove_controllers=tuple(_places(parameters["remove_controllers"])),
        installed_version=_version(parameters["installed_version"]),
        controller_arguments=tuple(parameters["controller_arguments"]),
        webhook_arguments=tuple(parameters["webhook_arguments"]),
        webhook_port=webhook.get("port") or WEBHOOK_PORT,
        webhook_host_network=bool(webhook.get("host_network")),
    )


def _workload(given: Mapping[str, Any] | None) -> DeploymentSettings:
    return DeploymentSettings(
        **{key: value for key, value in (given or {}).items() if key in WORKLOAD and value is not None}
    )


def _policies(given: Any) -> dict[str, Any]:
    """Return the options for one failurePolicy, or for failurePolicies by configuration name."""
    by_name = isinstance(given, Mapping)
    wrong = [one for one in (given.values() if by_name else [given or POLICIES[0]]) if one not in POLICIES]
    if wrong:
        raise CertflowError(
            f"the option failure_policy has the value {wrong[0]!r}, which is not a failure policy",
            remedy=f"Set {' or '.join(POLICIES)}, or a dictionary with one of them for each configuration name",
        )
    return {"failure_policies": dict(given)} if by_name else {"failure_policy": given or ""}


def _version(words: str | None) -> release_table.Version | None:
    version = release_table.parse(words) if words else None
    if words and version is None:
        raise ReleaseError(
            f"the option installed_version has the value {words!r}, which is not a version",
            remedy="Set three numbers, such as 7.0.2",
        )
    return version


def _places(names: list[str]) -> list[str]:
    for name in names:
        if name.count("/") != 1 or name.startswith("/") or name.endswith("/"):
            raise ReleaseError(
                f"the option remove_controllers has the value {name!r}, which is not of the form namespace/name",
                remedy="Set each as namespace/name, such as default/snapshot-controller",
            )
    return names
