# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide and write again after a conflict."""

from __future__ import annotations

import time

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Conflict,
    Forbidden,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.json_patch import retry_on_conflict

CONTENDED = CertflowError("it changes again and again")


class Store:
    """An object whose version another client raises before each of the first writes.

    conflicts: the number of these writes.
    """

    def __init__(self, conflicts: int) -> None:
        self.version, self.conflicts = 1, conflicts
        self.written: list[int] = []

    def read(self) -> int:
        return self.version

    def write(self, known: int) -> str:
        self.written.append(known)
        if self.conflicts:
            self.conflicts -= 1
            self.version += 1
            raise Conflict("changed")
        assert known == self.version
        return f"written at {known}"


@pytest.mark.parametrize("conflicts", [0, 1, 2])
def test_the_fresh_object_is_written(conflicts: int) -> None:
    store = Store(conflicts)
    result = retry_on_conflict(1, store.write, store.read, attempts=3, exhausted=CONTENDED)
    assert result == f"written at {conflicts + 1}"
    assert store.written == [1, 2, 3][: conflicts + 1]


@pytest.mark.parametrize(("exhausted", "kind"), [(CONTENDED, CertflowError), (None, Conflict)])
def test_the_attempts_are_bounded(exhausted: CertflowError | None, kind: type[CertflowError]) -> None:
    store = Store(3)
    with pytest.raises(CertflowError) as found:
        retry_on_conflict(1, store.write, store.read, attempts=3, exhausted=exhausted)
    assert type(found.value) is kind
    assert store.written == [1, 2, 3]


def test_a_controller_gets_time_to_end_its_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert retry_on_conflict(1, (store := Store(4)).write, store.read, attempts=5) == "written at 5"
    assert pauses == [0, 0.5, 1, 1.5]
    pauses.clear()
    with pytest.raises(CertflowError):
        retry_on_conflict(1, (store := Store(5)).write, store.read, attempts=5, exhausted=CONTENDED)
    assert pauses == [0, 0.5, 1, 1.5, 0], "nothing comes after the last attempt"


@pytest.mark.parametrize(("fresh", "kind"), [(1, UnprocessableObject), (2, CertflowError)])
def test_an_object_that_did_not_change_was_refused(fresh: int, kind: type[CertflowError]) -> None:
    known = iter((fresh, fresh + 1))

    def refuse(_known: int) -> None:
        raise UnprocessableObject("a policy refuses it")

    with pytest.raises(CertflowError) as found:
        retry_on_conflict(
            1,
            refuse,
            lambda: next(known),
            attempts=2,
            exhausted=CONTENDED,
            conflicts=(Conflict, UnprocessableObject),
            is_refusal=lambda error, before, after: (
                isinstance(error, UnprocessableObject) and before == after
            ),
        )
    assert type(found.value) is kind


def test_another_error_ends_the_attempts() -> None:
    def forbid(_known: int) -> None:
        raise Forbidden("forbidden")

    with pytest.raises(Forbidden):
        retry_on_conflict(1, forbid, lambda: 1, attempts=3, exhausted=CONTENDED)
