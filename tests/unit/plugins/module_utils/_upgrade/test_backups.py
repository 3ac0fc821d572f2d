# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backup in the cluster: its ConfigMaps, their parts, and the removal of older ones."""

from __future__ import annotations

import base64
import copy
import gzip
import random
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Forbidden,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import backups

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

Object = dict[str, Any]
NAME = "certflow-snapshot-controller-backup"
NOW = datetime(2026, 3, 1, 3, 0, tzinfo=timezone.utc)
PATH = "/api/v1/namespaces/kube-system/configmaps"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "hook", "namespace": "default"},
    "spec": {},
}
KEY = base64.b64encode(b"-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n").decode()
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "tls", "namespace": "default"},
    "data": {"tls.key": KEY, "password": "cGFzcw=="},
}  # fmt: skip


class BackupApi:
    """The ConfigMaps of a namespace. refuses: verbs that are forbidden."""

    host = "https://203.0.113.7:6443"

    def __init__(self, *refuses: str) -> None:
        self.objects: dict[str, Object] = {}
        self.refuses = refuses
        self.loses_answers = False

    def create(self, path: str, body: Object, *, idempotent: bool) -> Object:
        assert (path, idempotent) == (PATH, True)
        self._check("create")
        name = body["metadata"]["name"]
        if name in self.objects:
            raise AlreadyExists(name, status=409)
        assert DNS_SUBDOMAIN.fullmatch(name)
        self.put(name, copy.deepcopy(body))
        if self.loses_answers:  # the client sends it again
            raise AlreadyExists(name, status=409)
        return body

    def put(self, name: str, body: Object) -> None:
        body["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        self.objects[name] = body

    def list_all(self, path: str, query: dict[str, str]) -> Object:
        assert path == PATH
        self._check("list")
        assert query == {"labelSelector": f"{backups.LABEL},{backups.MANAGED_BY}=certflow.kubernetes"}
        labelled = [
            one for one in self.objects.values() if backups.LABEL in one["metadata"].get("labels", {})
        ]
        return {"items": copy.deepcopy(labelled)}

    def delete(self, path: str, *, uid: str, resource_version: str) -> None:
        self._check("delete")
        name = path.rpartition("/")[2]
        if (uid, resource_version) != (f"uid-{name}", "1"):
            raise NotFound(name, status=404)
        del self.objects[name]

    def _check(self, verb: str) -> None:
        if verb in self.refuses:
            raise Forbidden(verb, status=403, message="forbidden")


def store(api: BackupApi, *objects: Object, later: int = 0) -> str:
    given = objects or (SERVICE,)
    return backups.store_in_cluster(
        cast("Client", api), "kube-system", NAME, given, NOW + timedelta(seconds=later)
    )


def unpacked(*parts: Object) -> str:
    """Return the text of a backup."""
    packed = b"".join(base64.b64decode(one["binaryData"][backups.KEY]) for one in parts)
    return gzip.decompress(packed).decode()


def test_a_backup_is_one_config_map_with_its_instructions() -> None:
    api = BackupApi()
    assert store(api) == f"ConfigMap kube-system/{NAME}-20260301t030000z"
    (made,) = api.objects.values()
    assert list(yaml.safe_load_all(unpacked(made))) == [SERVICE]
    assert made["immutable"] is True
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "certflow.kubernetes",
        "certflow.kubernetes/backup": "20260301t030000z",
    }
    assert f"{NAME}-20260301t030000z" in made["data"]["README"]
    assert "2026-03-01 03:00:00 UTC" in made["data"]["README"]
    assert "kubectl apply --server-side" in unpacked(made)


def test_a_backup_has_no_private_key_even_if_it_is_given_one() -> None:
    api = BackupApi()
    store(api, SECRET)
    (made,) = api.objects.values()
    (kept,) = yaml.safe_load_all(unpacked(made))
    assert (kept["metadata"]["name"], kept["data"]) == ("tls", {})
    assert KEY not in unpacked(made)


def noise(size: int) -> Object:
    """Return an object that gzip cannot make smaller than about the given number of bytes."""
    text = base64.b64encode(random.Random(1).randbytes(size)).decode()
    return {**SERVICE, "spec": {"externalName": text}}


