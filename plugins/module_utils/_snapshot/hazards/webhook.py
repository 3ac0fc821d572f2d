# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the webhooks: their rules, Services, Secrets, pods, and the order of the steps. Pure."""

from __future__ import annotations

from ..installed.state import CONVERSION, VALIDATION, Hook, Workload
from ..plan.upgrade_context import DRAINS_SINCE, NO_VERSION, Situation
from ..release.release_table import GROUP, SNAPSHOT, Rules, text
from .finding import Finding, labels, listed


def _pairs(now: Situation) -> list[tuple[Rules, Hook]]:
    """Return each configuration that is kept, with its webhooks."""
    live = ((rules, now.live(rules)) for rules in now.configurations)
    return [(rules, hook) for rules, one in live if one for hook in one.hooks]


def rights_before_webhook(now: Situation) -> Finding | None:
    if not now.wants(VALIDATION) or not now.hook(VALIDATION).service_account or now.installed.webhook_account:
        return None
    return Finding(("the webhook's ServiceAccount, ClusterRole or binding is missing",))


def wider_rules(now: Situation) -> Finding | None:
    """Find kinds that the new webhook does not know and so denies. failurePolicy Ignore does not help."""
    wide = [
        f"ValidatingWebhookConfiguration {rules.name}: {', '.join(sorted(hook.resources() - set(rules.resources)))}"
        for rules, hook in _pairs(now)
        if hook.resources() - set(rules.resources)
    ]
    return Finding(listed(wide)) if wide else None


def classes_before_binary(now: Situation) -> Finding | None:
    """Find kinds of the new rules that the old webhook denies."""
    if not now.wants(VALIDATION):
        return None
    live = now.installed.webhook(VALIDATION)
    wider = [rules.name for rules, hook in _pairs(now) if set(rules.resources) - hook.resources()]
    denied = [
        f"{live} {text(live.version)} denies every class, and the configuration has a rule for classes"
        for rules, hook in _pairs(now)
        if live and live.version and live.version < (6, 0, 0) and "volumesnapshotclasses" in hook.resources()
    ]
    if not wider and not denied:
        return None
    return Finding(
        listed([*denied, *(f"ValidatingWebhookConfiguration {name} gets more kinds" for name in wider)])
    )


def beta_rules(now: Situation) -> Finding | None:
    if now.release.version < (6, 0, 0):
        return None
    found = [rules.name for rules, hook in _pairs(now) if "v1beta1" in hook.versions()]
    return (
        Finding(listed(f"ValidatingWebhookConfiguration {name}: v1beta1" for name in found))
        if found
        else None
    )


def secret_type(now: Situation) -> Finding | None:
    if not now.wants(VALIDATION):
        return None
    namespace = now.webhook_namespace(VALIDATION)
    found = [now.installed.secret(namespace, name) for name in now.mounted(VALIDATION)]
    wrong = [one for one in found if one and one.type != "kubernetes.io/tls"]
    return Finding(
        listed(f"Secret {one.namespace}/{one.name}: type {one.type}, keys {', '.join(one.keys)}" for one in wrong)
    ) if wrong else None  # fmt: skip


def webhook_selector(now: Situation) -> Finding | None:
    live = now.installed.webhook(VALIDATION)
    if (
        live is None
        or not now.wants(VALIDATION)
        or dict(live.selector) == dict(now.hook(VALIDATION).selector)
    ):
        return None
    return Finding(
        (f"{live}: selector {labels(live.selector)}, required {labels(now.hook(VALIDATION).selector)}",)
    )


def no_drain(now: Situation) -> Finding | None:
    kinds = [kind for kind in (VALIDATION, CONVERSION) if now.wants(kind) and now.hands_over(kind)]
    live = [one for kind in kinds if (one := now.installed.webhook(kind)) and not one.drains]
    return Finding(listed(f"{one}: no preStop sleep" for one in live)) if live else None


def port_changes(now: Situation) -> Finding | None:
    port = now.options.webhook_port
    live = _live(now)
    moving = [
        f"{one} listens on port {one.port}, and the new pods on {port}" for one in live if one.port != port
    ]
    return Finding(listed(moving)) if moving else None


def one_port_of_a_node(now: Situation) -> Finding | None:
    port = now.options.webhook_port
    live = [
        one for one in _live(now) if one.host_network and one.port == port and now.hands_over(one.program)
    ]
    if not (live and now.options.webhook_host_network):
        return None
    return Finding(
        listed(f"{one} uses port {port} of its nodes" for one in live),
        "Set another webhook_port, or provide more nodes. New pods cannot be scheduled on these nodes until the old pods end, and "
        "the old pods end only when the new pods are ready.",
    )


def _live(now: Situation) -> list[Workload]:
    """Return the installed webhooks that are kept."""
    found = [now.installed.webhook(kind) for kind in (VALIDATION, CONVERSION) if now.wants(kind)]
    return [one for one in found if one]


def no_drain_here(now: Situation) -> Finding | None:
    """Find new pods that cannot sleep before they end, so a later change of options interrupts calls."""
    kinds = [kind for kind in (VALIDATION, CONVERSION) if now.wants(kind)]
    if not kinds or now.installed.kubernetes >= DRAINS_SINCE or now.installed.kubernetes == (0, 0):
        return None
    return Finding(
        (f"Kubernetes {now.installed.kubernetes_version}",),
        "If only options change, the webhook's old pods end during calls. With failurePolicy Fail, change options together with "
        "the release, or set failure_policy: Ignore for that run.",
    )


