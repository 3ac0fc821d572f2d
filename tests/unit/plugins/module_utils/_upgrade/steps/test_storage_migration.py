# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage migration with conflicts, and with lists that change while they are read. A real API server rarely shows them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    Conflict,
    ListExpired,
    NotFound,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    MigrateStorage,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import NotYetError
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import storage_migration
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
    ObjectOutcome,
)

from tests.support.failures import fails

Object = dict[str, Any]

CRD = "things.example.com"
CRD_PATH = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}"
COLLECTION = "/apis/example.com/v1/things"


def definition(storage: str = "v1beta1", stored: tuple[str, ...] = ("v1beta1",)) -> Object:
    versions = [
        {"name": name, "served": name != "v1alpha1", "storage": name == storage}
        for name in ("v1alpha1", "v1beta1", "v1")
    ]
    return {
        "metadata": {"name": CRD, "resourceVersion": "1"},
        "spec": {"group": "example.com", "names": {"plural": "things"}, "versions": versions},
        "status": {
            "storedVersions": list(stored),
            "conditions": [{"type": "Established", "status": "True"}],
        },
    }


def thing(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "uid": name}}


class MigrationServer:
    """The part of an API server that a migration uses. answers: for a path, the errors of the next writes."""

    deadline = float("inf")

    def __init__(
        self, crd: Object | None, rounds: list[list[str] | ApiError], /, **answers: list[ApiError]
    ) -> None:
        self.crd = crd
        self.rounds = rounds
        self.answers = answers
        self.written: list[str] = []

    def find(self, _path: str) -> Object | None:
        return copy.deepcopy(self.crd)

    def get(self, path: str) -> Object:
        if path == CRD_PATH and self.crd:
            return copy.deepcopy(self.crd)
        name = path.rpartition("/")[2]
        if name == "gone":
            raise NotFound("gone")
        return thing(name)

    def pages(self, _path: str) -> Iterator[Object]:
        """Yield the objects of each round on pages of one. The last round is repeated."""
        this = self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        if isinstance(this, ApiError):
            raise this
        for name in this:
            yield {"apiVersion": "example.com/v1", "kind": "ThingList", "items": [thing(name)]}

    def replace(self, path: str, body: Mapping[str, Any], *, dry_run: bool) -> Object:
        name = path.rpartition("/")[2]
        problems = self.answers.get(name) or []
        if problems:
            raise problems.pop(0)
        assert body.get("kind", "Thing") == "Thing"
        self.written += [] if dry_run else [name]
        return dict(body)

    def patch(self, path: str, operations: list[Object], *, dry_run: bool = False) -> Object:
        assert self.crd is not None
        problems = self.answers.get("crd") or []
        if problems:
            raise problems.pop(0)
        fresh = copy.deepcopy(self.crd)
        if path.endswith("/status"):
            fresh["status"]["storedVersions"] = operations[-1]["value"]
            self.written.append("storedVersions")
        else:
            for operation in operations:
                if operation["path"].endswith("/storage"):
                    fresh["spec"]["versions"][int(operation["path"].split("/")[3])]["storage"] = operation[
                        "value"
                    ]
            self.written += [] if dry_run else ["storage"]
        self.crd = self.crd if dry_run else fresh
        return fresh


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the waits, in seconds. A migration does not wait in these tests."""
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


def migrate(server: MigrationServer, version: str = "v1", *, check_mode: bool = False) -> list[ObjectOutcome]:
    return storage_migration.migrate(
        ActionContext(cast(Client, server), check_mode=check_mode), MigrateStorage(CRD, version)
    )


def conflict() -> Conflict:
    return Conflict("changed", status=409)


# A case: the definition, the lists of each round, the answers to writes, and the writes.
CASES: dict[str, tuple[Object, list[list[str] | ApiError], dict[str, list[ApiError]], list[str]]] = {
    "everything is written before a version is forgotten": (definition(), [["a", "b"]], {}, ["storage", "a", "b", "storedVersions"]),
    "the storage version is the right one already": (definition("v1", ("v1beta1", "v1")), [["a"]], {}, ["a", "storedVersions"]),
    "it was done before": (definition("v1", ("v1",)), [["a"]], {}, []),
    "nothing is stored": (definition(), [[]], {}, ["storage", "storedVersions"]),
    "what came meanwhile is written too": (definition(), [["a"], ["a", "b"]], {}, ["storage", "a", "b", "storedVersions"]),
    "on the newest after a conflict": (definition(), [["a"]], {"a": [conflict()]}, ["storage", "a", "storedVersions"]),
    "what went meanwhile is no fault": (definition(), [["a", "b"]], {"a": [NotFound("gone", status=404)]}, ["storage", "b", "storedVersions"]),
    "nor what goes after a conflict": (definition(), [["gone", "b"]], {"gone": [conflict()]}, ["storage", "b", "storedVersions"]),
    "a list that was forgotten is begun again": (definition(), [ListExpired("too old", status=410), ["a"]], {}, ["storage", "a", "storedVersions"]),
    "the definition was changed meanwhile": (definition("v1", ("v1beta1", "v1")), [["a"]], {"crd": [conflict()]}, ["a", "storedVersions"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_migrate(case: str, naps: list[float]) -> None:
    crd, rounds, answers, written = CASES[case]
    server = MigrationServer(
        copy.deepcopy(crd), list(rounds), **{key: list(value) for key, value in answers.items()}
    )
    migrate(server)
    assert server.written == written
    # The first attempt after a conflict comes at once.
    assert [nap for nap in naps if nap] == [storage_migration.SETTLE_SECONDS] * bool(written)
    assert server.crd is not None
    assert server.crd["status"]["storedVersions"] == ["v1"]
    assert [version["name"] for version in server.crd["spec"]["versions"] if version["storage"]] == ["v1"]


def test_check_mode_tries_and_writes_nothing(naps: list[float]) -> None:
    server = MigrationServer(definition(), [["a"]])
    done = migrate(server, check_mode=True)
    assert server.written == []
    assert naps == []
    assert [change.after for entry in done for change in entry.changes][-1] == ["v1"]


# A case: as above, with the code and the names of the error instead of the writes.
REFUSED: dict[
    str, tuple[Object | None, list[list[str] | ApiError], dict[str, list[ApiError]], str, tuple[str, ...]]
] = {
    "one object is refused": (
        definition(), [["a", "b"]], {"a": [UnprocessableObject("no", status=422, message="spec is wrong")]}, "rollout-failed",
        ("things.example.com", "default/a:"),
    ),
    "one is changed by another writer at each attempt": (
        definition(), [["a"]], {"a": [conflict() for _number in range(50)]}, "rollout-failed", ("default/a:",),
    ),
    "they are created faster than they are read": (
        definition(), [[str(number) for number in range(until)] for until in range(1, 9)], {}, "rollout-failed",
        (),
    ),
    "a version that is not served": (definition("v1", ("v1alpha1",)), [[]], {}, "invalid-step", ("v1alpha1",)),
    "no such definition": (None, [[]], {}, "invalid-step", ("things.example.com",)),
    "a server that fails": (definition(), [ApiError("no answer", status=500)], {}, "api-error", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_stored_versions_stay_if_an_object_is_not_written(case: str) -> None:
    crd, rounds, answers, code, names = REFUSED[case]
    server = MigrationServer(
        copy.deepcopy(crd), list(rounds), **{key: list(value) for key, value in answers.items()}
    )
    with fails(code, *names) as caught:
        migrate(server, "v1alpha1" if "served" in case else "v1")
    assert isinstance(caught.value, NotYetError) == (code == "invalid-step")
    assert "storedVersions" not in server.written
    assert server.crd is None or crd is None or server.crd["status"] == crd["status"]


class SwitchedBack(MigrationServer):
    """Another client changes the storage version while the objects are written."""

    def replace(self, path: str, body: Mapping[str, Any], *, dry_run: bool) -> Object:
        self.crd = definition("v1beta1", ("v1beta1", "v1"))
        return super().replace(path, body, dry_run=dry_run)


def test_a_storage_version_that_another_client_changed_back() -> None:
    server = SwitchedBack(definition(), [["a"]])
    with fails("rollout-failed", "things.example.com"):
        migrate(server)
    assert "storedVersions" not in server.written