def test_a_large_backup_is_kept_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "PART_BYTES", 4096)
    api = BackupApi()
    obj = noise(2 * backups.PART_BYTES)
    assert store(api, obj) == f"ConfigMap kube-system/{NAME}-20260301t030000z"
    names = [f"{NAME}-20260301t030000z{end}" for end in ("", "-2", "-3")]
    assert sorted(api.objects) == names
    assert list(api.objects)[-1] == names[0]  # the first part last
    assert list(yaml.safe_load_all(unpacked(*map(api.objects.__getitem__, names)))) == [obj]
    for one in api.objects.values():
        assert len(base64.b64decode(one["binaryData"][backups.KEY])) <= backups.PART_BYTES
        assert f"for name in {' '.join(names)};" in one["data"]["README"]


def test_a_backup_that_is_too_large_is_refused_before_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "PART_BYTES", 4096)
    api = BackupApi()
    with pytest.raises(CertflowError) as caught:
        store(api, noise(backups.MOST_PARTS * backups.PART_BYTES))
    assert (caught.value.code, api.objects) == ("backup-too-large", {})


def test_the_newest_backups_stay() -> None:
    api = BackupApi()
    for number in range(backups.KEPT + 2):
        store(api, later=number)
    times = [name.rpartition("-")[2] for name in api.objects]
    assert times == [f"20260301t03000{number}z" for number in range(2, backups.KEPT + 2)]


def test_all_parts_of_an_old_backup_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "PART_BYTES", 400)
    api = BackupApi()
    store(api)
    assert len(api.objects) > 1
    for number in range(1, backups.KEPT + 1):
        store(api, later=number)
    assert not [name for name in api.objects if "20260301t030000z" in name]
    assert len({one["metadata"]["labels"][backups.LABEL] for one in api.objects.values()}) == backups.KEPT


OLD = "20250101t000000z"
OURS = {backups.MANAGED_BY: "certflow.kubernetes", backups.LABEL: OLD}
OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "no label": (f"{NAME}-{OLD}", {}),
    "another manager": (f"{NAME}-{OLD}", {**OURS, backups.MANAGED_BY: "Helm"}),
    "another name": (f"mine-{OLD}", OURS),
    "a longer name": (f"{NAME}-{OLD}-keep", OURS),
    "a label of another time": (f"{NAME}-{OLD}", {**OURS, backups.LABEL: "keep"}),
}


@pytest.mark.parametrize(("name", "labels"), OTHERS.values(), ids=list(OTHERS))
def test_objects_of_others_stay(name: str, labels: dict[str, str]) -> None:
    api = BackupApi()
    api.put(name, {"metadata": {"labels": labels}})
    for number in range(backups.KEPT + 1):
        store(api, later=number)
    assert name in api.objects
    assert len(api.objects) == backups.KEPT + 1


def test_without_the_permission_to_list_or_delete_old_backups_stay() -> None:
    for verb in ("list", "delete"):
        api = BackupApi(verb)
        for number in range(backups.KEPT + 1):
            store(api, later=number)
        assert len(api.objects) == backups.KEPT + 1
    with pytest.raises(Forbidden):
        store(BackupApi("create"))
    assert [permission.verb for permission in backups.permissions("kube-system")] == [
        "create",
        "list",
        "delete",
    ]


def test_a_lost_answer_is_no_failure() -> None:
    api = BackupApi()
    api.loses_answers = True
    assert store(api) == f"ConfigMap kube-system/{NAME}-20260301t030000z"


@pytest.mark.parametrize("labels", [{}, {**OURS, backups.LABEL: "20260301t030000z"}])
def test_a_config_map_of_that_name_with_other_content_is_not_taken_for_the_backup(
    labels: dict[str, str],
) -> None:
    api = BackupApi()
    api.put(f"{NAME}-20260301t030000z", {"metadata": {"labels": labels}, "binaryData": {"x": "eA=="}})
    with pytest.raises(AlreadyExists) as caught:
        store(api)
    assert caught.value.code == "conflict"
