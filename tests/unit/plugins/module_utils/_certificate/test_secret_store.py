# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading and writing the Secret, also while other clients write it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    secret_store,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    UnprocessableObject,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._certificate.runs import (
    COLLECTION,
    PATH,
    SPEC,
    newer,
)
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
    api_error,
    found,
    secret_object,
)

pytestmark = pytest.mark.quick


def patch_of(seen: ExistingSecret | None) -> Any:
    return [{"op": "add", "path": "/x", "value": seen.resource_version}] if seen else {"kind": "Secret"}


def test_a_conflict_is_decided_again_on_a_fresh_read() -> None:
    api = ScriptedApi({PATH: newer(secret_object())})
    answers = iter([api_error(Conflict), {}])
    api.on_write = lambda *_: next(answers)
    assert secret_store.write(api, SPEC, found(), patch_of) is None  # type: ignore[arg-type]
    assert [body[0]["value"] for body in api.sent] == ["12", "13"]


def test_a_secret_that_went_away_is_created_and_one_that_came_is_patched() -> None:
    api = ScriptedApi()
    answers = iter([api_error(NotFound), {}])
    api.on_write = lambda *_: next(answers)
    secret_store.write(api, SPEC, found(), patch_of)  # type: ignore[arg-type]
    assert api.writes() == [("PATCH", PATH), ("POST", COLLECTION)]
    api = ScriptedApi({PATH: secret_object()})
    answers = iter([api_error(AlreadyExists), {}])
    api.on_write = lambda *_: next(answers)
    secret_store.write(api, SPEC, None, patch_of)  # type: ignore[arg-type]
    assert api.writes() == [("POST", COLLECTION), ("PATCH", PATH)]


@pytest.mark.parametrize(("seen", "error"), [(True, UnprocessableObject), (False, NotFound)])
def test_a_refusal_is_not_a_race(seen: bool, error: Any) -> None:
    """422 for an unchanged Secret, 404 for a namespace that went away."""
    api = ScriptedApi({PATH: secret_object()} if seen else {})
    api.on_write = lambda *_: api_error(error)
    with pytest.raises(error):
        secret_store.write(api, SPEC, found() if seen else None, patch_of)  # type: ignore[arg-type]
    assert len(api.writes()) == 1


def test_a_client_that_writes_all_the_time_ends_the_retries() -> None:
    versions = iter(range(100, 200))
    api = ScriptedApi({PATH: lambda: newer(secret_object(), str(next(versions)))})
    api.on_write = lambda *_: api_error(Conflict)
    with fails("conflict", "apps/hook-tls"):
        secret_store.write(api, SPEC, found(), patch_of)  # type: ignore[arg-type]


def test_warnings_of_the_dry_run_are_dropped() -> None:
    api = ScriptedApi()
    api.warnings.append("earlier")
    api.on_write = lambda *_: api.warnings.append("tls: failed to find any PEM data in certificate input")
    secret_store.try_out(api, SPEC, {"kind": "Secret"})  # type: ignore[arg-type]
    assert api.warnings == ["earlier"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotFound, "not-found"), (UnprocessableObject, "secret-unusable"), (Forbidden, "secret-unusable")],
)
def test_errors_of_the_dry_run(error: Any, code: str) -> None:
    api = ScriptedApi()
    api.on_write = lambda *_: api_error(error, "its own words")
    with fails(code, "apps") as caught:
        secret_store.try_out(api, SPEC, {"kind": "Secret"})  # type: ignore[arg-type]
    assert caught.value.remedy


def test_a_missing_permission_to_read_is_named() -> None:
    with fails("missing-permissions", "get", "secrets", "hook-tls", "apps"):
        secret_store.read(ScriptedApi({PATH: api_error(Forbidden)}), SPEC)  # type: ignore[arg-type]


DRY_RUN_RACES: list[tuple[Any, Any]] = [
    (Conflict, [{"op": "add"}]),
    (NotFound, [{"op": "add"}]),
    (AlreadyExists, {"kind": "Secret"}),  # two first runs at once
]


@pytest.mark.parametrize(("error", "wanted"), DRY_RUN_RACES)
def test_a_secret_that_changes_during_the_dry_run_is_no_error(error: Any, wanted: Any) -> None:
    api = ScriptedApi()
    api.on_write = lambda *_: api_error(error)
    secret_store.try_out(api, SPEC, wanted)  # type: ignore[arg-type]
