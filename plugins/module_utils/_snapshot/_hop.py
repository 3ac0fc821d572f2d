# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The steps of one hop, in their order. Pure.

Each phase is a small function over the situation; PHASES is the order in which they come. What is always there (apply, prove)
is in every hop, so that the same release is a repair; special moves are there where the state needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from . import _crds
from ._installed import CONVERSION, VALIDATION, Hook, Workload
from ._releases import BRIDGE, GROUP, GROUP_CONTENTS, GROUP_CRDS, SNAPSHOT, Rules
from ._releases import CONTROLLER as CONTROLLER_NAME
from ._roll import Roll, delete_detached, roll
from ._situation import Situation
from ._steps import Step

Found = frozenset[str]


def steps(now: Situation, found: Found) -> list[Step]:
    """Every step of the hop. found: ids of the hazards that are there."""
    return [step for phase in PHASES for step in phase(now, found)]


def _targets(names: Iterable[str], kind: str = "ValidatingWebhookConfiguration") -> list[dict[str, str]]:
    return [{"kind": kind, "name": name} for name in names]


def _object(kind: str, name: str, namespace: str = "") -> dict[str, str]:
    return {"kind": kind, "namespace": namespace, "name": name} if namespace else {"kind": kind, "name": name}


# CRDs.


def _crds_of_snapshots(now: Situation, _found: Found) -> Iterator[Step]:
    if now.keeps(SNAPSHOT):
        return
    yield Step(
        "crds",
        "VolumeSnapshot CRDs",
        "CRDs come before everything that uses them. Older controllers and webhooks work with newer ones; a version that was "
        "once stored stays listed, so that nothing becomes unreadable.",
        "apply",
        {"release": str(now.release), "parts": ["crds"]},
        hazards=_of(_found, "v1beta1-unserved", "invalid-objects-kept", "foreign-crds"),
    )


def _of(found: Found, *ids: str) -> tuple[str, ...]:
    return tuple(one for one in ids if one in found)


def _delete_configurations(now: Situation, found: Found) -> Iterator[Step]:
    """Those whose webhook goes; the CRDs have their rules by now."""
    if not now.surplus:
        return
    yield Step(
        "configurations-delete",
        "Webhook configurations that nobody is to answer",
        "It calls a path that answers 404, so that with Fail every write of a group snapshot fails."
        if now.wants(VALIDATION)
        else "From here on nobody will answer for them, and with Fail every write that they name would fail. "
        + (
            "The CRDs have rules of their own by now; a"
            if _crds.row(now.release.crds, SNAPSHOT).rules
            else "A"
        )
        + " configuration goes before its webhook, never after it.",
        "delete",
        {"objects": [_object("ValidatingWebhookConfiguration", one.name) for one in now.surplus]},
        hazards=_of(found, "dangling-configuration", "groups-path"),
    )


def _narrow_rules(now: Situation, found: Found) -> Iterator[Step]:
    if "rules-first" not in found:
        return
    for rules in now.configurations:
        live = now.live(rules)
        if live and any(hook.resources() - set(rules.resources) for hook in live.hooks):
            yield Step(
                f"narrow-{rules.group.partition('.')[0]}",
                "Narrower rules for the webhook",
                f"The webhook of {now.release} denies every kind but {', '.join(rules.resources)}, and a denial holds with "
                "failurePolicy Ignore too. So it must not be asked about others any more when it starts. Until then the old one "
                "is asked about nothing that it would deny.",
                "narrow_rules",
                {"name": rules.name, "rules": {hook.name: _both(rules, hook) for hook in live.hooks}},
                hazards=("rules-first",),
            )


def _both(rules: Rules, hook: Hook) -> list[dict[str, object]]:
    """Rules for what the old and the new webhook know; none where there is no such kind."""
    common = tuple(one for one in rules.resources if one in hook.resources())
    return replace(rules, resources=common).as_rules() if common else []


# Group CRDs.


def _alpha(now: Situation, found: Found) -> Iterator[Step]:
    if "alpha-dropped-empty" in found:
        yield Step(
            "groups-delete",
            "Group CRDs, which hold no object",
            f"They once stored v1alpha1, which {now.release} does not list, so that the API server would refuse its CRDs. "
            "Nothing is stored; where an object has appeared meanwhile, this is refused. The VolumeSnapshot CRDs are not touched.",
            "delete",
            {
                "objects": [
                    {**_object("CustomResourceDefinition", name), "only_if_empty": True}
                    for name in GROUP_CRDS
                ]
            },
            hazards=("alpha-dropped-empty",),
        )
    if "alpha-dropped" in found:
        yield from _bridge(now)


