# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_rbac: write roles, and bind them to subjects. All objects are read and tried before the first is written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .._ansible.argument_specs import AUTH
from .._ansible.operation import Operation
from .._errors import CertflowError
from .._kube import rbac_objects
from .._kube.client import Client
from .._kube.errors import Forbidden, MissingPermissions, NotFound
from .._kube.rbac_objects import RbacChange
from .._managers import OWN_MANAGER
from .._result import Result

PRESENT, ABSENT = "present", "absent"


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the module's documentation. Raises CertflowError."""
    changes = [_read(client, *wanted) for wanted in parse_objects(parameters)]
    due = [change for change in changes if change.is_due]
    for change in due:
        if change.before and not parameters["take_over"]:
            rbac_objects.check_owner(change)
    missing = {change.name for change in due if change.action == rbac_objects.CREATED}
    for change in due:
        _write(client, change, dry_run=True, missing=missing)
    if not check_mode:
        for change in due:
            _write(client, change)
    objects = [
        {"kind": one.kind, "name": one.name, "namespace": one.namespace, "action": one.action}
        for one in changes
    ]
    return Result(bool(due), {"objects": objects}, diff=rbac_objects.diff(due) if due else None)


def parse_objects(parameters: Mapping[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    """Return each role and each binding, and True if it is to exist. A role comes before its bindings. Raises CertflowError.

    With state absent only the bindings are removed, because other subjects may have the roles too.
    """
    roles = [rbac_objects.role_from(role, parameters["signers"]) for role in parameters["roles"]]
    subjects = [rbac_objects.subject_from(subject) for subject in parameters["subjects"]]
    if not roles or not subjects:
        raise CertflowError(
            f"the option {'subjects' if roles else 'roles'} is empty", remedy="Set at least one entry"
        )
    bindings = [rbac_objects.binding_for(role, subject) for role in roles for subject in subjects]
    is_present = parameters["state"] == PRESENT
    return [(obj, is_present) for obj in ([*roles, *bindings] if is_present else bindings)]


def _read(client: Client, wanted: dict[str, Any], is_present: bool) -> RbacChange:
    kind, metadata = wanted["kind"], wanted["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    before = client.find(rbac_objects.path_of(kind, name, namespace))
    return RbacChange(kind, name, namespace, before, wanted if is_present else None)


def _write(
    client: Client, change: RbacChange, *, dry_run: bool = False, missing: Collection[str] = ()
) -> None:
    """Write or delete the object. missing: the names of objects that this run creates, which a dry run does not find."""
    with _explained(change):
        if change.after is None:
            metadata = (change.before or {}).get("metadata") or {}
            client.delete(change.path, uid=metadata.get("uid"), dry_run=dry_run)
            return
        try:
            client.apply(change.path, change.after, manager=OWN_MANAGER, dry_run=dry_run)
        except NotFound:
            role = change.after.get("roleRef", {}).get("name")
            if not (dry_run and role in missing):
                raise


@contextlib.contextmanager
def _explained(change: RbacChange) -> Iterator[None]:
    """Turn the refusal of an escalation into an error with a remedy."""
    try:
        yield
    except Forbidden as error:
        held = rbac_objects.escalation_evidence(error.message)
        if not held:
            raise
        raise MissingPermissions(
            f"the API server does not let this identity grant {change}, because it does not hold these permissions itself",
            evidence=held,
            remedy="Run the task as a cluster administrator, or as an identity with the verbs escalate and bind on this role",
            status=error.status,
            reason=error.reason,
            message=error.message,
        ) from error


OPERATION = Operation(
    name="k8s_rbac",
    argument_spec={
        **AUTH,
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "roles": {"type": "list", "elements": "dict", "required": True},
        "subjects": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "kind": {"type": "str", "choices": list(rbac_objects.SUBJECT_KINDS), "required": True},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str"},
            },
        },
        "signers": {"type": "list", "elements": "str", "default": []},
        "take_over": {"type": "bool", "default": False},
    },
    run=run,
)
