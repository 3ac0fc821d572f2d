# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put objects back, also if another client wrote them after this run."""

from __future__ import annotations

import base64
import contextlib
import copy
from collections.abc import Mapping
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import LAST_APPLIED
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import access_review
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict, Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    RestoreObjects,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import StepError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import patches
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import restore as restoring
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.restore import (
    REVISION,
    adjusted,
    merged,
    restore,
)

from tests.support.certificates.server_pki import ca
from tests.support.failures import fails

Object = dict[str, Any]
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
TARGET = Reference("Deployment", "hook", "default")
OWNERS = [{"manager": "kubectl-client-side-apply", "operation": "Update"}]


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every object be the snapshot controller's. test_ownership judges objects."""
    for module in (restoring, patches):
        monkeypatch.setattr(module, "refuse_others", lambda *_given, **_more: None)


def deployment(image: str = "old", *, uid: str = "u", **more: Any) -> Object:
    """Return a Deployment. more: fields of its spec, and ``labels`` and ``annotations``."""
    metadata: Object = {
        "name": "hook",
        "namespace": "default",
        "uid": uid,
        "resourceVersion": "7",
        "managedFields": OWNERS,
    }
    metadata.update({key: more.pop(key) for key in ("labels", "annotations") if key in more})
    spec = {
        "replicas": 2,
        "template": {"metadata": {}, "spec": {"containers": [{"name": "hook", "image": image}]}},
        **more,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": spec,
        "status": {"replicas": 1},
    }


# The original, the state in which this run left the object, the live object, and the object that is written.
MERGES: dict[str, tuple[Object, Object, Object, Object]] = {
    "only this run wrote it": (
        deployment(replicas=7, labels={"team": "a"}), deployment("new"), deployment("new"),
        deployment(replicas=7, labels={"team": "a"}),
    ),
    "this run did not change it": (deployment(), deployment(), deployment(replicas=5), deployment(replicas=5)),
    "it is back already": (deployment(), deployment("new"), deployment(), deployment()),
    "another client added a label": (deployment(), deployment("new"), deployment("new", labels={"x": "y"}), deployment(labels={"x": "y"})),
    "another client changed another field": (deployment(), deployment("new"), deployment("new", replicas=5), deployment(replicas=5)),
    "another client removed a field that this run kept": (
        deployment(labels={"a": "b", "c": "d"}), deployment("new", labels={"a": "b", "c": "d"}),
        deployment("new", labels={"a": "b"}), deployment(labels={"a": "b"}),
    ),
    "this run removed the annotation of kubectl": (
        deployment(annotations={LAST_APPLIED: "{}"}), deployment("new"), deployment("new"),
        deployment(annotations={LAST_APPLIED: "{}"}),
    ),
    "the controller counted, and the object is another one": (
        deployment(annotations={REVISION: "3"}), deployment("new", uid="v"),
        deployment("new", uid="v", annotations={REVISION: "1"}), deployment(uid="v", annotations={REVISION: "1"}),
    ),
}  # fmt: skip


def content(obj: Mapping[str, Any]) -> Object:
    """Return the fields that are compared."""
    metadata = {key: value for key, value in obj["metadata"].items() if key in ("labels", "annotations")}
    return {"metadata": metadata, "spec": obj["spec"]}


@pytest.mark.parametrize("case", MERGES)
def test_changes_of_other_clients_are_kept(case: str) -> None:
    original, left, live, wanted = MERGES[case]
    given = copy.deepcopy((original, left, live))
    assert content(merged(TARGET, original, left, live, NOW)) == content(wanted)
    assert given == (original, left, live)  # the arguments are not changed


# The original, the state in which this run left the object, the live object, and a word of the conflict.
CONFLICTS: dict[str, tuple[Object, Object | None, Object | None, str]] = {
    "the same field": (deployment(), deployment("new"), deployment("theirs"), "spec.template.spec.containers"),
    "created again": (deployment(), deployment("new"), deployment("new", uid="v"), "created"),
    "created after the deletion": (deployment(), None, deployment(), "created"),
    "deleted": (deployment(), deployment("new"), None, "deleted"),
}  # fmt: skip