def _bridge(now: Situation) -> Iterator[Step]:
    if any(crd.versions.get("v1alpha1") == _crds.STORED for crd in now.alpha):
        yield Step(
            "groups-bridge",
            "Group CRDs with v1alpha1 and v1beta1 at once",
            "Objects are stored at v1alpha1, which the release does not list. For as long as they are rewritten, it has to stay "
            f"listed: the CRDs of {BRIDGE}, with the cluster's own v1alpha1, not served.",
            "apply",
            {"release": BRIDGE, "parts": ["group_crds"], "keep_unserved": ["v1alpha1"]},
            hazards=("alpha-dropped",),
        )
    for crd in now.alpha:
        yield _migrate(crd.name, "v1beta1", "alpha-dropped")


def _migrate(crd: str, version: str, hazard: str) -> Step:
    return Step(
        f"rewrite-{crd.partition('.')[0]}-{version}",
        f"Every object of {crd.partition('.')[0]} stored at {version}",
        "status.storedVersions may name a version alone only when no object is left at another one: with one left, none "
        "could be read any more. So each is written back first, and one that is refused ends it there.",
        "migrate_storage",
        {"crd": crd, "version": version},
        hazards=(hazard,),
    )


def _beta2_by_webhook(now: Situation, found: Found) -> Iterator[Step]:
    """While the conversion webhook still answers."""
    if "stored-at-v1beta1" in found and now.converts:
        for name in _stored_at_v1beta1(now):
            yield _migrate(name, "v1beta2", "stored-at-v1beta1")


def _stored_at_v1beta1(now: Situation) -> list[str]:
    """Those that are, or will be after the bridge."""
    crds = now.installed.crds
    bridged = [crd.name for crd in now.alpha] if now.installed.groups.total else []
    return [
        name
        for name in GROUP_CRDS
        if name in crds and ("v1beta1" in crds[name].stored_versions or name in bridged)
    ]


def _conversion_none(_now: Situation, found: Found) -> Iterator[Step]:
    if "conversion-left" in found:
        yield Step(
            "conversion-none",
            "Group contents are converted by nobody",
            "An apply of the new CRD would leave the webhook in place, or be refused, depending on who wrote it; a webhook left "
            "there knows no v1 and breaks every group snapshot. By JSON patch, and read back.",
            "conversion_none",
            {"crd": GROUP_CONTENTS},
            hazards=("conversion-left",),
        )


def _groups_apply(now: Situation, found: Found) -> Iterator[Step]:
    wanted = now.present(GROUP) or now.groups_wanted or now.wants(CONVERSION)
    if not wanted or now.keeps(GROUP) or now.release.groups is None:
        return
    yield Step(
        "group-crds",
        "Group CRDs",
        "They are there already, so they follow the release; whether the controller works on them is another question."
        if now.present(GROUP)
        else "Group snapshots are asked for, and the controller looks for them when it starts.",
        "apply",
        {"release": str(now.release), "parts": ["group_crds"]},
        hazards=_of(found, "group-crds-first", "alpha-dropped", "alpha-dropped-empty"),
    )


def _beta2_plain(now: Situation, found: Found) -> Iterator[Step]:
    """Where no list can be lost."""
    if "stored-at-v1beta1" in found and not now.converts:
        for name in _stored_at_v1beta1(now):
            yield _migrate(name, "v1beta2", "stored-at-v1beta1")


# The conversion webhook.


