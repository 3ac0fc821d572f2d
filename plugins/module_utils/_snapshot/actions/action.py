# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Define the steps of a plan, and what all actions have in common. Pure.

A step has an action. Each action is one class, which knows its parameters, its lines in a plan, its permissions and its undo. Its
dry run and its work are one function of _upgrade/actions.py. Every action can be repeated. An action changes nothing that already
has the wanted state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from ..._kube.access_review import Permission
from ..context.upgrade_context import UpgradeContext
from ..kinds import Reference
from ..release import crd_sets

CREATE, CHANGE, DELETE, VERIFY = "create", "change", "delete", "verify"
# What an undo does instead of an action: the same, restore the objects of the action, or nothing.
SAME, RESTORE, NOTHING = "same", "restore", "nothing"
CRD, CONFIGURATION = "CustomResourceDefinition", "ValidatingWebhookConfiguration"


@dataclass(frozen=True)
class PlanLine:
    """One write or check."""

    #: CREATE, CHANGE, DELETE or VERIFY.
    verb: str
    #: The objects with their number, and the details. It may hold hostile text of the cluster.
    text: str
    #: The objects that it writes, if their names are known.
    objects: tuple[Reference, ...] = ()
    #: The id of the step.
    step: str = ""


@dataclass
class HopProgress:
    """The planned state within a hop."""

    context: UpgradeContext
    #: The objects that exist before the step.
    present: set[Reference]
    #: The Secrets with a certificate of this hop.
    issued: set[Reference] = field(default_factory=set)

    @property
    def is_repair(self) -> bool:
        return self.context.version == self.context.release.version


@dataclass(frozen=True)
class Place:
    """An object of a known kind."""

    namespace: str
    name: str

    def reference(self, kind: str) -> Reference:
        return Reference(kind, self.name, self.namespace)


@dataclass(frozen=True)
class Action:
    """What a step does. The fields of a subclass are the parameters, in the order of results."""

    #: The name in results.
    action_name: ClassVar[str]
    #: False for an action that only waits or verifies.
    writes_objects: ClassVar[bool] = True
    #: True for an action that writes a few objects and waits for nothing.
    is_short: ClassVar[bool] = False
    #: SAME, RESTORE or NOTHING.
    in_undo: ClassVar[str] = SAME

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as results carry them."""
        return {name: _as_result(value) for name, value in _own_fields(self).items()}

    def lines(self, _progress: HopProgress) -> Iterable[PlanLine]:
        """Return a line for each write and each check. Bring the planned state to the end of the action."""
        return ()

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        """Return the permissions that the action needs and that its dry run does not test.

        They are those to wait, to verify, and to work on objects that only exist after earlier steps.

        Args:
            namespace: the namespace of an action that does not name one.
            probe_namespace: the namespace of test objects, "" for the namespace of the action.
        """
        return []

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        """Return the objects that it applies, or that it is about."""
        return []

    def writes(self) -> list[Any]:
        """Return the contents of its writes for the comparison with an approved plan, without names that are generated."""
        return [[self.action_name, self.parameters()]]

    @property
    def time_limit(self) -> int:
        """The longest time that it may take, in seconds. 0 for the time of every step."""
        return 0


@dataclass(frozen=True)
class CrdAction(Action):
    """An action on a CustomResourceDefinition."""

    crd: str

    @property
    def target(self) -> Reference:
        return Reference(CRD, self.crd)

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return [self.target]


@dataclass(frozen=True)
class Step:
    """One step of a hop."""

    #: A stable word, unique within its hop.
    id: str
    #: An imperative sentence without its full stop.
    title: str
    #: Sentences that say why the step is needed, and why at this place.
    reason: str
    action: Action

    def as_result(self, hop: str) -> dict[str, Any]:
        """Return the step as results carry it. hop: the release that its hop leads to."""
        return {
            "id": self.id,
            "title": self.title,
            "reason": self.reason,
            "action": self.action.action_name,
            "parameters": self.action.parameters(),
            "hop": hop,
        }


def _own_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass without those that have their default."""
    values = {part.name: (getattr(value, part.name), part.default) for part in fields(value)}
    return {name: own for name, (own, default) in values.items() if own != default}


def _as_result(value: Any) -> Any:
    """Return a value as results carry it."""
    if isinstance(value, Reference):
        return {
            "kind": value.kind,
            **({"namespace": value.namespace} if value.namespace else {}),
            "name": value.name,
        }
    if isinstance(value, Mapping):
        return {key: _as_result(own) for key, own in value.items()}
    if is_dataclass(value):
        return {name: _as_result(own) for name, own in _own_fields(value).items()}
    return [_as_result(own) for own in value] if isinstance(value, (list, tuple)) else value


def named(objects: Sequence[Reference], end: str = "") -> str:
    """Return the objects in words: one by its name, several with their number. end: words before a list of names."""
    kinds = {target.kind for target in objects}
    if len(objects) == 1:
        return f"{objects[0]}{end}"
    groups = {target.name.partition(".")[2] for target in objects}
    if kinds == {CRD} and len(groups) == 1 and len(objects) == len(crd_sets.names(group := groups.pop())):
        return f"{len(objects)} {CRD}s of {group}{end}"
    if len(kinds) > 1:
        return f"{len(objects)} RBAC objects{end}: {', '.join(map(str, objects))}"
    places = (f"{target.namespace}/{target.name}" if target.namespace else target.name for target in objects)
    return f"{len(objects)} {kinds.pop()}s{end}: {', '.join(places)}"


def bundles(targets: Iterable[Reference]) -> list[Any]:
    """Return the contents of writes of the caBundles."""
    return [["bundle", target.kind, target.name] for target in targets]


def reconnected(targets: Iterable[Reference], when: str = "") -> Iterator[PlanLine]:
    """Yield the lines of a reconnect."""
    for target in targets:
        text = f"{target}: line breaks at the end of caBundle, which make the API servers reconnect{when}"
        yield PlanLine(CHANGE, text, (target,))


def pod_permissions(namespace: str) -> list[Permission]:
    """Return the permissions to watch the pods of a Deployment."""
    return [Permission("list", "", "pods", namespace), Permission("list", "apps", "replicasets", namespace)]
