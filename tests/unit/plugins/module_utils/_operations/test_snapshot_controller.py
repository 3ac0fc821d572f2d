# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the modules become a typed request, or an error with a code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.cluster_signer import (
    ProviderOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    snapshot_controller,
    snapshot_controller_info,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.upgrade_request import (
    UpgradeRequest,
)


def checked(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as Ansible hands them to a module."""
    found = ArgumentSpecValidator(spec).validate({"version": "8.7.0", **given})
    assert not found.error_messages, found.error_messages
    parameters: dict[str, Any] = found.validated_parameters
    return parameters


def request(**given: Any) -> UpgradeRequest:
    return snapshot_controller.parse_request(checked(snapshot_controller.ARGUMENTS, given))


# Options of both modules that are not valid, and the code.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a release that does not exist": ({"version": "9.9.9"}, "release-unavailable"),
    "a release that must not be installed": ({"version": "7.0.0"}, "release-unavailable"),
    "a word for a release": ({"version": "newest"}, "release-unavailable"),
    "an installed version": ({"installed_version": "v7"}, "release-unavailable"),
    "a controller without a namespace": ({"remove_controllers": ["second"]}, "release-unavailable"),
    "a controller without a name": ({"remove_controllers": ["default/"]}, "release-unavailable"),
    "a controller of no namespace": ({"remove_controllers": ["/second"]}, "release-unavailable"),
    "a path of a controller": ({"remove_controllers": ["a/b", "a/b/c"]}, "release-unavailable"),
}
WRONG_UPGRADE: dict[str, tuple[dict[str, Any], str]] = {
    **WRONG,
    "a selector of the controller": ({"controller": {"spec": {"selector": {}}}}, "invalid-input"),
    "no time": ({"step_timeout": 0}, "invalid-input"),
    "a negative time": ({"step_timeout": -1}, "invalid-input"),
    **{
        f"the backup {backup!r}": ({"backup": backup}, "invalid-input")
        for backup in (False, "cluster", "./cluster", "backups", "none", "https://example.com")
    },
}


class Untouched:
    """A client that fails the test if it is used at all."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the cluster was contacted: {name}")


def failure(operation: Operation, spec: dict[str, Any], given: dict[str, Any]) -> CertflowError:
    client: Client = Untouched()  # type: ignore[assignment]
    with pytest.raises(CertflowError) as caught:
        operation.run(client, checked(spec, given), False)
    return caught.value


@pytest.mark.parametrize("case", WRONG_UPGRADE)
def test_an_upgrade_with_a_wrong_option_contacts_no_cluster(case: str) -> None:
    given, code = WRONG_UPGRADE[case]
    error = failure(snapshot_controller.OPERATION, snapshot_controller.ARGUMENTS, given)
    assert (error.code, bool(error.remedy)) == (code, True)


@pytest.mark.parametrize("case", WRONG)
def test_a_plan_with_a_wrong_option_contacts_no_cluster(case: str) -> None:
    given, code = WRONG[case]
    error = failure(snapshot_controller_info.OPERATION, snapshot_controller_info.ARGUMENTS, given)
    assert (error.code, bool(error.remedy)) == (code, True)


@pytest.mark.usefixtures("_no_home")
def test_a_backup_below_a_home_that_does_not_exist_contacts_no_cluster() -> None:
    parameters = {**checked(snapshot_controller.ARGUMENTS, {}), "backup": "~/backups"}
    client: Client = Untouched()  # type: ignore[assignment]
    with pytest.raises(CertflowError) as caught:
        snapshot_controller.OPERATION.run(client, parameters, False)
    assert caught.value.code == "invalid-input"


def test_the_request_has_what_was_given() -> None:
    found = request(
        webhook={"spec": {"replicas": 3}},
        webhook_port=9443,
        webhook_host_network=True,
        controller={"spec": {"replicas": 2}},
        installed_version="7.0.2",
        remove_controllers=["default/second"],
        digests={"snapshot-controller:v8.7.0": "sha256:00"},
        signer_name="example.com/ca",
        backup="/backups",
        undo=False,
        step_timeout=7,
    )
    assert str(found.release) == "8.7.0"
    assert (found.settings.port, found.options.webhook_port, found.options.webhook_host_network) == (
        9443,
        9443,
        True,
    )
    assert found.settings.host_network
    assert found.settings.deployments == {
        "controller": {"spec": {"replicas": 2}},
        "webhook": {"spec": {"replicas": 3}},
    }
    assert found.options.installed_version == (7, 0, 2)
    assert found.options.remove_controllers == ("default/second",)
    assert found.certificate.signer_name == "example.com/ca"
    assert (found.backup_directory, found.undo, found.step_timeout) == (Path("/backups"), False, 7)


@pytest.mark.parametrize(
    ("backup", "directory"), [(None, None), ("", None), (" ", None), (" /a ", Path("/a"))]
)
def test_the_place_of_the_backup(backup: str | None, directory: Path | None) -> None:
    assert request(backup=backup).backup_directory == directory


def test_a_backup_below_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert request(backup="~/backups").backup_directory == Path("/home/me/backups")


def test_the_defaults() -> None:
    found = request()
    assert (found.probe_namespace, found.undo, found.backup_directory) == ("", True, None)
    assert (found.options.webhook_port, found.options.validation_webhook) == (found.settings.port, None)
    assert (found.certificate.signer_name, found.certificate.provider) == ("", ProviderOptions())
