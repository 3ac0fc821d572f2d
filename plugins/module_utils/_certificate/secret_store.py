# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Secret on the API server: read it, write it, and read it again if another client wrote it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, Union

from .._csr import markers, secret_content
from .._csr.errors import SecretError
from .._csr.intent import Intent, SecretSpec
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound, UnprocessableObject
from .._kube.json_patch import retry_on_conflict

ATTEMPTS = 5

# An object to create, a JSON patch, or nothing to write.
Change = Union[dict[str, Any], list[dict[str, Any]], None]


def read(client: Client, spec: SecretSpec) -> ExistingSecret | None:
    """Return the Secret, None if it does not exist. Raises MissingPermissions."""
    try:
        obj = client.find(spec.path)
    except Forbidden as exc:
        raise access_review.missing_permissions(
            [permission(spec, "get")], f"read {spec}", exc.message
        ) from exc
    return secret_content.read_secret(obj, spec) if obj else None


def read_others(client: Client, intent: Intent) -> Mapping[str, ExistingSecret] | None:
    """Return the other Secrets that this collection wrote for the Service by their names, None if this identity may not list Secrets.

    A Service gets a second Secret if the first one had a type that cannot be changed.
    """
    spec, service = intent.secret, markers.annotations_for(intent)[markers.SERVICE]
    try:
        listed = client.list_all(spec.collection, {"labelSelector": markers.SECRET_LABEL})["items"]
    except Forbidden:
        return None
    return {
        name: secret_content.read_secret(obj, replace(spec, name=name))
        for obj in listed
        if (obj["metadata"].get("annotations") or {}).get(markers.SERVICE) == service
        and (name := obj["metadata"]["name"]) != spec.name
    }


def permission(spec: SecretSpec, verb: str) -> Permission:
    """Return the permission for this verb on the Secret. A permission to create is not limited to a name."""
    return Permission(verb, "", "secrets", spec.namespace, "" if verb == "create" else spec.name)


def write(
    client: Client,
    spec: SecretSpec,
    secret: ExistingSecret | None,
    change: Callable[[ExistingSecret | None], Change],
) -> ExistingSecret | None:
    """Write the change that ``change`` returns for the Secret. After a conflict, read the Secret and call ``change`` again.

    Return None after the write. If there is nothing to write, return the Secret as it is. Raises SecretError, KubeError,
    and the errors of ``change``.
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
        secret,
        write_once,
        lambda: read(client, spec),
        attempts=ATTEMPTS,
        exhausted=SecretError(
            f"another client changed {spec} {ATTEMPTS} times in a row",
            code="conflict",
            remedy="Find the client that writes it (metadata.managedFields), and run the task again",
        ),
        conflicts=(Conflict, AlreadyExists, UnprocessableObject, NotFound),
        is_refusal=is_refusal,
    )


def try_out(client: Client, spec: SecretSpec, wanted: Change) -> list[Permission]:
    """Try the write by a dry run, which checks namespace, quotas and policies. Return the permission if it is missing.

    Raises SecretError.
    """
    warnings = list(client.warnings)
    try:
        send(client, spec, wanted, dry_run=True)
    except (Conflict, AlreadyExists):
        pass  # another client has just written it. The write itself reads it again
    except NotFound as exc:
        if isinstance(wanted, list):
            return []  # another client has just deleted it
        raise SecretError(
            f"namespace {spec.namespace} does not exist, so {spec} cannot be stored",
            code="not-found",
            remedy=f"Create it first: kubectl create namespace {spec.namespace}",
        ) from exc
    except (Forbidden, UnprocessableObject) as exc:
        # A policy refuses with the status of a missing permission.
        needed = permission(spec, "create" if isinstance(wanted, dict) else "patch")
        if isinstance(exc, Forbidden) and access_review.find_missing(client, [needed]):
            return [needed]
        raise SecretError(
            f"the API server would refuse {spec}: {exc.message}",
            remedy="Change what it refuses: secret.type, keys, labels or annotations, or the policy that it names",
        ) from exc
    finally:
        # The API server warns that the dry run has no certificate. Other warnings come again with the write.
        client.warnings[:] = warnings
    return []


def send(client: Client, spec: SecretSpec, wanted: Change, *, dry_run: bool = False) -> None:
    if isinstance(wanted, dict):
        client.create(spec.collection, wanted, dry_run=dry_run, idempotent=True)
    elif wanted:
        client.patch(spec.path, wanted, dry_run=dry_run)
