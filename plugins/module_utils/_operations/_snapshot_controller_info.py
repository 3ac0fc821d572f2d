# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_plan: what of external-snapshotter is installed, whose it is, and the steps to a release. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._errors import CertflowError
from .._kube._client import Client
from .._snapshot import _before, _crds, _hazards, _observe, _owners, _plan, _reading, _releases, _report
from .._snapshot._errors import ReleaseError
from .._snapshot._situation import Options, Situation
from . import _spec
from ._operation import Operation, Result

POLICIES = ("Ignore", "Fail")

SPEC: dict[str, Any] = {
    "version": {"type": "str", "required": True},
    "installed_version": {"type": "str"},
    "namespace": {"type": "str"},
    "webhook_namespace": {"type": "str"},
    "validation_webhook": {"type": "bool"},
    "conversion_webhook": {"type": "bool"},
    "group_snapshots": {"type": "bool"},
    "failure_policy": {"type": "raw"},
    "controller_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook_port": {"type": "int", "default": 8443},
    "webhook_host_network": {"type": "bool", "default": False},
    "adopt": {
        "type": "list",
        "elements": "str",
        "choices": [owner.key for owner in _owners.OWNERS if owner.adopting],
        "default": [],
    },
    "accept": {
        "type": "list",
        "elements": "str",
        "choices": [row.id for row in _hazards.HAZARDS if row.handling == _hazards.ASK],
        "default": [],
    },
    "remove_controllers": {"type": "list", "elements": "str", "default": []},
    **_spec.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    release, options = _releases.target(parameters["version"]), _options(parameters)
    rules = _crds.row(release.crds, _releases.SNAPSHOT).rules
    installed = _reading.installed(_observe.observe(client, needs_rules=rules), release)
    plan = _plan.plan(installed, release, options)
    now = Situation(installed, release, options)
    values = {
        "installed": _report.installed(now),
        "owners": _report.owners(now),
        "proofs": _report.proofs(_before.proofs(now)),
        **_report.plan(plan),
    }
    return Result(changed=False, values=values)


def _options(parameters: Mapping[str, Any]) -> Options:
    return Options(
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
        webhook_port=parameters["webhook_port"],
        webhook_host_network=parameters["webhook_host_network"],
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


def _version(words: str | None) -> _releases.Version | None:
    version = _releases.parse(words) if words else None
    if words and version is None:
        raise ReleaseError(f"installed_version {words} is no version", remedy="give it as 7.0.2")
    return version


def _places(names: list[str]) -> list[str]:
    for name in names:
        if name.count("/") != 1 or name.startswith("/") or name.endswith("/"):
            raise ReleaseError(
                f"remove_controllers names {name!r}",
                remedy="give each as namespace/name, such as default/snapshot-controller",
            )
    return names


OPERATION = Operation(name="snapshot_controller_plan", argument_spec=SPEC, run=run)
