# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recognise the snapshot controller's objects by positive marks, and decide which of them an upgrade deletes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict, NotFound
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    DeletedObject,
    DeleteObjects,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import pod_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    Hook,
    InstalledState,
    Service,
    WebhookConfiguration,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    VALIDATION,
    Reference,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.pod_templates import (
    ReleaseSettings,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    SNAPSHOT,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import (
    apply_manifests,
    delete_objects,
    patches,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._snapshot import objects
from tests.unit.plugins.module_utils._snapshot.installed.test_parse_objects import (
    APPS,
    CONFIGURATIONS,
    installed,
)
from tests.unit.plugins.module_utils._snapshot.plan.test_preparation import context
from tests.unit.plugins.module_utils._snapshot.world import changed, planned, upstream, with_workload

Object = dict[str, Any]
IMAGE = "registry.k8s.io/sig-storage/snapshot-validation-webhook:v8.1.0"
MUTATING = CONFIGURATIONS.replace("validating", "mutating")
UPSTREAM = f"validation-webhook.{SNAPSHOT}"
HOOK, POLICY = ("hooks", "snapshot-validation-service"), ("policy", "policy-svc")
RULES = {"snapshots": SNAPSHOT, "pods": "", "everything": "*"}


def configuration(name: str, *calls: tuple[tuple[str, str], str], **metadata: Any) -> Object:
    """Return a configuration with one webhook for each pair of a called Service and its kinds of objects."""
    return {
        "metadata": {"name": name, **metadata},
        "webhooks": [
            {
                "name": f"h{number}",
                "clientConfig": {"service": {"namespace": place[0], "name": place[1]}},
                "rules": [{"apiGroups": [RULES[about]], "apiVersions": ["v1"], "resources": ["*"]}],
            }
            for number, (place, about) in enumerate(calls)
        ],
    }


def service(place: tuple[str, str], **selector: str) -> Object:
    return {"metadata": {"namespace": place[0], "name": place[1]}, "spec": {"selector": selector}}


WEBHOOK = objects.workload("hooks", "hook", IMAGE, selector={"app": "hook"})
OTHER_POD = objects.workload(
    "hooks", "engine", "example.com/engine:v1", selector={"app": "hook", "tier": "x"}
)
KYVERNO = {"ownerReferences": [{"kind": "ClusterRole", "name": "kyverno", "uid": "u"}]}


def cluster(*workloads: Object, validating: Any = (), mutating: Any = (), **more: Any) -> InstalledState:
    answers = {
        f"{APPS}/deployments": list(workloads or (WEBHOOK,)),
        CONFIGURATIONS: list(validating),
        MUTATING: list(mutating),
        "/api/v1/namespaces/hooks/services/snapshot-validation-service": service(HOOK, app="hook"),
        "/api/v1/namespaces/hooks/services/alias": service(("hooks", "alias"), app="hook"),
        "/api/v1/namespaces/policy/services/policy-svc": service(POLICY, app="policy"),
        **more,
    }
    return installed(answers, "8.7.0")


ALIAS = ("hooks", "alias")
# A configuration and its class: the webhook's, another owner's that matters, or one that does not matter.
OWN, FOREIGN, IGNORED = "own", "foreign", "ignored"
CONFIGURATIONS_TABLE: dict[str, tuple[Object, str]] = {
    "upstream's name": (configuration(UPSTREAM, (HOOK, "snapshots")), OWN),
    "upstream's name, and a Service that does not exist": (configuration(UPSTREAM, ((("x", HOOK[1])), "snapshots")), OWN),
    "upstream's name, and a Service of another name before the program": (configuration(UPSTREAM, (ALIAS, "snapshots")), OWN),
    "upstream's name, and an unknown Service of another name": (configuration(UPSTREAM, (("x", "y"), "snapshots")), FOREIGN),
    "upstream's name, and one more webhook": (configuration(UPSTREAM, (HOOK, "snapshots"), (POLICY, "pods")), FOREIGN),
    "upstream's name, and one more kind of objects": (configuration(UPSTREAM, (HOOK, "pods")), FOREIGN),
    "another name, and every webhook is answered by the program": (configuration("mine", (HOOK, "snapshots"), (ALIAS, "snapshots")), FOREIGN),
    "the program answers, and is asked about other kinds too": (configuration("wide", (HOOK, "snapshots"), (HOOK, "pods")), FOREIGN),
    "a policy engine": (configuration("company-policy", (POLICY, "pods"), (POLICY, "snapshots")), FOREIGN),
    "a policy engine with an owner": (configuration("kyverno", (POLICY, "snapshots"), **KYVERNO), FOREIGN),
    "one webhook is the program's, another is not": (configuration("mixed", (HOOK, "snapshots"), (POLICY, "pods")), FOREIGN),
    "it calls the webhook under another name and names other kinds": (configuration("alias", (ALIAS, "pods"), (POLICY, "pods")), FOREIGN),
    "it names no snapshots and calls another Service": (configuration("x", (POLICY, "pods")), IGNORED),
    "a rule for every group": (configuration("all", (POLICY, "everything")), IGNORED),
}  # fmt: skip


@pytest.mark.parametrize(("given", "whose"), CONFIGURATIONS_TABLE.values(), ids=list(CONFIGURATIONS_TABLE))
def test_the_owner_of_a_configuration(given: Object, whose: str) -> None:
    here = cluster(validating=[given])
    name = given["metadata"]["name"]
    assert [webhook_configuration.name for webhook_configuration in here.configurations] == (
        [name] if whose == OWN else []
    )
    assert [webhook_configuration.name for webhook_configuration in here.foreign] == (
        [name] if whose == FOREIGN else []
    )


def test_a_service_that_leads_to_other_pods_too_is_not_a_mark() -> None:
    given = configuration("mine", (HOOK, "snapshots"))
    here = cluster(WEBHOOK, OTHER_POD, validating=[given])
    assert (here.configurations, [webhook_configuration.name for webhook_configuration in here.foreign]) == (
        (),
        ["mine"],
    )


def test_a_mutating_configuration_that_calls_the_webhook_counts() -> None:
    given = [configuration("mutates", (HOOK, "pods")), configuration("other", (POLICY, "pods"))]
    here = cluster(mutating=given)
    assert [str(webhook_configuration) for webhook_configuration in here.foreign] == [
        "MutatingWebhookConfiguration mutates"
    ]


def test_a_policy_engine_is_not_read_and_does_not_refuse_the_upgrade() -> None:
    """The upgrade goes on even if the engine's namespace is unreadable and an operator owns the configuration."""
    path = "/api/v1/namespaces/policy/services/policy-svc"
    given = [configuration("kyverno", (POLICY, "snapshots"), **KYVERNO)]
    here = cluster(validating=given, **{path: objects.forbidden("services")})
    assert here.unreadable == {}
    start = replace(upstream("7.0.2"), foreign=here.foreign)
    for target in ("8.1.1", "8.7.0"):
        plan = planned(start, target)
        assert plan.refused == ()
        assert not _written(plan, "kyverno")


def _written(plan: Any, name: str) -> list[Any]:
    return [step.id for hop in plan.hops for step in hop.steps if name in str(step.action.parameters())]


TWO = (WEBHOOK, objects.workload("team", "hook", IMAGE))
# Webhooks of the program in two namespaces: the called Services, and the namespace of the webhook.
PLACES: dict[str, tuple[list[Object], list[str]]] = {
    "one is called": ([configuration(UPSTREAM, (HOOK, "snapshots"))], ["hooks"]),
    "nothing tells which one": ([], []),
}


@pytest.mark.parametrize(("given", "expected"), PLACES.values(), ids=list(PLACES))
def test_a_webhook_in_another_namespace_belongs_to_another_installation(
    given: list[Object], expected: list[str]
) -> None:
    here = cluster(*TWO, validating=given)
    assert [workload.namespace for workload in here.running(VALIDATION)] == expected


# Users of a Secret.


def pod(name: str, spec: Object, *, owner: str = "") -> Object:
    owners = [{"kind": owner, "name": "x", "controller": True}] if owner else []
    return {"metadata": {"namespace": "hooks", "name": name, "ownerReferences": owners}, "spec": spec}


def template(name: str, spec: Object) -> Object:
    return {"metadata": {"namespace": "hooks", "name": name}, "spec": {"template": {"spec": spec}}}


OTHER = {"containers": [{"name": "a", "image": "example.com/a"}]}
BY_VOLUME = {**OTHER, "volumes": [{"name": "v", "secret": {"secretName": "tls"}}]}
REFERENCES: dict[str, Object] = {
    "volume": BY_VOLUME,
    "projected": {**OTHER, "volumes": [{"projected": {"sources": [{"secret": {"name": "tls"}}]}}]},
    "env": {"containers": [{"image": "a", "env": [{"valueFrom": {"secretKeyRef": {"name": "tls", "key": "k"}}}]}]},
    "envFrom": {"containers": [{"image": "a", "envFrom": [{"secretRef": {"name": "tls"}}]}]},
    "init container": {**OTHER, "initContainers": [{"image": "a", "envFrom": [{"secretRef": {"name": "tls"}}]}]},
    "imagePullSecrets": {**OTHER, "imagePullSecrets": [{"name": "tls"}]},
    "CSI volume": {**OTHER, "volumes": [{"csi": {"driver": "d", "nodePublishSecretRef": {"name": "tls"}}}]},
}  # fmt: skip


@pytest.mark.parametrize("spec", REFERENCES.values(), ids=list(REFERENCES))
def test_every_reference_of_a_pod_is_found(spec: Object) -> None:
    found = partial(pod_specs.users_of, "hooks")
    assert found("tls", {"pods": [pod("p", spec)]}) == (("Pod hooks/p", ""),)
    assert found("other", {"pods": [pod("p", spec)]}) == ()
    assert pod_specs.users_of("elsewhere", "tls", {"pods": [pod("p", spec)]}) == ()


HISTORY = template("old", BY_VOLUME)
HISTORY["spec"]["replicas"] = 0
CRON = {
    "metadata": {"namespace": "hooks", "name": "cron"},
    "spec": {"jobTemplate": {"spec": {"template": {"spec": BY_VOLUME}}}},
}
INGRESS = {"metadata": {"namespace": "hooks", "name": "web"}, "spec": {"tls": [{"secretName": "tls"}]}}
MIXED = {**BY_VOLUME, "containers": [*OTHER["containers"], {"name": "hook", "image": IMAGE}]}
USERS: dict[str, tuple[str, Object, tuple[tuple[str, str], ...]]] = {
    "Deployment": ("deployments", template("d", BY_VOLUME), (("Deployment hooks/d", ""),)),
    "StatefulSet": ("statefulsets", template("s", BY_VOLUME), (("StatefulSet hooks/s", ""),)),
    "DaemonSet": ("daemonsets", template("d", BY_VOLUME), (("DaemonSet hooks/d", ""),)),
    "Job": ("jobs", template("j", BY_VOLUME), (("Job hooks/j", ""),)),
    "CronJob": ("cronjobs", CRON, (("CronJob hooks/cron", ""),)),
    "Ingress": ("ingresses", INGRESS, (("Ingress hooks/web", ""),)),
    "a bare pod": ("pods", pod("p", BY_VOLUME), (("Pod hooks/p", ""),)),
    "a pod of another controller": ("pods", pod("p", BY_VOLUME, owner="Rollout"), (("Pod hooks/p", ""),)),
    "a pod of a ReplicaSet, which is listed itself": ("pods", pod("p", BY_VOLUME, owner="ReplicaSet"), ()),
    "the history of a Deployment": ("replicasets", HISTORY, ()),
    "the webhook itself": (
        "deployments", template("w", {**BY_VOLUME, "containers": [{"image": IMAGE}]}), (("Deployment hooks/w", VALIDATION),),
    ),
    "the webhook beside another container": ("deployments", template("m", MIXED), (("Deployment hooks/m", ""),)),
}  # fmt: skip


@pytest.mark.parametrize(("what", "obj", "expected"), USERS.values(), ids=list(USERS))
def test_users_of_a_secret(what: str, obj: Object, expected: tuple[tuple[str, str], ...]) -> None:
    assert pod_specs.users_of("hooks", "tls", {what: [obj]}) == expected


# The objects that the plan deletes.

V811 = upstream("8.1.1")
CALLER = WebhookConfiguration(
    "caller", (), (Hook("h", ("kube-system", "snapshot-validation-service"), "/", "Fail", ()),)
)


def gone(start: InstalledState, target: str = "8.7.0", **given: Any) -> list[str]:
    plan = planned(start, target, **given)
    assert plan.refused == ()
    return [
        f"{place['kind']} {place.get('namespace', '')}/{place.get('name', place.get('label_selector'))}"
        for hop in plan.hops
        for step in hop.steps
        if step.action.action_name == "delete"
        for place in step.action.parameters()["objects"]
    ]


def test_all_of_the_webhook_is_deleted_and_its_workload_last() -> None:
    assert gone(V811) == [
        "ValidatingWebhookConfiguration /validation-webhook.snapshot.storage.k8s.io",
        "Service kube-system/snapshot-validation-service",
        "Secret kube-system/snapshot-validation-secret",
        "Deployment kube-system/snapshot-validation-deployment",
    ]


OWN_SERVICE = V811.services[0]
ELSEWHERE = replace(
    V811,
    services=(
        *V811.services,
        replace(OWN_SERVICE, namespace="default"),
        Service("team", "my-validation-api", {}),
    ),
    secrets=(*V811.secrets, replace(V811.secrets[0], namespace="default")),
    leftovers=(
        ("ServiceAccount", "default", "snapshot-webhook"),
        ("PodDisruptionBudget", "default", "snapshot-validation-deployment"),
        ("CertificateSigningRequest", "", "snapshot-validation-service.default"),
    ),
)


def test_a_name_counts_only_where_the_webhook_is() -> None:
    assert gone(ELSEWHERE) == gone(V811)


def test_no_name_counts_where_nothing_tells_of_a_webhook() -> None:
    start = upstream("8.2.1")
    leftovers = tuple(
        (kind, "kube-system" if place else "", name) for kind, place, name in ELSEWHERE.leftovers
    )
    left = replace(start, services=V811.services, secrets=V811.secrets, leftovers=leftovers)
    assert gone(left) == []
    assert gone(left, "8.1.1") == []  # the release has a webhook, and existing objects must be accepted first


def test_while_another_configuration_calls_it_nothing_of_the_webhook_is_deleted() -> None:
    assert gone(replace(V811, foreign=(CALLER,))) == gone(V811)[:1]


def test_a_shared_secret_stays_and_the_rest_goes() -> None:
    """The Secret of another name belongs to the user. Another workload mounts the Secret of upstream's name."""
    shared = changed(
        replace(V811, secrets=(replace(V811.secrets[0], name="shared-tls"),)),
        VALIDATION,
        secrets=("shared-tls",),
    )
    used = replace(V811, secrets=(replace(V811.secrets[0], users=(("Deployment kube-system/shop", ""),)),))
    for start in (shared, used):
        assert gone(start) == [entry for entry in gone(V811) if not entry.startswith("Secret")]


def test_a_secret_is_deleted_as_it_was_planned() -> None:
    start = replace(V811, secrets=(replace(V811.secrets[0], resource_version="7"),))
    (step,) = [step for step in planned(start, "8.7.0").hops[0].steps if step.id == "validation-clean"]
    (entry,) = [place for place in step.action.parameters()["objects"] if place["kind"] == "Secret"]
    assert (entry["only_used_by"], entry["resource_version"]) == (VALIDATION, "7")


DRIVER = replace(
    V811.running(CONTROLLER)[0], namespace="storage", name="lvm-csi-controller", companions=("csi-provisioner", "lvm-plugin")
)  # fmt: skip
MIXED_STARTS: dict[str, InstalledState] = {
    "a CSI driver beside the controller": with_workload(V811, DRIVER),
    "a CSI driver is the controller": changed(
        V811, CONTROLLER, name="driver", companions=("csi-provisioner",)
    ),
    "the webhook is one of several containers": changed(V811, VALIDATION, companions=("policy",)),
}


@pytest.mark.parametrize("start", MIXED_STARTS.values(), ids=list(MIXED_STARTS))
@pytest.mark.parametrize("named", [False, True])
def test_a_workload_with_other_containers_is_never_deleted(start: InstalledState, named: bool) -> None:
    names = [f"{workload.namespace}/{workload.name}" for workload in start.workloads if workload.companions]
    plan = planned(start, "8.7.0", remove_controllers=tuple(names if named else ()))
    assert [refusal.id for refusal in plan.refused] == ["other-containers"]
    assert plan.refused[0].remedy.startswith("Remove the container of snapshot-")
    assert "remove_controllers (" not in plan.refused[0].remedy


# The Secrets that a step deletes.


class OwnershipApi(objects.ObjectApi):
    """A client that can delete. Another client writes before the first deletions."""

    writes_between = 0
    #: A change of the object by that client.
    added: Mapping[str, Any] = MappingProxyType({})

    def delete(self, path: str, *, uid: str = "", resource_version: str = "", **_given: Any) -> None:
        live = self.answers.get(path)
        if live is None:
            raise NotFound("gone", status=404)
        metadata = live["metadata"]
        if self.writes_between:
            self.writes_between -= 1
            metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
            live.setdefault("data", {})["added"] = "eA=="
            live.update(self.added)
        if (metadata["uid"], metadata["resourceVersion"]) != (uid, resource_version):
            raise Conflict("the object was changed", status=409)
        self.answers[path] = None


SECRET = Reference("Secret", "snapshot-validation-secret", "hooks")
PODS = "/api/v1/namespaces/hooks/pods"


def secret_api(**answers: Any) -> OwnershipApi:
    metadata = {"namespace": "hooks", "name": SECRET.name, "uid": "u", "resourceVersion": "7"}
    return OwnershipApi({SECRET.path: {"metadata": metadata, "data": {"tls.crt": "eA=="}}, **answers})


def delete_secret(api: OwnershipApi, **entry: Any) -> tuple[str, str]:
    place = {"kind": "Secret", "namespace": "hooks", "name": SECRET.name}
    given = replace(context(), client=api)  # type: ignore[arg-type]
    (outcome,) = delete_objects.delete_planned(given, DeleteObjects([DeletedObject(**{**place, **entry})]))
    return outcome.change, outcome.note


PLANNED = {"only_used_by": VALIDATION, "resource_version": "7"}
SHOP = pod("shop", {**OTHER, "volumes": [{"secret": {"secretName": SECRET.name}}]})
SECRETS: dict[str, tuple[OwnershipApi, Object, str, str]] = {
    "as planned": (secret_api(), PLANNED, "deleted", ""),
    "changed since the plan": (secret_api(), {**PLANNED, "resource_version": "6"}, "unchanged", "changed after"),
    "mounted since the plan": (secret_api(**{PODS: [SHOP]}), PLANNED, "unchanged", "Pod hooks/shop uses it"),
    "users may not be listed": (secret_api(**{PODS: objects.forbidden("pods")}), PLANNED, "unchanged", "cannot be read: pods is forbidden"),
}  # fmt: skip


@pytest.mark.parametrize(("api", "entry", "change", "words"), SECRETS.values(), ids=list(SECRETS))
def test_a_secret_is_looked_at_again_before_it_is_deleted(
    api: OwnershipApi, entry: Object, change: str, words: str
) -> None:
    found = delete_secret(api, **entry)
    assert found[0] == change
    assert words in found[1]
    assert (api.answers[SECRET.path] is None) == (change == "deleted")


def test_a_write_between_read_and_delete_is_not_lost() -> None:
    api = secret_api()
    api.writes_between = 1
    assert delete_secret(api, **PLANNED)[0] == "unchanged"
    assert api.answers[SECRET.path]["data"]["added"]


def test_a_deletion_is_repeated_after_a_write_of_another_client() -> None:
    """A Deployment's status changes all the time. The deletion is then repeated."""
    api: Any = secret_api()
    api.writes_between = apply_manifests.ATTEMPTS - 1
    assert delete_objects.delete(ActionContext(api), SECRET).change == "deleted"
    api = secret_api()
    api.writes_between = apply_manifests.ATTEMPTS
    with pytest.raises(Conflict):
        delete_objects.delete(ActionContext(api), SECRET)


MIXED_WEBHOOKS = configuration(UPSTREAM, (HOOK, "snapshots"), (ALIAS, "pods"))["webhooks"]
# What another client makes of an object of upstream between the read and the delete, and the reason to refuse the delete.
MADE_FOREIGN: dict[str, tuple[Reference, Object, Object, str]] = {
    "a configuration": (
        Reference("ValidatingWebhookConfiguration", UPSTREAM), configuration(UPSTREAM, (HOOK, "snapshots")),
        {"webhooks": MIXED_WEBHOOKS}, "h1",
    ),
    "a Service": (
        Reference("Service", HOOK[1], HOOK[0]), service(HOOK, app="hook"), {"spec": {"type": "ExternalName"}}, "select",
    ),
    "a Deployment": (
        Reference("Deployment", "snapshot-validation-deployment", "hooks"),
        objects.workload("hooks", "snapshot-validation-deployment", IMAGE),
        {"spec": objects.workload("x", "x", "acme/volume-snapshot-validation-webhook:v1")["spec"]}, "(acme/volume-snapshot-validation-webhook:v1",
    ),
    "a binding": (
        Reference("ClusterRoleBinding", "snapshot-webhook-role"), {"metadata": {"name": "snapshot-webhook-role"}},
        {"subjects": [{"kind": "User", "name": "ada"}]}, "ada",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("place", "obj", "added", "name"), MADE_FOREIGN.values(), ids=list(MADE_FOREIGN))
def test_an_object_is_judged_again_after_a_conflict(
    place: Reference, obj: Object, added: Object, name: str
) -> None:
    live = {**copy.deepcopy(obj), "metadata": {**obj["metadata"], "uid": "u", "resourceVersion": "1"}}
    lists: Object = {f"{APPS}/namespaces/hooks/{what}": [] for what in (*pod_specs.WORKLOADS, "replicasets")}
    api: Any = OwnershipApi({place.path: live, CONFIGURATIONS: [], MUTATING: [], **lists})
    api.writes_between, api.added = 1, added
    with fails("owned-by-another", name):
        delete_objects.delete(ActionContext(api), place)
    assert api.answers[place.path] is not None


@pytest.mark.parametrize("registry", ["mirror.example.com/a", "registry.k8s.io/sig-storage"])
def test_a_write_judges_images_by_the_registry_of_the_task(registry: str) -> None:
    """The Deployment has another name than upstream's, so only its image proves that it is the webhook."""
    place = Reference("ValidatingWebhookConfiguration", UPSTREAM)
    live = configuration(UPSTREAM, (ALIAS, "snapshots"))
    live |= {"apiVersion": "admissionregistration.k8s.io/v1", "kind": place.kind}
    live["metadata"]["resourceVersion"] = "1"
    mirrored = objects.workload("hooks", "hook", "mirror.example.com/a/snapshot-validation-webhook:v8.1.0")
    lists: Object = {f"{APPS}/namespaces/hooks/{what}": [] for what in (*pod_specs.WORKLOADS, "replicasets")}
    lists[f"{APPS}/namespaces/hooks/deployments"] = [mirrored]
    lists["/api/v1/namespaces/hooks/services/alias"] = service(ALIAS, app="hook")
    api: Any = OwnershipApi({place.path: live, **lists})
    api.patch = lambda *_given, **_more: live
    images = ReleaseSettings(registry=registry)
    expected = nullcontext() if "mirror" in registry else fails("owned-by-another", UPSTREAM)
    api.apply = api.replace = lambda *_given, **_more: live
    with expected:
        patches.patch_object(ActionContext(api, settings=images), place, lambda _live: [{"op": "add"}])
    expected = nullcontext() if "mirror" in registry else fails("owned-by-another", UPSTREAM)
    with expected:
        apply_manifests.preview(api, [live], registry=registry)


def test_a_service_that_another_configuration_calls_is_not_deleted() -> None:
    place = Reference("Service", HOOK[1], HOOK[0])
    live = service(HOOK, app="hook")
    live["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    lists: Object = {f"{APPS}/namespaces/hooks/{what}": [] for what in (*pod_specs.WORKLOADS, "replicasets")}
    api: Any = OwnershipApi(
        {place.path: live, CONFIGURATIONS: [configuration("x", (HOOK, "pods"))], MUTATING: [], **lists}
    )
    with fails("owned-by-another", "ValidatingWebhookConfiguration"):
        delete_objects.delete(ActionContext(api), place)


def test_a_deleted_object_is_in_the_result_without_a_key() -> None:
    outcome = delete_objects.delete(ActionContext(secret_api()), SECRET)  # type: ignore[arg-type]
    assert "eA==" not in repr(outcome)
    assert actions.report(outcome)["deleted"]["metadata"]["name"] == SECRET.name
    assert actions.report(outcome)["deleted"]["data"] == {}


# Images and names of workloads, the mirror that image_registry names, and True if the workload is proven to be upstream's.
UPSTREAMS = "snapshot-validation-deployment"
WORKLOADS_TABLE = [
    ("hook", IMAGE, "", True),
    ("hook", "k8s.gcr.io/sig-storage/snapshot-validation-webhook:v4.2.0", "", True),
    ("hook", "mirror.example.com:5000/a/snapshot-validation-webhook@sha256:0", "", False),
    ("hook", "mirror.example.com:5000/a/snapshot-validation-webhook@sha256:0", "mirror.example.com:5000/a/", True),
    ("hook", "mirror.example.com:5000/a/b/snapshot-validation-webhook:v8.1.0", "mirror.example.com:5000/a", False),
    ("hook", "registry.k8s.io/sig-storage/volume-snapshot-validation-webhook:v8.1.0", "", False),
    (UPSTREAMS, "mirror.example.com/snapshot-validation-webhook:v8.1.0", "", True),
    (UPSTREAMS, "rancher/mirrored-sig-storage-snapshot-validation-webhook:v8.1.0", "", True),
    (UPSTREAMS, "acme/volume-snapshot-validation-webhook:v8.1.0", "", False),
    (UPSTREAMS, "registry.example.com/snapshot-controller:v8.1.0", "", False),
    (f"{UPSTREAMS}-acme", "acme/snapshot-validation-webhook:v8.1.0", "", False),
    ("snapshot-controller", "acme/volume-snapshot-controller:v8.1.0", "", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "image", "registry", "is_own"), WORKLOADS_TABLE)
def test_workloads_by_their_names_and_images(name: str, image: str, registry: str, is_own: bool) -> None:
    found = pod_specs.own_program(
        objects.workload("hooks", name, image), registry or "registry.k8s.io/sig-storage"
    )
    assert bool(found) is is_own


def test_each_container_of_an_own_workload_has_an_own_image() -> None:
    for name, is_own in ((UPSTREAMS, True), ("hook", False)):
        workload = copy.deepcopy(objects.workload("hooks", name, IMAGE))
        acme = {"name": "b", "image": "acme/snapshot-validation-webhook:v8.1.0"}
        workload["spec"]["template"]["spec"]["containers"].append(acme)
        assert bool(pod_specs.own_program(workload)) is is_own, name


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
def test_no_step_deletes_a_workload_with_other_containers(kind: str) -> None:
    """The step refuses it even if an older or edited plan names it."""
    driver = copy.deepcopy(objects.workload("csi", "driver", "x/snapshot-controller:v8.1.0"))
    driver["spec"]["template"]["spec"]["containers"].append({"name": "csi", "image": "x/csi:v1"})
    place = Reference(kind, "driver", "csi")
    given = replace(context(), client=OwnershipApi({place.path: driver}))  # type: ignore[arg-type]
    with fails("owned-by-another", "(x/csi:v1)"):
        delete_objects.delete_planned(given, DeleteObjects([DeletedObject(kind, "csi", "driver")]))
