# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of an installed release, and the judgement of their answers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    REFUSALS,
    Verify,
    VerifyVersion,
    VerifyWebhook,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import pod_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    VALIDATION,
    Reference,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import verify_installed
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import (
    release_checks,
    verify_version,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.release_checks import (
    FAILED,
    OK,
    UNPROVEN,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.rollout_report import (
    DeploymentPods,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.verify_version import (
    ControllerPod,
)

from tests.unit.plugins.module_utils._snapshot.world import (
    NOTHING,
    changed,
    options,
    ours,
    planned,
    upstream,
    with_stored,
)


def plan_checks_of(installed: InstalledState, **given: Any) -> dict[str, Verify]:
    return verify_installed.plan_checks(
        UpgradeContext(installed, release_table.get("8.7.0"), options(**given))
    )


def ahead(release: str, crds: str) -> InstalledState:
    """Return a release with the CRDs of a newer one, as after an interrupted run."""
    return replace(upstream(release), crds=upstream(crds).crds)


def faults(action: Verify) -> list[str]:
    """Return the parameters that the check of this action cannot use."""
    if isinstance(action, VerifyWebhook) and action.check not in REFUSALS:
        return [f"check {action.check}"]
    if isinstance(action, VerifyVersion) and release_table.parse(action.release) is None:
        return [f"release {action.release}"]
    return [name for name, value in action.parameters().items() if value in (None, "")]


CONTROLLER = ["verify-version", "verify-controller"]
WITH_RULES = ["verify-rules", *CONTROLLER]
# (the installed state, its checks, the check of the webhook)
BEFORE: list[tuple[str, InstalledState, list[str], str]] = [
    ("nothing", NOTHING, [], ""),
    ("4.2.1", upstream("4.2.1"), ["verify-webhook", *CONTROLLER], "empty-class"),
    ("6.2.2", upstream("6.2.2"), ["verify-webhook", *CONTROLLER], "empty-class"),
    ("7.0.2", upstream("7.0.2"), ["verify-webhook", *CONTROLLER], "empty-class"),
    ("8.1.0", upstream("8.1.0"), ["verify-webhook", *WITH_RULES], "second-default-class"),
    ("8.3.0", upstream("8.3.0"), WITH_RULES, ""),
    ("8.7.0", upstream("8.7.0"), WITH_RULES, ""),
    ("8.4.0 with groups", with_stored(upstream("8.4.0", groups=True), "v1beta1", "v1beta2"), ["verify-conversion", *WITH_RULES, "verify-groups"], ""),
    ("8.7.0 with groups", upstream("8.7.0", groups=True), [*WITH_RULES, "verify-groups"], ""),
    # The installed rules refuse an empty class before the API server calls a webhook of 7.0.
    ("7.0.2, newer CRDs", ahead("7.0.2", "8.1.0"), ["verify-webhook", *WITH_RULES], "second-default-class"),
    ("4.2.1, newer CRDs", ahead("4.2.1", "8.1.0"), ["verify-webhook", *WITH_RULES], "empty-reference"),
    ("a webhook of an unknown release", changed(upstream("7.0.2"), VALIDATION, version=None), ["verify-webhook", *CONTROLLER], "empty-class"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("installed", "wanted", "by"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE]
)
def test_the_checks_fit_the_installed_release(installed: InstalledState, wanted: list[str], by: str) -> None:
    found = plan_checks_of(installed)
    assert list(found) == wanted
    checks = [action.check for action in found.values() if isinstance(action, VerifyWebhook)]
    assert checks == ([by] if by else [])
    for action in found.values():
        assert faults(action) == []


@pytest.mark.parametrize(("start", "target"), [("4.2.1", "6.2.2"), ("7.0.2", "8.1.0"), ("8.4.0", "8.7.0")])
def test_a_plan_repeats_the_checks_at_its_end(start: str, target: str) -> None:
    steps = planned(upstream(start), target).hops[0].steps
    after = {step.id: step.action for step in steps if isinstance(step.action, Verify)}
    before = plan_checks_of(upstream(start))
    common = after.keys() & before.keys()
    assert {"verify-version", "verify-controller"} <= common
    assert all(type(after[name]) is type(before[name]) for name in common)
    for action in after.values():
        assert faults(action) == []


def test_an_unknown_release_is_not_checked() -> None:
    unknown = changed(ours("8.7.0"), "controller", version=None)
    assert list(plan_checks_of(unknown)) == ["verify-rules", "verify-controller"]
    assert "verify-version" in plan_checks_of(unknown, installed_version=(8, 7, 0))


def test_every_refusal_has_a_test_object() -> None:
    for by, (resource, _words) in REFUSALS.items():
        refused, message = release_checks.refused_object(by, "default", "d")
        assert resource.startswith(refused["kind"].lower()) and resource.endswith("s")
        assert message


# The first log lines, by release.
LOGS = [
    ("I1125 10:00:00.1       1 main.go:125] Version: v6.2.2\nI1125 ...", (6, 2, 2)),
    ('I1125 10:00:00.1       1 main.go:164] "Version" version="v8.7.0"\n', (8, 7, 0)),
    ('{"ts":1,"msg":"Version","version":"v8.7.0"}', None),
    ("I1125 10:00:00.1 main.go:125] Version: unknown", None),
    ("", None),
]


@pytest.mark.parametrize(("log", "version"), LOGS)
def test_the_release_in_a_log(log: str, version: release_table.Version | None) -> None:
    assert verify_version.release_in_log(log) == version


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry:5000/a/snapshot-controller:v8.7.0", (8, 7, 0)),
        ("registry:5000/a/snapshot-controller:v8.7.0-eks-1-36-1@sha256:00", (8, 7, 0)),
        ("registry:5000/a/snapshot-controller@sha256:00", None),
        ("snapshot-controller:latest", None),
    ],
)
def test_the_release_in_an_image_tag(image: str, version: release_table.Version | None) -> None:
    assert pod_specs.version_of(image) == version


NEW, OLD = (8, 7, 0), (8, 4, 0)
TARGET = Reference("Deployment", "snapshot-controller", "kube-system")
GOOD = (ControllerPod("a", "c:v8.7.0", NEW), ControllerPod("b", "c:v8.7.0", NEW))


def with_first(**fields: Any) -> tuple[ControllerPod, ...]:
    return (replace(GOOD[0], **fields), GOOD[1])


# (the pods, the verdict, words of the summary)
RELEASES: list[tuple[tuple[ControllerPod, ...], str, str]] = [
    (GOOD, OK, "all 2 pods .* run 8.7.0, according to their logs$"),
    (with_first(logged=None), OK, "for some of them only according to the image tag"),
    (with_first(image="c:latest"), OK, "according to their logs"),
    (with_first(image="c:latest", logged=None, log_problem="forbidden"), UNPROVEN, "pod a .*forbidden"),
    (with_first(logged=OLD), FAILED, "pod a .* logs the release 8.4.0, not 8.7.0"),
    (with_first(logged=None, image="c:v8.4.0"), FAILED, "pod a .* has an image of release 8.4.0, not 8.7.0"),
    # The tag of a digest may be wrong. The log is right.
    (with_first(image="c:v8.4.0"), OK, "according to their logs"),
]


@pytest.mark.parametrize(("pods", "verdict", "words"), RELEASES)
def test_the_judgement_of_the_releases(pods: tuple[ControllerPod, ...], verdict: str, words: str) -> None:
    found = verify_version.judge_releases(TARGET, NEW, pods)
    assert (found.verdict, found.is_lasting) == (verdict, verdict != OK), found
    assert re.search(words, found.summary), found.summary
    assert len(found.evidence) == len(pods)


def owned(name: str, owner: str, **metadata: Any) -> dict[str, Any]:
    references = [{"uid": owner, "controller": True}] if owner else []
    return {"name": name, "uid": name, "ownerReferences": references, **metadata}


def pod(name: str, owner: str = "new-set", *, ready: bool = True, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": owned(name, owner, **metadata),
        "spec": {"containers": [{"name": "c", "image": "snapshot-controller:v8.7.0"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def rollout(*pods: dict[str, Any], replicas: int = 2) -> DeploymentPods:
    """Return a Deployment with these pods. Its status counts those of the newest template, and of them the ready ones."""
    revision = {"deployment.kubernetes.io/revision": "2"}
    newest = [
        entry
        for entry in pods
        if entry["metadata"]["ownerReferences"][:1] == [{"uid": "new-set", "controller": True}]
    ]
    ready = [entry for entry in newest if entry["status"]["conditions"][0]["status"] == "True"]
    deployment = {
        "metadata": {"name": "d", "uid": "d", "generation": 1, "annotations": revision},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": 1,
            "updatedReplicas": len(newest),
            "availableReplicas": len(ready),
            "replicas": len(newest),
        },
    }
    sets = [
        {"metadata": owned("new-set", "d", annotations=revision)},
        {"metadata": owned("old-set", "d", annotations={"deployment.kubernetes.io/revision": "1"})},
    ]
    return DeploymentPods(deployment, sets, pods)


# (the rollout, words of the summary, "" if it is complete)
ROLLOUTS: list[tuple[DeploymentPods, str]] = [
    (rollout(pod("a"), pod("b")), ""),
    (rollout(pod("a", ready=False), pod("b")), "1 of 2 pods"),
    (rollout(pod("a")), "1 of 2 pods"),
    (rollout(), "0 of 2 pods"),
    (rollout(replicas=0), "0 of 0 pods"),
    (rollout(pod("a"), pod("b"), pod("old", "old-set")), "2 of 2 pods"),
    (rollout(pod("a"), pod("b"), pod("other", "")), "other pods than those of .*: other"),
    (rollout(pod("a"), pod("b"), pod("old", "old-set", deletionTimestamp="x")), "other pods than those of .*: old"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "words"), ROLLOUTS)
def test_the_judgement_of_the_rollout(seen: DeploymentPods, words: str) -> None:
    found = verify_version.judge_rollout(TARGET, seen)
    assert (found is None) == (words == ""), found
    if found:
        assert (found.verdict, found.is_lasting) == (FAILED, False)
        assert re.search(words, found.summary), found.summary


@pytest.mark.parametrize("message", release_checks.RULES)
def test_an_object_has_the_fields_of_the_rule_that_it_violates(message: str) -> None:
    body = json.dumps(release_checks.RULES[message]("default"))
    fields = set(re.findall(r"\b[a-z]+(?:[A-Z]\w+)+", message))
    assert fields and [name for name in fields if f'"{name}":' not in body] == []


def test_the_reference_of_a_content_lacks_its_namespace() -> None:
    (build,) = (build for message, build in release_checks.RULES.items() if "volumeSnapshotRef" in message)
    assert list(build("default")["spec"]["volumeSnapshotRef"]) == ["name"]


def answers(**other: str) -> list[tuple[str, str]]:
    every = {
        message: f"VolumeSnapshot is invalid: spec: Invalid value: {message}"
        for message in release_checks.RULES
    }
    first = next(iter(release_checks.RULES))
    return [*{**every, **({first: other["first"]} if "first" in other else {})}.items()]


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        (answers(), OK, "refuse all 4"),
        (answers(first=""), FAILED, "accept objects that violate their rules: volumeSnapshotClassName"),
        (answers(first='"spec.source" must validate one and only one schema (oneOf)'), FAILED, "oneOf"),
        (answers(first='volumesnapshots is forbidden: User "x" cannot create'), UNPROVEN, "User"),
    ],
)
def test_the_judgement_of_the_rules(given: list[tuple[str, str]], verdict: str, words: str) -> None:
    found = release_checks.judge_rules(given)
    assert found.verdict == verdict
    assert words in found.summary


@pytest.mark.parametrize(
    ("message", "is_said"),
    [
        (
            'Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io "x-1" not found',
            True,
        ),
        ('failed to get group snapshot class with error volumegroupsnapshotclass "x-1" not found', True),
        ("something else about x-1", False),
        ("", False),
    ],
)
def test_the_error_in_a_status(message: str, is_said: bool) -> None:
    assert bool(release_checks.status_error({"status": {"error": {"message": message}}}, "x-1")) is is_said
    assert release_checks.status_error(None, "x-1") == release_checks.status_error({}, "x-1") == ""


@pytest.mark.parametrize(
    ("verdict", "before", "broken", "words"),
    [
        (FAILED, {"verdict": FAILED, "summary": "no answer"}, True, "already broken before this run: no answer"),
        (FAILED, {"verdict": OK}, False, "worked before this run"),
        (FAILED, {"verdict": UNPROVEN}, None, ""),
        (FAILED, {}, None, ""),
        (OK, {"verdict": FAILED, "summary": "no answer"}, True, ""),
        (UNPROVEN, {"verdict": OK}, False, ""),
    ],
)  # fmt: skip
def test_a_failure_tells_if_it_is_older_than_the_run(
    verdict: str, before: dict[str, str], broken: bool | None, words: str
) -> None:
    found, logged = release_checks.history(verdict, before)
    assert found is broken
    assert words in logged
    assert bool(logged) is bool(words)


def test_a_driver_with_a_default_class() -> None:
    plain, default = ({"metadata": {}, "driver": "a"}, release_checks.default_class("b"))
    assert release_checks.default_driver([plain]) == ""
    assert release_checks.default_driver([plain, default]) == "b"


def test_the_webhook_that_is_called_for_a_resource() -> None:
    def entry(name: str, resource: str) -> dict[str, Any]:
        return {"name": name, "rules": [{"resources": [resource]}]}

    several = {"webhooks": [entry("a", "volumesnapshots"), entry("b", "volumesnapshotclasses")]}
    assert release_checks.webhook_for(several, "volumesnapshotclasses") == "b"
    assert release_checks.webhook_for(several, "pods") == "a"
    assert release_checks.webhook_for({"webhooks": several["webhooks"][:1]}, "pods") == ""
    assert release_checks.webhook_for({}, "pods") == ""


def test_an_invalid_content_is_complete_but_for_its_fault() -> None:
    spec = release_checks.content({"source": {}})["spec"]
    assert set(spec) == {"deletionPolicy", "driver", "source", "volumeSnapshotRef"}
    assert spec["source"] == {}
