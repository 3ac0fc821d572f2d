# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The actions that verify a subject by a result that nothing else can produce. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..._kube.access_review import Permission
from ..context.upgrade_context import UpgradeContext
from ..kinds import Reference
from ..release.release_table import GROUP, SNAPSHOT
from .action import CONFIGURATION, CRD, VERIFY, Action, HopProgress, Place, PlanLine
from .object_actions import DeploymentAction

EMPTY_CLASS, SECOND_DEFAULT, EMPTY_REFERENCE = "empty-class", "second-default-class", "empty-reference"
# For each check of a webhook: the resource of the object that only the webhook refuses, and the object in words. The webhook's
# rules must name that resource.
REFUSALS = {
    EMPTY_CLASS: ("volumesnapshots", "a VolumeSnapshot with an empty class name"),
    SECOND_DEFAULT: ("volumesnapshotclasses", "a second default VolumeSnapshotClass of a driver"),
    EMPTY_REFERENCE: ("volumesnapshotcontents", "a VolumeSnapshotContent with an empty reference"),
}


def find_refusal(judged: Collection[str], *, has_rules: bool) -> str:
    """Return the check that shows an answer of the webhook, a key of REFUSALS, "" if no check fits.

    judged: the resources that the webhook judges.
    has_rules: True if the CRDs have rules. The rules come before the webhook. They refuse an empty class, but no second default class
        and no empty reference.
    """
    order = (SECOND_DEFAULT, EMPTY_REFERENCE) if has_rules else (EMPTY_CLASS, SECOND_DEFAULT)
    return next((check for check in order if REFUSALS[check][0] in judged), "")


@dataclass(frozen=True)
class Verify(Action):
    """Verify a subject."""

    action_name = "verify"
    writes_objects = False
    subject: ClassVar[str]
    #: A clause about the installed release.
    summary: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        return {"subject": self.subject, **super().parameters()}

    @property
    def proof(self) -> str:
        """The clause that names what is verified."""
        raise NotImplementedError

    @property
    def test_namespace(self) -> str:
        """The namespace of its test objects, "" for any."""
        return ""

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        yield PlanLine(VERIFY, f"that {self.proof}")


@dataclass(frozen=True)
class VerifyWebhook(Verify):
    """Verify that the webhook of a configuration refuses an invalid object."""

    subject = "webhook"
    summary = "the webhook refuses an invalid object"
    name: str
    #: A key of REFUSALS.
    check: str
    #: The longest time in seconds, 0 for the time of every step.
    timeout: int = 0
    #: The Deployment whose pods must stay up meanwhile.
    pods_of: Place | None = None

    @property
    def proof(self) -> str:
        test = f"{Reference(CONFIGURATION, self.name)}, dry run"
        if self.check == SECOND_DEFAULT:
            test += "; it creates and deletes a test VolumeSnapshotClass if no driver has a default class"
        return f"the webhook refuses {REFUSALS[self.check][1]} ({test})"

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        """Return the permissions for a refused object. A second default class needs a first one, which may have to be created."""
        verbs = ("create", "list", "delete") if self.check == SECOND_DEFAULT else ("create",)
        return [Permission(verb, SNAPSHOT, REFUSALS[self.check][0]) for verb in verbs]

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return [Reference(CONFIGURATION, self.name)]

    @property
    def time_limit(self) -> int:
        return self.timeout


@dataclass(frozen=True)
class VerifyConversion(Verify):
    """Verify that the webhook converts an object of a CustomResourceDefinition at a version that is not stored."""

    subject = "conversion"
    summary = "the webhook converts a VolumeGroupSnapshotContent"
    name: str
    version: str
    #: See VerifyWebhook.
    timeout: int = 0
    pods_of: Place | None = None

    @property
    def proof(self) -> str:
        return f"the webhook converts an object of {self.version} ({Reference(CRD, self.name)}, dry run)"

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        return [Permission("create", GROUP, "volumegroupsnapshotcontents")]

    @property
    def time_limit(self) -> int:
        return self.timeout


@dataclass(frozen=True)
class VerifySchema(Verify):
    """Verify that the rules of the CustomResourceDefinitions refuse invalid objects."""

    subject = "schema"
    summary = "the CRDs refuse invalid objects"

    @property
    def proof(self) -> str:
        return "the CustomResourceDefinitions refuse objects that break their rules (dry runs)"

    def permissions(self, namespace: str, probe_namespace: str) -> list[Permission]:
        return [
            Permission("create", SNAPSHOT, "volumesnapshots", probe_namespace or namespace),
            Permission("create", SNAPSHOT, "volumesnapshotcontents"),
        ]


@dataclass(frozen=True)
class VerifyVersion(DeploymentAction, Verify):
    """Verify that the pods of the controller run the release."""

    subject = "version"
    summary = "the controller pods run the installed release"
    release: str

    @property
    def proof(self) -> str:
        return f"the pods of {self.deployment} run {self.release}"


@dataclass(frozen=True)
class VerifyController(Verify):
    """Verify that the controller processes a test object."""

    subject = "controller"
    summary = "the controller processes a VolumeSnapshot"
    resource: ClassVar[tuple[str, str, str]] = (SNAPSHOT, "volumesnapshots", "VolumeSnapshot")
    namespace: str

    @property
    def test_namespace(self) -> str:
        return self.namespace

    @property
    def proof(self) -> str:
        place = f"it creates and deletes a test object in namespace {self.namespace}"
        return f"the controller processes a {self.resource[2]} ({place})"

    def permissions(self, _namespace: str, probe_namespace: str) -> list[Permission]:
        """Return the permissions for a test object that is created, read and deleted."""
        place = probe_namespace or self.namespace
        return [Permission(verb, *self.resource[:2], place) for verb in ("create", "get", "delete")]


@dataclass(frozen=True)
class VerifyGroups(VerifyController):
    """Verify that the controller processes a group snapshot."""

    subject = "groups"
    summary = "the controller processes a VolumeGroupSnapshot"
    resource = (GROUP, "volumegroupsnapshots", "VolumeGroupSnapshot")
