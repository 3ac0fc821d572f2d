# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the verification of the installed release before the first write. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..actions import verifications
from ..context.upgrade_context import UpgradeContext
from ..installed.state import WebhookConfiguration
from ..kinds import VALIDATION
from ..release import crd_sets
from ..release.release_table import GROUP, GROUP_CONTENTS, SNAPSHOT, judged_by_webhook


def plan_checks(context: UpgradeContext) -> dict[str, verifications.Verify]:
    """Return the verifications of the installed release by id. The ids are those of a hop's steps.

    The results before the upgrade show whether the upgrade or an earlier change broke something.
    """
    return dict(_checks(context))


def _checks(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    live, release = context.controller, context.version_text
    yield from _webhook(context)
    yield from _conversion(context)
    if context.has_rules:
        yield "verify-rules", verifications.VerifySchema()
    if live and live.kind == "Deployment" and release:
        yield "verify-version", verifications.VerifyVersion(live.namespace, live.name, release)
    if live:
        yield "verify-controller", verifications.VerifyController(live.namespace)
    if live and context.groups.is_on and context.present(GROUP):
        yield "verify-groups", verifications.VerifyGroups(live.namespace)


def _webhook(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    for configuration in context.installed.configurations:
        if SNAPSHOT in configuration.groups:
            check = _refusal(context, configuration)
            if check:
                yield "verify-webhook", verifications.VerifyWebhook(configuration.name, check)
                return


def _refusal(context: UpgradeContext, configuration: WebhookConfiguration) -> str:
    """Return the key of verifications.REFUSALS whose object only the installed webhook refuses, "" if it has no such object.

    Its configuration must name the resource, and the rules of the installed CRDs must not refuse the object first.
    """
    asked = {resource for hook in configuration.hooks for resource in hook.resources()}
    live = context.installed.webhook(VALIDATION)
    version = (live.version if live else None) or context.version
    return verifications.find_refusal(
        asked.intersection(judged_by_webhook(version)), has_rules=context.has_rules
    )


def _conversion(context: UpgradeContext) -> Iterator[tuple[str, verifications.Verify]]:
    crd = context.groups.contents
    if crd is None or crd.conversion.strategy != "Webhook":
        return
    other = sorted(version for version, state in crd.versions.items() if state == crd_sets.SERVED)
    if other:
        version = "v1beta1" if "v1beta1" in other else other[0]
        yield "verify-conversion", verifications.VerifyConversion(GROUP_CONTENTS, version)
