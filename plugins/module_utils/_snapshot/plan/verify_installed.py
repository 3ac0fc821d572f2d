# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the verification of the installed release before the first write. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..actions.step_types import Step
from ..context.upgrade_context import UpgradeContext
from ..installed.state import WebhookConfiguration
from ..labels import CONVERSION, VALIDATION
from ..release import crd_sets
from ..release.release_table import GROUP, GROUP_CONTENTS, SNAPSHOT, judged_by_webhook, text
from .hop import REFUSALS


def plan_checks(context: UpgradeContext) -> list[Step]:
    """Return the steps that verify the installed release. Their ids are those of the verifications of a hop."""
    return [step for plan_check in _BEFORE for step in plan_check(context)]


def _webhook(context: UpgradeContext) -> Iterator[Step]:
    for configuration in context.installed.configurations:
        if SNAPSHOT in configuration.groups:
            check = _refusal(context, configuration)
            if check:
                yield _step(
                    "verify-webhook", "webhook", name=configuration.name, check=check, **_release(context)
                )
                return


def _refusal(context: UpgradeContext, configuration: WebhookConfiguration) -> str:
    """Return the key of hop.REFUSALS whose object only the installed webhook refuses, "" if it has no such object.

    Its configuration must name the resource, and the rules of the installed CRDs must not refuse the object first.
    """
    asked = {resource for hook in configuration.hooks for resource in hook.resources()}
    live = context.installed.webhook(VALIDATION)
    version = (live.version if live else None) or context.version
    judged = asked.intersection(judged_by_webhook(version))
    order = (
        ("second-default-class", "empty-reference")
        if _has_rules(context)
        else ("empty-class", "second-default-class")
    )
    return next((check for check in order if REFUSALS[check] in judged), "")


def _has_rules(context: UpgradeContext) -> bool:
    crd = context.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
    return crd is not None and crd.set is not None and crd.set.rules


def _conversion(context: UpgradeContext) -> Iterator[Step]:
    crd = context.contents
    if crd is None or crd.conversion.strategy != "Webhook":
        return
    other = sorted(version for version, state in crd.versions.items() if state == crd_sets.SERVED)
    if other:
        version = "v1beta1" if "v1beta1" in other else other[0]
        yield _step("verify-conversion", CONVERSION, name=GROUP_CONTENTS, version=version)


def _schema(context: UpgradeContext) -> Iterator[Step]:
    if _has_rules(context):
        yield _step("verify-rules", "schema", **_release(context))


def _version(context: UpgradeContext) -> Iterator[Step]:
    live = context.controller
    if live and live.kind == "Deployment" and context.version:
        yield _step(
            "verify-version", "version", namespace=live.namespace, name=live.name, **_release(context)
        )


def _controller(context: UpgradeContext) -> Iterator[Step]:
    if context.controller:
        yield _step("verify-controller", "controller", namespace=context.controller.namespace)


def _groups(context: UpgradeContext) -> Iterator[Step]:
    if context.controller and context.groups_on and context.present(GROUP):
        yield _step("verify-groups", "groups", namespace=context.controller.namespace, **_release(context))


def _release(context: UpgradeContext) -> dict[str, str]:
    return {"release": text(context.version)} if context.version else {}


def _step(step_id: str, subject: str, **parameters: str) -> Step:
    return Step(
        step_id,
        f"Verify the present state: {_TITLES[subject]}",
        "The result before the upgrade shows whether the upgrade or an earlier change broke it.",
        "verify",
        {"subject": subject, **parameters},
    )


# For each subject of a verification: what it verifies.
_TITLES = {
    "webhook": "the webhook refuses an invalid object",
    "conversion": "the webhook converts a VolumeGroupSnapshotContent",
    "schema": "the CRDs refuse invalid objects",
    "version": "the controller pods run the installed release",
    "controller": "the controller processes a VolumeSnapshot",
    "groups": "the controller processes a VolumeGroupSnapshot",
}

_BEFORE: tuple[Callable[[UpgradeContext], Iterator[Step]], ...] = (
    _webhook,
    _conversion,
    _schema,
    _version,
    _controller,
    _groups,
)