def groups_path(now: Situation) -> Finding | None:
    found = [one for one in now.surplus if one.groups == (GROUP,) and now.wants(VALIDATION)]
    return Finding(listed(f"ValidatingWebhookConfiguration {one.name}" for one in found)) if found else None


def dangling(now: Situation) -> Finding | None:
    """Find configurations whose webhook is removed or does not exist."""
    if now.wants(VALIDATION) or not now.installed.configurations:
        return None
    return Finding(
        listed(
            f"ValidatingWebhookConfiguration {one.name}: {hook.failure_policy}"
            for one in now.installed.configurations
            for hook in one.hooks
        )
    )


def webhook_left(now: Situation) -> Finding | None:
    kinds = [kind for kind in (VALIDATION, CONVERSION) if not now.wants(kind) and not now.callers(kind)]
    found = [str(one) for kind in kinds for one in now.installed.running(kind)]
    return Finding(listed(found)) if found else None


def foreign_configurations(now: Situation) -> Finding | None:
    """Find configurations of other owners that name snapshots."""
    found = [
        f"{one}: webhook {hook.name} calls {_backend(hook)}"
        for one in now.installed.foreign
        for hook in one.hooks
        if one.groups
    ]
    if not found:
        return None
    return Finding(
        listed(found),
        "The upgrade does not change it. If it belongs to an obsolete snapshot webhook, delete it yourself.",
    )


def _backend(hook: Hook) -> str:
    return f"Service {'/'.join(hook.service)}" if hook.service else "a URL"


def other_callers(now: Situation) -> Finding | None:
    """Find webhooks of other owners' configurations that call the snapshot controller's webhook."""
    found = [
        (kind, f"{one}: webhook {hook.name} ({hook.failure_policy}) calls {_backend(hook)}")
        for kind in (VALIDATION, CONVERSION)
        for one, hook in now.callers(kind)
    ]
    if not found:
        return None
    stays = any(now.wants(kind) for kind, _words in found)
    return Finding(
        listed(words for _kind, words in found),
        "Its caBundle must trust the webhook's CA, which may change. Add the CA with webhook_cabundle."
        if stays
        else "Point it to another Service or delete it. Then run the upgrade again, which removes the webhook.",
    )


def kept_secrets(now: Situation) -> Finding | None:
    """Find Secrets of the webhook that the upgrade keeps, with the reasons."""
    found = [
        f"{secret} is kept: {why}"
        for kind in (VALIDATION, CONVERSION)
        if not now.callers(kind)
        for secret in now.candidates(kind)
        if not (now.wants(kind) and secret.name == now.secret(kind)) and (why := now.why_kept(kind, secret))
    ]
    if not found:
        return None
    return Finding(listed(found), "Delete it yourself if no program needs it.")


def names_elsewhere(now: Situation) -> Finding | None:
    """Find objects with upstream's names outside of the webhook's namespace."""
    found = now.elsewhere()
    if not found:
        return None
    return Finding(
        listed(found),
        "The upgrade does not change them. If they are left from an earlier installation, delete them yourself.",
    )


def unpublished(now: Situation) -> Finding | None:
    missing = [now.hook(kind).image for kind in (VALIDATION, CONVERSION) if now.wants(kind)]
    missing = [image for image in missing if image in now.release.unpublished]
    if not missing:
        return None
    return Finding(
        (f"image {missing[0]} {now.release} was never published",),
        "Use another patch release: 6.2.1 or newer.",
    )


def policy_reset(now: Situation) -> Finding | None:
    strict = [
        rules.name
        for rules, hook in _pairs(now)
        if hook.failure_policy == "Fail" and now.failure_policy(rules) == "Fail"
    ]
    return (
        Finding(listed(f"ValidatingWebhookConfiguration {name}: Fail" for name in strict)) if strict else None
    )


def nobody_behind(now: Situation) -> Finding | None:
    """Find configurations without a working webhook, which a repair corrects."""
    if not now.wants(VALIDATION) or not now.installed.configurations:
        return None
    live = now.installed.webhook(VALIDATION)
    detached = now.installed.orphans(VALIDATION)
    services = {(one.namespace, one.name) for one in now.installed.services}
    gone = [
        f"Service {place}/{name} does not exist"
        for place, name in now.called(VALIDATION)
        if (place, name) not in services
    ]
    if live is None and not detached:
        gone.append("no Deployment runs the webhook")
    elif live is not None and not live.available:
        gone.append(f"{live}: no pod is available")
    return Finding(listed(gone)) if gone else None


def second_default_only(now: Situation) -> Finding | None:
    """Find CRDs with CEL rules, which leave the webhook one object that only it refuses."""
    if not now.wants(VALIDATION) or not now.release.version >= (6, 0, 0):
        return None
    rules = now.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
    ruled = bool(rules and rules.set and rules.set.rules) or now.release.version >= (8, 0, 0)
    return Finding(("the CRDs have validation rules",)) if ruled else None


def mode_of_volumes(now: Situation) -> Finding | None:
    if not now.crosses((7, 0, 0)) or (now.version or NO_VERSION) == NO_VERSION:
        return None
    arguments = (*now.options.controller_arguments, *now.options.webhook_arguments)
    if any(one.startswith("--prevent-volume-mode-conversion=false") for one in arguments):
        return None
    return Finding(
        ("--prevent-volume-mode-conversion is true from 7.0 on",),
        "A restore that changes the volume mode between Block and Filesystem is refused unless its VolumeSnapshotContent has the annotation "
        'snapshot.storage.kubernetes.io/allow-volume-mode-change: "true". Backup tools that move data set it.',
    )
