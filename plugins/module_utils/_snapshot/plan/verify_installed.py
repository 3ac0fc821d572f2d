# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the verification of the installed release before the first write. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..actions import verifications
from ..context.upgrade_context import UpgradeContext
from ..installed.state import WebhookConfiguration
from ..kinds import VALIDATION
from ..release import crd_sets
from ..release.release_table import GROUP, GROUP_CONTENTS, SNAPSHOT, judged_by_webhook, text


def plan_checks(context: UpgradeContext) -> dict[str, verifications.Verify]:
    """Return the verifications of the installed release by id. The ids are those of a hop's steps.

    The results before the upgrade show whether the upgrade or an earlier change broke something.
    """
    return {step_id: action for plan_check in _BEFORE for step_id, action in plan_check(context)}


def _webhook(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    for configuration in context.installed.configurations:
        if SNAPSHOT in configuration.groups:
            check = _refusal(context, configuration)
            if check:
                yield (
                    "verify-webhook",
                    verifications.VerifyWebhook(configuration.name, check, _release(context)),
                )
                return


def _refusal(context: UpgradeContext, configuration: WebhookConfiguration) -> str:
    """Return the key of verifications.REFUSALS whose object only the installed webhook refuses, "" if it has no such object.

    Its configuration must name the resource, and the rules of the installed CRDs must not refuse the object first.
    """
    asked = {resource for hook in configuration.hooks for resource in hook.resources()}
    live = context.installed.webhook(VALIDATION)
    version = (live.version if live else None) or context.version
    judged = asked.intersection(judged_by_webhook(version))
    order = (
        (verifications.SECOND_DEFAULT, verifications.EMPTY_REFERENCE)
        if _has_rules(context)
        else (verifications.EMPTY_CLASS, verifications.SECOND_DEFAULT)
    )
    return next((check for check in order if verifications.REFUSALS[check][0] in judged), "")


def _has_rules(context: UpgradeContext) -> bool:
    crd = context.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
    return crd is not None and crd.set is not None and crd.set.rules


def _conversion(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    crd = context.contents
    if crd is None or crd.conversion.strategy != "Webhook":
        return
    other = sorted(version for version, state in crd.versions.items() if state == crd_sets.SERVED)
    if other:
        version = "v1beta1" if "v1beta1" in other else other[0]
        yield "verify-conversion", verifications.VerifyConversion(GROUP_CONTENTS, version)


def _schema(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    if _has_rules(context):
        yield "verify-rules", verifications.VerifySchema(_release(context))


def _version(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    live = context.controller
    if live and live.kind == "Deployment" and context.version:
        yield "verify-version", verifications.VerifyVersion(live.namespace, live.name, _release(context))


def _controller(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    if context.controller:
        yield "verify-controller", verifications.VerifyController(context.controller.namespace)


def _groups(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    if context.controller and context.groups_on and context.present(GROUP):
        yield "verify-groups", verifications.VerifyGroups(context.controller.namespace, _release(context))


def _release(context: UpgradeContext) -> str:
    return text(context.version) if context.version else ""


_BEFORE: tuple[Callable[[UpgradeContext], Iterator[tuple[str, verifications.Verify]]], ...] = (
    _webhook,
    _conversion,
    _schema,
    _version,
    _controller,
    _groups,
)
