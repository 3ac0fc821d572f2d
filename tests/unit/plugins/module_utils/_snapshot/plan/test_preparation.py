# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the work before the first write, and the undo: dry runs, the backup, restored Deployments."""

from __future__ import annotations

import base64
import copy
import re
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import MASK, mask
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Action, Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import (
    NotYetError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.pod_templates import (
    ReleaseSettings,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_source import (
    ReleaseSource,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions as actions_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import backups, preflight
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
    ObjectOutcome,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support import failures
from tests.support.accepted import accepting
from tests.support.certificates.key_leaks import unknown_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

Object = dict[str, Any]
TARGET = Reference("Service", "hook", "default")


class UpgradedCluster:
    """A client that reads one object."""

    def __init__(self, *objects: Object) -> None:
        self.objects = {f"{obj['kind']} {obj['metadata']['name']}": obj for obj in objects}

    def find(self, path: str) -> Object | None:
        name = path.rpartition("/")[2]
        found = next((obj for obj in self.objects.values() if obj["metadata"]["name"] == name), None)
        return copy.deepcopy(found)


def context(client: UpgradedCluster | None = None) -> ActionContext:
    source = ReleaseSource("none", Path("none"), {})
    return ActionContext(
        cast("Client", client),
        source,
        ReleaseSettings(),
        "kube-system",
        consent=accepting(),
        check_mode=False,
    )


def step(name: str, action: Action) -> Step:
    return Step(name, name, "", action)


def writes(given: ActionContext, _parameters: Any) -> list[ObjectOutcome]:
    assert given.check_mode, "a preflight writes nothing"
    return [ObjectOutcome(TARGET, "changed")]


def keeps(given: ActionContext, _parameters: Any) -> list[ObjectOutcome]:
    assert given.check_mode
    return [ObjectOutcome(TARGET, "unchanged")]


def lacks(_given: ActionContext, _parameters: Any) -> list[ObjectOutcome]:
    raise NotYetError("there is no such thing yet")


def fails(_given: ActionContext, _parameters: Any) -> list[ObjectOutcome]:
    raise Forbidden("no", message="no", remedy="ask", status=403)


class Writes(Action):
    pass


class Keeps(Action):
    pass


class Lacks(Action):
    pass


class Fails(Action):
    pass


ACTIONS: dict[type[Action], Callable[[ActionContext, Any], list[ObjectOutcome]]] = {
    Writes: writes,
    Keeps: keeps,
    Lacks: lacks,
    Fails: fails,
}


@pytest.mark.parametrize(
    ("actions", "due", "problems"),
    [
        ([Keeps, Keeps], [], []),
        ([Keeps, Writes], ["1"], []),
        ([Lacks], ["0"], ["0"]),  # nothing before it would make it
        ([Writes, Lacks], ["0", "1"], []),
        ([Fails, Writes, Fails], ["1"], ["0", "2"]),  # all of them are named
        ([Action, Keeps], [], []),  # an action that is not in the table
    ],
)
def test_dry_runs_of_steps(
    monkeypatch: pytest.MonkeyPatch, actions: list[type[Action]], due: list[str], problems: list[str]
) -> None:
    steps = [step(str(number), action()) for number, action in enumerate(actions)]
    monkeypatch.setattr(actions_module, "ACTIONS", ACTIONS)
    foreseen = preflight.try_actions(context(), steps)
    assert [entry.step.id for entry in foreseen.tried if entry.is_due] == due
    assert [problem.step for problem in foreseen.problems] == problems


@pytest.mark.parametrize(
    ("message", "tells"),
    [
        ('pods is forbidden: User "u" cannot create resource "pods" in API group ""', False),
        ('pods "x" is forbidden: error looking up service account kube-system/c: not found', False),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', True),
        ('pods "x" is forbidden: exceeded quota: small', True),
    ],
)
def test_a_refused_pod_is_a_problem_of_its_deployment(message: str, tells: bool) -> None:
    refused = Forbidden("no", message=message, remedy="", status=403)
    assert preflight._is_about_something_else(refused) is not tells


PEM = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_backup_holds_the_changed_objects_but_no_private_key(tmp_path: Path) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hook", "namespace": "default", "uid": "u", "managedFields": [{}]},
        "spec": {"selector": {"app": "hook"}},
        "status": {},
    }
    values = {"tls.crt": PEM, "tls.key": KEY, "ca.crt": PEM + KEY, "cert.pem": PEM * 2, "password": PEM}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": KEY}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "namespace": "default", "labels": {"a": "b"}, "annotations": applied},
        "type": "kubernetes.io/tls",
        "data": {key: encoded(value) for key, value in values.items()},
    }
    old = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "old", "namespace": "default"},
    }
    owned = {"name": "set", "namespace": "default", "ownerReferences": [{"controller": True}]}
    made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": owned}
    touched = [
        TARGET,
        Reference("Secret", "tls", "default"),
        TARGET,
        Reference("Service", "gone", "default"),
        Reference("StatefulSet", "old", "default"),
        Reference("ReplicaSet", "set", "default"),
    ]
    kept = backups.read_originals(cast("Client", UpgradedCluster(service, secret, old, made)), touched)
    assert kept[touched[1]] == secret  # an undo needs the key
    now = datetime(2026, 3, 1, 3, 0, tzinfo=timezone.utc)
    path = backups.write_file(tmp_path / "new", "https://[2001:db8::1]:6443/prefix", now, list(kept.values()))
    assert re.fullmatch(r"2001-db8-1-6443-prefix-20260301T030000Z-[0-9a-f]{8}\.yaml", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    metadata = {"name": "hook", "namespace": "default"}
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents[0] == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": "hook"}},
    }
    assert documents[1]["data"] == {"tls.crt": encoded(PEM), "cert.pem": encoded(PEM * 2)}
    assert documents[2:] == [old]
    assert encoded(KEY) not in path.read_text() and "S0VZ" not in path.read_text()


def test_no_message_shows_a_part_of_a_key_that_an_undo_may_write() -> None:
    """A policy that refuses the Secret may quote it."""
    pem = unknown_pem(Ed25519PrivateKey.generate())
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "namespace": "default"},
        "data": {
            "tls.crt": encoded(PEM),
            "key.pem": encoded(pem),
            "none": "",
            "binary": "/w==",
            "not": "base64",
        },
    }
    part = encoded(pem)[60:84]
    assert mask(part) == part
    backups.read_originals(cast("Client", UpgradedCluster(secret)), [Reference("Secret", "tls", "default")])
    assert mask(part) == MASK


def test_clusters_with_one_address_keep_their_own_backups(tmp_path: Path) -> None:
    """Behind different proxies, several clusters may have one address."""
    now, host = datetime(2026, 3, 1, 3, 0, tzinfo=timezone.utc), "https://10.0.0.1:6443"
    kept = [{"kind": kind, "metadata": {"name": "hook", "namespace": "demo"}} for kind in ("Service", "Pod")]
    paths = [backups.write_file(tmp_path, host, now, [obj]) for obj in kept]
    assert ["Service" in path.read_text().split("---")[-1] for path in paths] == [True, False]


def test_a_backup_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with failures.fails("invalid-step", "file"):
        backups.write_file(tmp_path / "file", "https://host", datetime.now(timezone.utc), [])