class OneObject:
    """A client with one object. writes: the methods that were called."""

    def __init__(self, live: Object | None, left: Object | None) -> None:
        self.live, self.left = live, {TARGET.path: left}
        self.writes: list[tuple[str, Any]] = []
        self.conflicts = 0
        self.appears: Object | None = None

    def now(self) -> datetime:
        return NOW

    def earlier(self) -> datetime:
        return self.now()

    def find(self, _path: str) -> Object | None:
        return copy.deepcopy(self.live)

    def apply(self, _path: str, body: Object, *, manager: str, takes_fields: bool) -> Object:
        assert not takes_fields
        if self.live is None and self.appears:
            self.live, self.appears = self.appears, None
            raise Conflict("it has other managers", status=409)
        self.writes.append(("apply", body))
        self.live = {
            **copy.deepcopy(body),
            "metadata": {
                **body["metadata"],
                "uid": "new",
                "resourceVersion": "1",
                "managedFields": [{"manager": manager}],
            },
        }
        return copy.deepcopy(self.live)

    def replace(self, _path: str, body: Object) -> Object:
        assert self.live and body["metadata"]["resourceVersion"] == self.live["metadata"]["resourceVersion"]
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("changed", status=409)
        self.writes.append(("replace", body))
        self.live = {**copy.deepcopy(body), "metadata": {**body["metadata"], "managedFields": [{}]}}
        return copy.deepcopy(self.live)

    def patch(self, _path: str, operations: list[Object], *, dry_run: bool = False) -> Object:
        assert self.live and not dry_run
        _lock, owners = operations
        self.live["metadata"]["managedFields"] = owners["value"]
        return copy.deepcopy(self.live)


def put_back(client: OneObject, original: Object) -> Any:
    return restore(ActionContext(cast("Any", client)), TARGET, original)


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_is_not_written_and_is_named(case: str) -> None:
    original, left, live, name = CONFLICTS[case]
    client = OneObject(live, left)
    with fails("invalid-step", str(TARGET).split()[1], name):
        put_back(client, original)
    assert client.writes == []


def test_a_deleted_object_is_created_with_its_owners() -> None:
    client = OneObject(None, None)
    outcome = put_back(client, deployment(replicas=7))
    assert (outcome.change, client.live and client.live["spec"]["replicas"]) == ("created", 7)
    ((_apply, manifest),) = client.writes
    assert not {"uid", "resourceVersion", "managedFields"} & set(manifest["metadata"])
    assert "status" not in manifest
    assert client.live and client.live["metadata"]["managedFields"] == OWNERS


def test_a_role_keeps_the_owners_that_it_has_now() -> None:
    """Its newer rules stay, so their owner must stay. Otherwise the next run would take it for the object of another manager."""
    target = Reference("ClusterRole", "runner")
    left = {
        **role(NEW_RULE),
        "metadata": {
            "name": "runner",
            "uid": "u",
            "resourceVersion": "7",
            "managedFields": [{"manager": "certflow.kubernetes"}],
        },
    }
    client = OneObject(left, None)
    client.left = {target.path: left}
    assert restore(ActionContext(cast("Any", client)), target, role(OLD_RULE, OWN_RULE)).is_changed
    assert client.live and client.live["metadata"]["managedFields"] == left["metadata"]["managedFields"]


def test_an_object_that_appears_at_the_moment_of_the_write_is_kept() -> None:
    client = OneObject(None, None)
    client.appears = deployment("theirs")
    with pytest.raises(StepError) as caught:
        put_back(client, deployment())
    assert str(TARGET) in caught.value.cause
    assert (client.writes, client.live) == ([], deployment("theirs"))


def test_an_object_that_is_back_is_not_written() -> None:
    client = OneObject(deployment(), deployment("new"))
    assert put_back(client, deployment()).change == "unchanged"
    assert client.writes == []


def test_a_write_of_another_client_in_between_is_judged_again() -> None:
    client = OneObject(deployment("new"), deployment("new"))
    client.conflicts = 1
    assert put_back(client, deployment()).change == "changed"
    assert content(cast("Object", client.live)) == content(deployment())


def test_the_data_of_a_secret_are_in_no_result() -> None:
    target = Reference("Secret", "tls", "default")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "namespace": "default"},
        "data": {"tls.key": "a2V5"},
    }
    client = OneObject(None, None)
    client.left = {target.path: None}
    outcome = restore(ActionContext(cast("Any", client)), target, secret)
    assert client.live and client.live["data"] == {"tls.key": "a2V5"}
    assert (outcome.change, outcome.changes) == ("created", ())


