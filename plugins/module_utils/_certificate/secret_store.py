# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Secret on the API server: read it, and write it on a fresh read where somebody was faster."""

from __future__ import annotations

from typing import Any, Callable, Union

from .._csr import secret_content
from .._csr.errors import SecretError
from .._csr.intent import SecretSpec
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._kube.access_review import Right
from .._kube.client import Client
from .._kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound
from .._kube.update_object import retry_on_conflict

ATTEMPTS = 5

# An object to create, a JSON patch, or nothing to write.
Change = Union[dict[str, Any], list[dict[str, Any]], None]


def read(client: Client, spec: SecretSpec) -> ExistingSecret | None:
    """The Secret, None where there is none. Raises MissingRights."""
    try:
        obj = client.find(spec.path)
    except Forbidden as exc:
        raise access_review.missing_rights([right(spec, "get")], f"read {spec}", exc.message) from exc
    return secret_content.read_secret(obj, spec) if obj else None


def right(spec: SecretSpec, verb: str) -> Right:
    """The right to do this to the Secret; for create, names mean nothing."""
    return Right(verb, "", "secrets", spec.namespace, "" if verb == "create" else spec.name)


def write(
    client: Client,
    spec: SecretSpec,
    found: ExistingSecret | None,
    change: Callable[[ExistingSecret | None], Change],
) -> ExistingSecret | None:
    """Write what ``change`` says for the Secret as it is now; it is asked again after each fresh read.

    Returns the Secret as it was where there was nothing to write, None once it is written. Raises SecretError,
    KubeError, and whatever ``change`` raises.
    """

    def write_once(known: ExistingSecret | None) -> ExistingSecret | None:
        wanted = change(known)
        if not wanted:
            return known
        send(client, spec, wanted)
        return None

    def is_refusal(_error: ApiError, known: ExistingSecret | None, fresh: ExistingSecret | None) -> bool:
        return (known and known.resource_version) == (fresh and fresh.resource_version)

    return retry_on_conflict(
        found,
        write_once,
        lambda: read(client, spec),
        attempts=ATTEMPTS,
        exhausted=SecretError(
            f"another client changed {spec} {ATTEMPTS} times in a row",
            code="conflict",
            remedy="Find the client that writes it (metadata.managedFields), and run the task again",
        ),
        conflicts=(Conflict, AlreadyExists, Invalid, NotFound),
        is_refusal=is_refusal,
    )


def try_out(client: Client, spec: SecretSpec, wanted: Change) -> None:
    """A server dry run: namespace, quotas and policies show before anything is written. Raises SecretError."""
    warnings = list(client.warnings)
    try:
        send(client, spec, wanted, dry_run=True)
    except (Conflict, AlreadyExists):
        pass  # somebody has just written it: the write itself looks again
    except NotFound as exc:
        if isinstance(wanted, list):
            return  # or removed it
        raise SecretError(
            f"namespace {spec.namespace} does not exist, so {spec} cannot be stored",
            code="not-found",
            remedy=f"create it first: kubectl create namespace {spec.namespace}",
        ) from exc
    except (Forbidden, Invalid) as exc:
        raise SecretError(
            f"the API server would refuse {spec}: {exc.message}",
            remedy="change what it objects to: secret.type, keys, labels or annotations, or the policy that it names",
        ) from exc
    finally:
        # The trial has no certificate yet, which the API server warns of. What else it warns of comes with the write.
        client.warnings[:] = warnings


def send(client: Client, spec: SecretSpec, wanted: Change, *, dry_run: bool = False) -> None:
    if isinstance(wanted, dict):
        client.create(spec.collection, wanted, dry_run=dry_run, idempotent=True)
    elif wanted:
        client.patch(spec.path, wanted, dry_run=dry_run)