def _conversion(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(CONVERSION):
        return
    calls = _calls(now)
    targets = _targets([GROUP_CONTENTS], "CustomResourceDefinition") if calls else []
    proof = _verify_conversion("conversion-verify-first", found) if calls else None
    yield _certificate(now, CONVERSION, targets)
    yield from roll(now, Roll(CONVERSION, tuple(targets), proof, ("conversion-needed",)))
    if now.present(GROUP) and not calls:
        yield _call(now, found)


def _call(now: Situation, found: Found) -> Step:
    namespace, hook = now.webhook_namespace(CONVERSION), now.hook(CONVERSION)
    return Step(
        "conversion-webhook",
        "Group contents are converted by the webhook",
        "It answers by now. With the caBundle in the same write: without one, or with nobody behind it, no content that is "
        "stored at v1beta1 could be read. And before the CRDs get v1beta2, so that nothing is ever read unconverted.",
        "conversion_webhook",
        {
            "crd": GROUP_CONTENTS,
            "service": {"namespace": namespace, "name": hook.service, "path": "/convert", "port": 443},
            "secret": {"namespace": namespace, "name": now.secret(CONVERSION)},
        },
        hazards=_of(found, "conversion-needed"),
    )


def _conversion_trust(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(CONVERSION):
        return
    if not now.present(GROUP):
        yield _call(now, found)
    if not _calls(now):
        yield _trust(now, CONVERSION, _targets([GROUP_CONTENTS], "CustomResourceDefinition"))
    yield _verify_conversion("verify-conversion", found)


def _calls(now: Situation) -> bool:
    """Whether the CRD names the webhook already."""
    place = (now.webhook_namespace(CONVERSION), now.hook(CONVERSION).service)
    return now.contents is not None and now.contents.conversion.service == place


def _verify_conversion(name: str, found: Found) -> Step:
    return Step(
        name,
        "A content at v1beta1 is converted",
        "A read proves nothing: it may come from a cache. The dry run of an object at the version that is not stored calls the "
        "webhook.",
        "verify",
        {"subject": "conversion", "name": GROUP_CONTENTS, "version": "v1beta1"},
        hazards=_of(found, "conversion-needed"),
    )


def _certificate(now: Situation, kind: str, targets: list[dict[str, str]]) -> Step:
    mounted = now.mounted(kind)
    moves = bool(mounted) and now.secret(kind) not in mounted
    return Step(
        f"{kind}-certificate",
        "A certificate for the webhook",
        "In a Secret of a new name: a Secret's type cannot be changed, and pods that mount the old one go on with it."
        if moves
        else "Before its pods, which do not start without it. It is made anew only where the Secret's is about to expire, or is "
        "not for this Service.",
        "certificate",
        _certificate_of(now, kind, targets),
        hazards=("secret-type",) if moves and kind == VALIDATION else (),
    )


def _trust(now: Situation, kind: str, targets: list[dict[str, str]]) -> Step:
    return Step(
        f"{kind}-trust",
        "The CA of the webhook's certificate where it is called",
        "What was made just now does not know it yet, and the API server calls nobody whom it does not trust.",
        "certificate",
        _certificate_of(now, kind, targets),
    )


def _certificate_of(now: Situation, kind: str, targets: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "namespace": now.webhook_namespace(kind),
        "service": now.hook(kind).service,
        "secret": now.secret(kind),
        "targets": targets,
    }


# Rights.


def _controller_rights(now: Situation, found: Found) -> Iterator[Step]:
    if not now.is_back:
        yield _rights(now, found, "Newer controllers need rights that older ones did not, and end or bind nothing without "
                                  "them. They contain what older ones need, so they come first.")  # fmt: skip


def _controller_rights_last(now: Situation, found: Found) -> Iterator[Step]:
    if now.is_back:
        yield _rights(
            now, found, "On the way back rights come last: until now the newer controller needed more."
        )


def _rights(now: Situation, found: Found, reason: str) -> Step:
    nodes = {"nodes": True} if "nodes" in found else {}
    return Step(
        "controller-rbac",
        "Rights of the controller",
        reason,
        "apply",
        {"release": str(now.release), "parts": ["controller_rbac"], "namespace": now.namespace, **nodes},
        hazards=_of(found, "rights-first", "nodes"),
    )


# The validation webhook.


def _validation(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(VALIDATION):
        return
    hook, namespace = now.hook(VALIDATION), now.webhook_namespace(VALIDATION)
    if hook.service_account:
        yield Step(
            "webhook-rbac",
            "Rights of the webhook",
            "Since 6.0 it reads the classes before it opens its port. Without these rights its pods run, and nobody answers.",
            "apply",
            {"release": str(now.release), "parts": ["webhook_rbac"], "namespace": namespace},
            hazards=_of(found, "webhook-rights"),
        )
    there = _targets(rules.name for rules in now.configurations if now.live(rules))
    yield _certificate(now, VALIDATION, there)
    proof = next(_verify_webhook(now, found, "webhook-verify-first"), None) if _can_ask(now) else None
    yield from roll(now, Roll(VALIDATION, tuple(there), proof, _of(found, "nobody-behind")))
    yield from _configure(now, found)


def _configure(now: Situation, found: Found) -> Iterator[Step]:
    wanted = {rules.name: now.failure_policy(rules) for rules in now.configurations}
    # A changing policy is Ignore until the proof.
    first = {
        rules.name: wanted[rules.name] if now.live_policy(rules) == wanted[rules.name] else "Ignore"
        for rules in now.configurations
    }
    yield Step(
        "webhook-configurations",
        "What the webhook is asked about",
        "After the webhook: an older one denies kinds that it does not know. A new configuration begins with failurePolicy "
        "Ignore, until the webhook is proven; an old one keeps what it has.",
        "apply",
        {
            "release": str(now.release),
            "parts": ["webhook_configurations"],
            "namespace": now.webhook_namespace(VALIDATION),
            "failure_policies": first,
        },
        hazards=_of(found, "webhook-first", "v1beta1-rules", "policy-reset"),
    )
    if not all(now.live(rules) for rules in now.configurations):
        yield _trust(now, VALIDATION, _targets(first))
    yield from _verify_webhook(now, found, "verify-webhook")
    changing = [name for name, policy in first.items() if policy != wanted[name]]
    if changing:  # all of them begin with Ignore and get Fail
        yield Step(
            "failure-policy",
            "failurePolicy Fail",
            "The webhook answers, and was seen to refuse what only it refuses. From here on one that does not is noticed.",
            "failure_policy",
            {"names": changing, "policy": "Fail"},
        )


def _verify_webhook(now: Situation, found: Found, name: str) -> Iterator[Step]:
    for rules in now.configurations:
        if rules.group == SNAPSHOT:
            yield Step(
                name,
                "The webhook refuses what only it refuses",
                "failurePolicy Ignore hides a webhook that is dead, and that its Deployment is available says nothing: only a "
                "refusal in its own words does.",
                "verify",
                {
                    "subject": "webhook",
                    "name": rules.name,
                    "check": refusal(now),
                    "release": str(now.release),
                },
                hazards=_of(found, "rules-answer-first"),
            )


# What only the webhook refuses, and the kind that it has to be asked about for that.
REFUSALS = {
    "empty-class": "volumesnapshots",
    "second-default-class": "volumesnapshotclasses",
    "empty-reference": "volumesnapshotcontents",
}


def refusal(now: Situation) -> str:
    """The CRDs' rules come before the webhook, and know everything but a second default class, and empty references."""
    crd = now.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
    kept = now.keeps(SNAPSHOT) and crd is not None and crd.set is not None and crd.set.rules
    if not (kept or _crds.row(now.release.crds, SNAPSHOT).rules):
        return "empty-class"
    return "second-default-class" if now.release.version >= (6, 0, 0) else "empty-reference"


def _can_ask(now: Situation) -> bool:
    """Whether the configuration as it is by then asks the webhook about that kind."""
    asked: set[str] = set()
    for rules in now.configurations:
        live = now.live(rules)
        if live and rules.group == SNAPSHOT:
            asked |= {one for hook in live.hooks for one in hook.resources()} & set(rules.resources)
    return REFUSALS[refusal(now)] in asked


# The controller.


def _controller(now: Situation, found: Found) -> Iterator[Step]:
    later = [one for one in now.removed if one.namespace == now.namespace and one.kind == "Deployment"]
    earlier = [one for one in now.removed if one not in later]
    yield from _remove(
        earlier, found, "It does not share the Lease of the new one: both would lead. So it ends first."
    )
    yield from _replace(now, found)
    yield Step(
        "controller",
        f"The controller of {now.release}",
        "What it needs is there by now. The gate of group snapshots is set in so many words, where the release has one that is "
        "not off anyway.",
        "apply",
        {
            "release": str(now.release),
            "parts": ["controller"],
            "namespace": now.namespace,
            "arguments": now.controller_arguments,
        },
        hazards=_of(found, "arguments-ended", "arguments-taken-back", "groups-by-default", "manifest-images"),
    )
    yield Step(
        "controller-wait",
        "Its pods are available",
        "Each has to run for as long as it may wait for its CRDs, so this takes a minute or more. Where the new one does not "
        "start, an old pod stays and leads.",
        "wait_available",
        {"namespace": now.namespace, "name": CONTROLLER_NAME},
    )
    if now.leaves_controllers:
        yield delete_detached(
            "controller", now.namespace, CONTROLLER_NAME, "The new pods run and wait for the Lease."
        )
    yield from _remove(
        later, found, "The new one runs, and waits for the Lease that this one holds.", "controllers-remove"
    )


def _replace(now: Situation, found: Found) -> Iterator[Step]:
    if not now.detaches_controller:
        return
    yield Step(
        "controller-detach",
        "The old controller's pods without its Deployment",
        "The selector is immutable, so the Deployment has to be another one. Its pods stay and lead, until the new ones run.",
        "detach",
        {"namespace": now.namespace, "name": CONTROLLER_NAME},
        hazards=_of(found, "controller-selector"),
    )


def _remove(
    gone: list[Workload], found: Found, reason: str, name: str = "controllers-remove-first"
) -> Iterator[Step]:
    if gone:
        yield Step(
            name,
            "Controllers that are not to run beside this one",
            reason,
            "delete",
            {"objects": [_object(one.kind, one.name, one.namespace) for one in gone]},
            hazards=_of(found, "leftover-statefulset"),
        )


def _prove(now: Situation, found: Found) -> Iterator[Step]:
    if _crds.row(now.release.crds, SNAPSHOT).rules:
        yield Step(
            "verify-rules",
            "The CRDs refuse what their rules forbid",
            "On a cluster where they did not, nothing would: the webhook leaves that to them.",
            "verify",
            {"subject": "schema", "release": str(now.release)},
        )
    yield Step(
        "verify-version",
        f"What runs is {now.release}",
        "By what the pods say of themselves and a new holder of the Lease: a tag may hold anything.",
        "verify",
        {
            "subject": "version",
            "namespace": now.namespace,
            "name": CONTROLLER_NAME,
            "release": str(now.release),
        },
    )
    yield Step(
        "verify-controller",
        "A snapshot is worked on",
        "One that names a missing class: the controller says so in its status, and leaves nothing behind.",
        "verify",
        {"subject": "controller", "namespace": now.namespace},
    )
    if now.groups_wanted:
        yield Step(
            "verify-groups",
            "Group snapshots are worked on",
            "Since 8.7 a controller that does not find their CRDs goes on without them, and says so in its log alone.",
            "verify",
            {"subject": "groups", "namespace": now.namespace, "release": str(now.release)},
            hazards=_of(found, "group-crds-first"),
        )


# What is left.


def _clean(now: Situation, found: Found) -> Iterator[Step]:
    for kind in (VALIDATION, CONVERSION):
        gone = _old_secret(now, kind) if now.wants(kind) else _webhook_objects(now, kind)
        if gone:
            yield Step(
                f"{kind}-clean",
                "What the old webhook leaves behind",
                "No pod mounts it any more." if now.wants(kind) else "Nothing calls it any more.",
                "delete",
                {"objects": gone},
                hazards=_of(found, *(("secret-type",) if now.wants(kind) else ("webhook-left",))),
            )


def _old_secret(now: Situation, kind: str) -> list[dict[str, Any]]:
    """Return the Secrets that are no longer mounted, also those that a killed run left, and the old requests."""
    return _secrets(now, kind, but=now.secret(kind)) + _requests(now, kind)


def _secrets(now: Situation, kind: str, but: str = "") -> list[dict[str, Any]]:
    """Return the Secrets that may be deleted, each with its version and with the only program that may use it."""
    return [
        {
            **_object("Secret", one.name, one.namespace),
            "only_used_by": kind,
            "resource_version": one.resource_version,
        }
        for one in sorted(now.candidates(kind), key=str)
        if one.name != but and not now.why_kept(kind, one)
    ]


def _requests(now: Situation, kind: str) -> list[dict[str, Any]]:
    return [
        _object(one, name, place)
        for one, place, name in now.leftovers(kind)
        if one == "CertificateSigningRequest"
    ]


def _webhook_objects(now: Situation, kind: str) -> list[dict[str, Any]]:
    """Return all objects of the webhook. Its workloads come last, because they show its namespace to a later run."""
    if now.callers(kind):
        return []
    found = [_object("Service", one.name, one.namespace) for one in now.services(kind)]
    found += [_object(one, name, place) for one, place, name in now.leftovers(kind)]
    found += _secrets(now, kind)
    workloads = (*now.installed.running(kind), *now.installed.orphans(kind))
    return found + [_object(one.kind, one.name, one.namespace) for one in workloads if not one.companions]


Phase = Callable[[Situation, Found], Iterable[Step]]
# The order. CRDs, then rights; rules before a webhook that knows less, after one that knows more; a webhook before the
# configuration that calls it, and after it when it goes; the controller when all it needs is there; proofs; what is left.
PHASES: tuple[Phase, ...] = (
    _crds_of_snapshots,
    _delete_configurations,
    _alpha,
    _beta2_by_webhook,
    _conversion_none,
    _conversion,
    _groups_apply,
    _beta2_plain,
    _conversion_trust,
    _controller_rights,
    _narrow_rules,
    _validation,
    _controller,
    _controller_rights_last,
    _prove,
    _clean,
)