def test_a_service_gets_a_new_address_unless_it_has_none() -> None:
    ports = [{"port": 443, "nodePort": 30000}]
    service = {
        "kind": "Service",
        "metadata": {"name": "hook"},
        "spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": ports},
    }
    assert restoring._new(service)["spec"] == {"ports": [{"port": 443}]}
    headless = {**service, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    assert restoring._new(headless)["spec"] == headless["spec"]


# Bundles.


CAS = {name: ca(name).certificate.encode() for name in ("old", "new")}


def bundle(*names: str) -> str:
    return base64.b64encode(b"".join(CAS[name] for name in names)).decode()


def configuration(ca_bundle: str, *, policy: str = "Fail") -> Object:
    config = {"service": {"name": "hook"}, **({"caBundle": ca_bundle} if ca_bundle else {})}
    webhooks = [{"name": "hook.example", "failurePolicy": policy, "clientConfig": config}]
    return {
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook", "uid": "u", "resourceVersion": "7"},
        "webhooks": webhooks,
    }


# The bundle of the original, the bundle of the live object, and the bundle that is written.
BUNDLES = {
    "the same": (bundle("old"), bundle("old"), bundle("old")),
    "a CA was added": (bundle("old"), bundle("old", "new"), bundle("old", "new")),
    "a CA was replaced": (bundle("old"), bundle("new"), bundle("new", "old")),
    "none before": ("", bundle("new"), bundle("new")),
    "none now": (bundle("old"), "", bundle("old")),
    "no certificate before": ("Cg==", bundle("new"), bundle("new")),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_a_bundle_keeps_its_present_certificates(case: str) -> None:
    """The webhook may have a new certificate, and its Secret is not changed back."""
    earlier, present, wanted = BUNDLES[case]
    left = configuration(present, policy="Ignore")
    target = Reference("ValidatingWebhookConfiguration", "hook")
    now = datetime.now(timezone.utc)
    (webhook,) = merged(target, configuration(earlier), left, left, now)["webhooks"]
    assert (webhook["clientConfig"].get("caBundle", ""), webhook["failurePolicy"]) == (wanted, "Fail")


def test_a_configuration_is_ignored_until_its_webhook_is_verified() -> None:
    original = configuration("")
    assert (
        adjusted(original, RestoreObjects([], ignoring=["hook"]))["webhooks"][0]["failurePolicy"] == "Ignore"
    )
    assert adjusted(original, RestoreObjects([], ignoring=["other"])) == original


def test_the_pods_of_a_deployment_get_labels() -> None:
    template = adjusted(deployment(), RestoreObjects([], {"a": "b"}))["spec"]["template"]
    assert template["metadata"] == {"labels": {"a": "b"}}
    assert adjusted(deployment(), RestoreObjects([])) == deployment()


OLD_RULE = {"apiGroups": ["g"], "resources": ["snapshots"], "verbs": ["get", "list"]}
NEW_RULE = {"apiGroups": ["g"], "resources": ["snapshots", "contents"], "verbs": ["list", "get", "patch"]}
OWN_RULE = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}


def role(*rules: Object) -> Object:
    return {"kind": "ClusterRole", "metadata": {"name": "runner", "uid": "u"}, "rules": list(rules)}


def test_a_role_keeps_its_newer_rules_and_gets_the_rules_of_the_user() -> None:
    target = Reference("ClusterRole", "runner")
    original, left = role(OLD_RULE, OWN_RULE), role(NEW_RULE)
    assert merged(target, original, left, left, NOW)["rules"] == [NEW_RULE, OWN_RULE]
    assert merged(target, role(OLD_RULE), left, left, NOW)["rules"] == [NEW_RULE]
    empty = {**role(), "rules": None}  # as the API server returns a role without rules
    assert merged(target, empty, left, left, NOW)["rules"] == [NEW_RULE]
    assert merged(target, original, empty, empty, NOW)["rules"] == original["rules"]
    assert merged(target, empty, empty, empty, NOW) == empty


# The preflight.

REFUSED = 'clusterroles "x" is forbidden: user "u" is attempting to grant RBAC permissions not currently held'
# If the identity may create the name, the refusal of a change ("" if it is accepted), and the codes of the error.
AGAIN = [(True, "", ""), (True, REFUSED, "forbidden"), (False, "", "missing-permissions")]


@pytest.mark.parametrize(("may_create", "refusal", "code"), AGAIN)
def test_a_creation_is_tried_by_a_review_and_a_dry_run(
    may_create: bool, refusal: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patched(path: str, operations: list[Object], *, dry_run: bool) -> Object:
        assert dry_run and path == TARGET.path
        assert operations[0]["value"]["a"] == "b" and len(operations[0]["value"]) > 1
        if refusal:
            raise Forbidden("no", message=refusal, remedy="", status=403)
        return {}

    monkeypatch.setattr(access_review, "find_missing", lambda _client, needed: [] if may_create else needed)
    live = deployment(annotations={"a": "b"})
    with fails(code) if code else contextlib.nullcontext():
        restoring.try_creation(cast("Any", SimpleNamespace(patch=patched)), TARGET, live)
