# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run each action of an upgrade on a real control plane: over objects of kubectl, repeated, in check mode,
refused.
"""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference

from tests.support import clusters
from tests.support.clusters import build, pki
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_rig import CRDS, SnapshotRig, difference, release_server
from tests.support.waiting import wait_for
from tests.support.webhooks import https_webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAIN = ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.4.0", "8.7.0")
KINDS = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")
SNAPSHOT_CRDS = tuple(f"{kind}.snapshot.storage.k8s.io" for kind in KINDS)
GROUP = "groupsnapshot.storage.k8s.io"
GROUP_KINDS = ("volumegroupsnapshotclasses", "volumegroupsnapshotcontents", "volumegroupsnapshots")
GROUP_CRDS = tuple(f"{kind}.{GROUP}" for kind in GROUP_KINDS)
Object = dict[str, Any]

pytestmark = pytest.mark.full  # six releases one after the other on two clusters need minutes


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SnapshotRig, SnapshotRig]]:
    """An old cluster, and one on which each release is installed from scratch."""
    cache = tmp_path_factory.mktemp("cache")
    with (
        release_server(*CHAIN, "8.2.0") as source,
        clusters.running({"old": "onprem", "fresh": "onprem"}) as fleet,
    ):
        yield SnapshotRig(fleet["old"], source, cache), SnapshotRig(fleet["fresh"], source, cache)


def test_definitions_of_every_release_over_those_of_kubectl(sites: tuple[SnapshotRig, SnapshotRig]) -> None:
    """Each release from 4.2.1 to 8.7.0 is as after a fresh installation, and objects are unchanged."""
    old, fresh = sites
    _deploy, directory = build.snapshot_manifests("4.2.1")
    lab.apply_crds(old.cluster, directory, groups=False)
    kept = _snapshots(old)
    for release in CHAIN:
        result = old.done("apply", release=release, parts=["crds"])
        assert fresh.run("apply", release=release, parts=["crds"])["changed"]
        for name in SNAPSHOT_CRDS:
            assert difference(fresh.crd(name), old.crd(name)) == [], (release, name)
            fresh.cluster.api("DELETE", f"{CRDS}/{name}")
        assert kept == {path: _essence(old.cluster.api("GET", path)) for path in kept}, release
        assert result["changed"] == (release not in ("8.4.0", "8.7.0"))  # the files are the same since 8.0
    old.done("migrate_storage", crd=SNAPSHOT_CRDS[2], version="v1")
    assert old.crd(SNAPSHOT_CRDS[2])["status"]["storedVersions"] == ["v1"]
    assert old.writes()


def _snapshots(rig: SnapshotRig) -> dict[str, Object]:
    """Create a class, a content and two snapshots, one of them through v1beta1.

    Return the fields that must stay.
    """
    api, root = rig.cluster.api, "/apis/snapshot.storage.k8s.io"
    paths = {
        f"{root}/v1/volumesnapshotclasses": lab.default_class("kept"),
        f"{root}/v1/volumesnapshotcontents": lab.content("kept"),
        f"{root}/v1/namespaces/default/volumesnapshots": lab.snapshot("kept"),
        f"{root}/v1beta1/namespaces/default/volumesnapshots": lab.snapshot("kept-beta", version="v1beta1"),
    }
    made = {path: api("POST", path, body) for path, body in paths.items()}
    return {
        f"{path.replace('v1beta1', 'v1')}/{obj['metadata']['name']}": _essence(obj)
        for path, obj in made.items()
    }


def _essence(obj: Object) -> Object:
    return {"uid": obj["metadata"]["uid"], "spec": obj.get("spec"), "driver": obj.get("driver")}


# Group snapshots, from v1alpha1 to v1


def test_group_snapshots_through_every_version(sites: tuple[SnapshotRig, SnapshotRig]) -> None:
    """Objects of v1alpha1 are stored at v1beta1, and through a conversion webhook at v1beta2, without loss."""
    old, fresh = sites
    kept = _groups_of_7(old)
    old.done("apply", release="8.1.0", parts=["group_crds"])
    naive = old.run("apply", release="8.2.0", parts=["group_crds"])
    assert naive["code"] == "object-refused"
    assert "status.storedVersions[0]" in naive["msg"] and GROUP_CRDS[0] in naive["msg"]
    old.done("apply", release="8.2.0", parts=["group_crds"], keep_unserved=["v1alpha1"])
    _one_that_refuses(old)
    for name in GROUP_CRDS:
        old.done("migrate_storage", crd=name, version="v1beta1")
    old.done("apply", release="8.2.0", parts=["group_crds"])
    _give_status(old)

    with _conversion(old, fresh) as webhook:
        for rig in sites:
            rig.run("apply", release="8.2.0", parts=["group_crds"])
            rig.done("conversion_webhook", crd=GROUP_CRDS[1], **webhook)
            rig.done("apply", release="8.4.0", parts=["group_crds"])
        _equal(sites, GROUP_CRDS)
        assert (
            _contents(old, "v1beta2")["status"]["volumeSnapshotInfoList"] == HANDLES
        )  # the API server called the webhook
        for name in GROUP_CRDS:
            old.done("migrate_storage", crd=name, version="v1beta2")
    old.done("conversion_none", crd=GROUP_CRDS[1])
    old.done("apply", release="8.7.0", parts=["group_crds"])
    for name in GROUP_CRDS:
        fresh.cluster.api("DELETE", f"{CRDS}/{name}")
    fresh.run("apply", release="8.7.0", parts=["group_crds"])
    _equal(sites, GROUP_CRDS)
    assert _contents(old, "v1")["status"]["volumeSnapshotInfoList"] == HANDLES
    assert kept == {path: _essence(old.cluster.api("GET", path.replace("v1alpha1", "v1"))) for path in kept}
    assert all(old.crd(name)["status"]["storedVersions"] == ["v1beta2"] for name in GROUP_CRDS)


HANDLES = [{"volumeHandle": "volume-1", "snapshotHandle": "snapshot-1"}]


def _groups_of_7(rig: SnapshotRig) -> dict[str, Object]:
    """Create the definitions of 7.0.2 as its README says, and an object of each kind."""
    _deploy, directory = build.snapshot_manifests("7.0.2")
    for kind in GROUP_KINDS:
        lab.kubectl(rig.cluster, "create", "-f", str(directory / f"{GROUP}_{kind}.yaml"))
    lab.kubectl(rig.cluster, "wait", "--for=condition=Established", *(f"crd/{name}" for name in GROUP_CRDS))
    root = f"/apis/{GROUP}/v1alpha1"
    group_class = {"driver": "test.certflow.invalid", "deletionPolicy": "Delete"}
    content: Object = {
        **group_class,
        "source": {"volumeHandles": ["volume-1"]},
        "volumeGroupSnapshotRef": {"name": "kept", "namespace": "default"},
    }
    bodies: dict[str, tuple[str, Object]] = {
        f"{root}/{GROUP_KINDS[0]}": ("VolumeGroupSnapshotClass", group_class),
        f"{root}/{GROUP_KINDS[1]}": ("VolumeGroupSnapshotContent", {"spec": content}),
        f"{root}/namespaces/default/{GROUP_KINDS[2]}": (
            "VolumeGroupSnapshot",
            {"spec": {"source": {"selector": {"matchLabels": {"app": "db"}}}}},
        ),
    }
    made = {}
    for path, (kind, body) in bodies.items():
        obj = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": "kept"}, **body}
        made[f"{path}/kept"] = _essence(rig.cluster.api("POST", path, obj))
    return made


def _one_that_refuses(rig: SnapshotRig) -> None:
    """Let a policy refuse writes of one object.

    The migration keeps the stored version, objects stay readable, and a later run completes.
    """
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": [GROUP_KINDS[2]],
    }
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [
            {"expression": "object.metadata.name != 'kept'", "message": "this one is not to be written"}
        ],
    }
    binding = {"policyName": "stubborn", "validationActions": ["Deny"]}
    api, metadata = rig.cluster.api, {"name": "stubborn"}
    api("POST", policies, {"metadata": metadata, "spec": policy})
    api("POST", policies.replace("policies", "policybindings"), {"metadata": metadata, "spec": binding})
    path = f"/apis/{GROUP}/v1beta1/namespaces/default/{GROUP_KINDS[2]}/kept"
    wait_for(lambda: "not to be written" in _refusal(rig, path), seconds=30)
    stored = rig.crd(GROUP_CRDS[2])["status"]["storedVersions"]
    for check_mode in (True, False):
        result = rig.run("migrate_storage", check_mode=check_mode, crd=GROUP_CRDS[2], version="v1beta1")
        assert (result["failed"], result["code"]) == (True, "rollout-failed"), result
        assert GROUP_CRDS[2] in result["cause"] and "default/kept: " in result["cause"], result
    assert rig.crd(GROUP_CRDS[2])["status"]["storedVersions"] == stored == ["v1alpha1", "v1beta1"]
    assert api("GET", path)["metadata"]["name"] == "kept"
    api("DELETE", f"{policies.replace('policies', 'policybindings')}/stubborn")
    api("DELETE", f"{policies}/stubborn")
    wait_for(lambda: not _refusal(rig, path), seconds=30)


def _refusal(rig: SnapshotRig, path: str) -> str:
    """Return the refusal of an update by dry run, "" if it is accepted."""
    patch = {"metadata": {"annotations": {"tried": "1"}}}
    try:
        rig.cluster.api("PATCH", f"{path}?dryRun=All", patch, "application/merge-patch+json")
    except clusters.AdminApiError as error:
        return error.message
    return ""


def _give_status(rig: SnapshotRig) -> None:
    content = _contents(rig, "v1beta1")
    content["status"] = {"readyToUse": True, "volumeSnapshotHandlePairList": HANDLES}
    rig.cluster.api("PUT", f"/apis/{GROUP}/v1beta1/{GROUP_KINDS[1]}/kept/status", content)


def _contents(rig: SnapshotRig, version: str) -> Object:
    return rig.cluster.api("GET", f"/apis/{GROUP}/{version}/{GROUP_KINDS[1]}/kept")


@contextlib.contextmanager
def _conversion(*both: SnapshotRig) -> Iterator[Object]:
    """Serve a conversion webhook that renames fields as upstream's does.

    Yield the parameters that name it.
    """
    ca = pki.make_ca("conversion")
    server = https_webhook.WebhookServer(_converted)
    server.present(pki.issue(ca, "conversion", names=["conversion.default.svc"]))
    server.serve()
    data = {"ca.crt": base64.b64encode(ca.certificate_pem).decode()}
    for rig in both:
        spec = {"type": "ExternalName", "externalName": "localhost"}
        core = "/api/v1/namespaces/default"
        rig.cluster.api("POST", f"{core}/services", {"metadata": {"name": "conversion"}, "spec": spec})
        rig.cluster.api("POST", f"{core}/secrets", {"metadata": {"name": "conversion"}, "data": data})
    where = {"namespace": "default", "name": "conversion"}
    yield {"service": {**where, "path": "/convert", "port": server.port}, "secret": where}
    server.close()


def _converted(review: Object) -> https_webhook.Reply:
    names = ("volumeSnapshotHandlePairList", "volumeSnapshotInfoList")
    old, new = names if review["request"]["desiredAPIVersion"].endswith("v1beta2") else names[::-1]
    status, answer = https_webhook.convert(review)
    assert isinstance(answer, dict)
    for obj in answer["response"]["convertedObjects"]:
        if old in obj.get("status", {}):
            obj["status"][new] = obj["status"].pop(old)
    return status, answer


def _equal(sites: tuple[SnapshotRig, SnapshotRig], names: tuple[str, ...]) -> None:
    old, fresh = sites
    for name in names:
        assert difference(fresh.crd(name), old.crd(name)) == [], name


# The ways in which kubectl may have written 8.4's definition with its conversion and a caBundle.
STANZAS = {
    "client-side apply": ("apply", "-f-"),
    "create": ("create", "-f-"),
    "server-side apply": ("apply", "--server-side", "-f-"),
}


@pytest.mark.parametrize("way", STANZAS)
def test_a_conversion_is_removed_from_any_writers_definition(
    sites: tuple[SnapshotRig, SnapshotRig], way: str
) -> None:
    _old, fresh = sites
    name = GROUP_CRDS[1]
    lab.delete(fresh.cluster, f"crd/{name}")
    _deploy, directory = build.snapshot_manifests("8.4.0")
    text = (directory / f"{GROUP}_{GROUP_KINDS[1]}.yaml").read_text()
    lab.kubectl(fresh.cluster, *STANZAS[way], stdin=text)
    bundle = base64.b64encode(fresh.cluster.ca_pem.encode()).decode()
    patch = {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}}
    lab.kubectl(fresh.cluster, "patch", "crd", name, "-p", json.dumps(patch))
    fresh.run("apply", release="8.7.0", parts=["group_crds"])  # the apply alone keeps the conversion
    assert fresh.crd(name)["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] == bundle
    fresh.done("conversion_none", crd=name)
    fresh.run("apply", release="8.7.0", parts=["group_crds"])
    assert fresh.crd(name)["spec"]["conversion"] == {"strategy": "None"}
    lab.delete(fresh.cluster, f"crd/{name}")


# Deployments, Services and rules. Without a node their pods exist, but never run.


APPS, CORE = "/apis/apps/v1/namespaces/default", "/api/v1/namespaces/default"
DEPLOYMENT, SERVICE = "snapshot-validation-deployment", "snapshot-validation-service"
EVERYTHING = [
    "controller_rbac",
    "controller",
    "webhook_rbac",
    "webhook",
    "webhook_service",
    "webhook_configurations",
]


@pytest.fixture(scope="module")
def installed(sites: tuple[SnapshotRig, SnapshotRig]) -> SnapshotRig:
    """The old cluster with the manifests of 4.2.1, without the parts that need a node."""
    old, _fresh = sites
    deploy, _crds = build.snapshot_manifests("4.2.1")
    for name in (
        "snapshot-controller/rbac-snapshot-controller",
        "snapshot-controller/setup-snapshot-controller",
    ):
        lab.kubectl(old.cluster, "apply", "-f", str(deploy / f"{name}.yaml"))
    lab.kubectl(old.cluster, "apply", "-f", str(deploy / "webhook-example" / "webhook.yaml"))
    template = (deploy / "webhook-example" / "admission-configuration-template").read_text()
    bundle = base64.b64encode(old.cluster.ca_pem.encode()).decode()
    lab.kubectl(old.cluster, "apply", "-f-", stdin=template.replace("${CA_BUNDLE}", bundle))
    wait_for(lambda: len(_pods(old)) == 3)
    return old


def test_a_new_deployment_is_created_beside_orphaned_pods(
    installed: SnapshotRig,
) -> None:
    """From 4.2.1 to 6.2.2 the selector is the same, and the old pods do not drain."""
    before = _pods(installed)
    result = installed.done("orphan", namespace="default", name=DEPLOYMENT)
    assert {(place["kind"], place["change"]) for place in result["objects"]} == {
        ("ReplicaSet", "changed"), ("Pod", "changed"), ("Deployment", "deleted"),
    }  # fmt: skip
    live = {"app": "snapshot-validation"}
    service = {"namespace": "default", "name": SERVICE}
    old_pods = {**live, "certflow.kubernetes/detached": DEPLOYMENT}
    installed.done("switch_service", **service, selector=old_pods)
    step = {"release": "6.2.2", "namespace": "default", "secret": "snapshot-validation-tls"}
    installed.done("apply", **step, parts=["webhook_rbac", "webhook"])
    wait_for(lambda: len(_pods(installed)) == 6)
    (detached,) = [obj for obj in _sets(installed) if DEPLOYMENT in obj["metadata"]["labels"].values()]
    assert detached["spec"]["replicas"] == 3 and not detached["metadata"].get("ownerReferences")
    assert before <= _pods(installed)
    new_pods = {**live, "app.kubernetes.io/version": "6.2.2"}
    installed.done("switch_service", **service, selector=new_pods, target_port=8443)
    (port,) = installed.cluster.api("GET", f"{CORE}/services/{SERVICE}")["spec"]["ports"]
    assert port["targetPort"] == 8443
    replaced = {"kind": "ReplicaSet", "namespace": "default"}
    selector = f"certflow.kubernetes/detached={DEPLOYMENT}"
    installed.done("delete", objects=[{**replaced, "label_selector": selector}])
    assert not before & _pods(installed)


def test_an_interrupted_orphaning_is_completed(installed: SnapshotRig) -> None:
    """The run was killed after it deleted the Deployment and before it changed its ReplicaSets."""
    before = _pods(installed)
    lab.kubectl(installed.cluster, "delete", "deployment", DEPLOYMENT, "--cascade=orphan")
    result = installed.done("orphan", namespace="default", name=DEPLOYMENT)
    assert {place["kind"] for place in result["objects"]} == {"ReplicaSet", "Pod"}
    installed.done("apply", release="7.0.2", namespace="default", parts=["webhook_rbac", "webhook"])
    wait_for(lambda: len(_pods(installed, "app.kubernetes.io/name")) == 3)  # the selector of 7.0
    assert before <= _pods(installed)
    sets = [{"kind": "ReplicaSet", "namespace": "default", "label_selector": "certflow.kubernetes/detached"}]
    installed.done(
        "delete", objects=[*sets, {"kind": "Deployment", "namespace": "default", "name": DEPLOYMENT}]
    )
    assert not _pods(installed) and not _pods(installed, "app.kubernetes.io/name")


def test_everything_of_a_release_equals_a_fresh_installation(
    sites: tuple[SnapshotRig, SnapshotRig], installed: SnapshotRig
) -> None:
    """kubectl applied 4.2.1, and other clients added fields since."""
    _old, fresh = sites
    deploy, _crds = build.snapshot_manifests("4.2.1")
    lab.kubectl(installed.cluster, "apply", "-f", str(deploy / "webhook-example" / "webhook.yaml"))
    lab.kubectl(installed.cluster, "set", "env", f"deployment/{DEPLOYMENT}", "OLD=1")
    patch = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    lab.kubectl(installed.cluster, "patch", "deployment", DEPLOYMENT, "-p", json.dumps(patch))
    options: Object = {
        "controller": {
            "metadata": {"labels": {"team": "storage"}},
            "spec": {"replicas": 3, "minReadySeconds": 3},
        },
        "webhook": {
            "spec": {
                "template": {
                    "spec": {
                        "imagePullSecrets": [{"name": "mirror"}],
                        "tolerations": [{"operator": "Exists"}],
                        "containers": [{"resources": {"requests": {"cpu": "10m"}}}],
                    }
                }
            }
        },
        "digests": {"snapshot-controller:v6.2.2": f"sha256:{'0' * 64}"},
    }
    step: Object = {"release": "6.2.2", "parts": EVERYTHING, "secret": "new-tls", "options": options}
    result = installed.done("apply", **step, namespace="default")
    assert fresh.run("apply", **step, namespace="default")["changed"]
    for target in result["objects"]:
        place = Reference(target["kind"], target["name"], target["namespace"]).path
        found, wanted = (rig.cluster.api("GET", place) for rig in (installed, fresh))
        for obj in (found, wanted):
            obj.get("spec", {}).pop("clusterIP", None), obj.get("spec", {}).pop("clusterIPs", None)
        assert difference(wanted, found) == [], place
    (webhook,) = installed.cluster.api("GET", f"{lab.CONFIGURATIONS}/{lab.CONFIGURATION}")["webhooks"]
    assert webhook["clientConfig"]["caBundle"]


def test_rules_and_policies_of_a_webhook(installed: SnapshotRig) -> None:
    rules = [
        {
            "apiGroups": ["snapshot.storage.k8s.io"],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["volumesnapshotclasses"],
            "scope": "*",
        }
    ]
    path = f"{lab.CONFIGURATIONS}/{lab.CONFIGURATION}"
    (before,) = installed.cluster.api("GET", path)["webhooks"]
    installed.done("narrow_rules", name=lab.CONFIGURATION, rules={lab.CONFIGURATION: rules})
    installed.done("failure_policy", names=[lab.CONFIGURATION], policy="Fail")
    (after,) = installed.cluster.api("GET", path)["webhooks"]
    assert after == {**before, "rules": rules, "failurePolicy": "Fail"}
    result = installed.run("narrow_rules", name=lab.CONFIGURATION, rules={"other": rules})
    assert (result["code"], "other" in result["cause"]) == ("invalid-step", True)
    bundle = before["clientConfig"]["caBundle"]
    assert installed.run(
        "reconnect", targets=[{"kind": "ValidatingWebhookConfiguration", "name": lab.CONFIGURATION}]
    )["changed"]
    (renewed,) = installed.cluster.api("GET", path)["webhooks"]
    assert renewed["clientConfig"]["caBundle"] != bundle
    kept = {lab.CONFIGURATION: "Fail"}
    installed.done(
        "apply", release="6.2.2", parts=["webhook_configurations"], namespace="default", failure_policies=kept
    )
    installed.cluster.api("PATCH", path, {"webhooks": []}, "application/merge-patch+json")
    installed.done("delete", objects=[{"kind": "ValidatingWebhookConfiguration", "name": lab.CONFIGURATION}])


@pytest.fixture(scope="module")
def defined(sites: tuple[SnapshotRig, SnapshotRig]) -> SnapshotRig:
    """The other cluster with all definitions of 8.7.0, and a class of group snapshots."""
    _old, fresh = sites
    fresh.run("apply", release="8.7.0", parts=["crds", "group_crds"])
    fresh.cluster.api(
        "POST",
        f"/apis/{GROUP}/v1/{GROUP_KINDS[0]}",
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "VolumeGroupSnapshotClass",
            "metadata": {"name": "there"},
            "driver": "test.certflow.invalid",
            "deletionPolicy": "Delete",
        },
    )
    return fresh


def _another_user(rig: SnapshotRig) -> SnapshotRig:
    return SnapshotRig(rig.cluster, rig.where["source"], Path(rig.where["cache_directory"]))


CRD = "CustomResourceDefinition"
# The action, its parameters, the code of the failure, and a name in its cause.
REFUSED: dict[str, tuple[str, Object, str, str]] = {
    "the definitions of snapshots are never deleted": (
        "delete", {"objects": [{"kind": CRD, "name": SNAPSHOT_CRDS[0]}]}, "invalid-step", SNAPSHOT_CRDS[0],
    ),
    "nor those of group snapshots while they have objects": (
        "delete", {"objects": [{"kind": CRD, "name": GROUP_CRDS[0]}]}, "invalid-step", GROUP_CRDS[0],
    ),
    "a kind that is not in the table": ("delete", {"objects": [{"kind": "Namespaces", "name": "default"}]}, "invalid-step", "Namespaces"),
    "a part that the release does not have": ("apply", {"release": "4.2.1", "parts": ["webhook_rbac"]}, "invalid-step", "4.2.1"),
    "a release that nobody knows": ("apply", {"release": "9.9.9", "parts": ["crds"]}, "source-unusable", "9.9.9"),
    "a version that is not served": ("migrate_storage", {"crd": SNAPSHOT_CRDS[0], "version": "v1beta1"}, "invalid-step", "v1beta1"),
    "a Service that is not there": (
        "switch_service", {"namespace": "default", "name": "nobody", "selector": {"a": "b"}}, "invalid-step", "default/nobody",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_action_writes_nothing(defined: SnapshotRig, case: str) -> None:
    rig = _another_user(defined)
    action, parameters, code, name = REFUSED[case]
    result = rig.run(action, **parameters)
    assert (result["failed"], result["code"]) == (True, code), result
    assert name in result["cause"]
    assert "\n" not in result["msg"]
    assert rig.writes() == []


def test_check_mode_writes_nothing(installed: SnapshotRig) -> None:
    """The audit log shows only dry runs, and the objects still exist. A real write could look like a dry run in the log."""
    rig = _another_user(installed)
    steps: tuple[tuple[str, Object], ...] = (
        (
            "apply",
            {"release": "8.7.0", "parts": ["crds", "controller_rbac", "controller"], "namespace": "new"},
        ),
        ("apply", {"release": "6.2.2", "parts": EVERYTHING, "namespace": "default"}),
        ("orphan", {"namespace": "kube-system", "name": "snapshot-controller"}),
        ("delete", {"objects": [{"kind": "Service", "namespace": "default", "name": SERVICE}]}),
    )
    for action, parameters in steps:
        result = rig.run(action, check_mode=True, **parameters)
        assert not result.get("failed"), result["msg"]
        assert result["changed"] and result["diff"], result
    assert rig.writes() == []
    assert {event["verb"] for event in rig.cluster.requests(user=rig.user)} >= {"patch", "delete"}
    for path in (f"{CORE}/services/{SERVICE}", lab.CONTROLLER):
        assert not rig.cluster.api("GET", path)["metadata"].get("deletionTimestamp")


def test_a_step_is_tried_as_if_the_steps_before_it_had_been_done(installed: SnapshotRig) -> None:
    """The Deployment of 4.2.1 has another selector than 8.7.0's: the plan orphans its pods first."""
    apply: tuple[str, Object] = ("apply", {"release": "8.7.0", "parts": ["controller_rbac", "controller"]})
    orphan = ("orphan", {"namespace": "kube-system", "name": "snapshot-controller"})
    later: tuple[str, Object] = (
        "migrate_storage",
        {"crd": GROUP_CRDS[1].replace("contents", "others"), "version": "v1beta2"},
    )
    refused = installed.foresee(apply)
    (problem,) = refused.problems
    assert (problem.step, "spec.selector" in problem.cause) == ("0", True), problem
    assert installed.run(apply[0], check_mode=True, **apply[1])["code"] == "object-refused"

    rig = _another_user(installed)
    foreseen = rig.foresee(orphan, apply, later)
    assert foreseen.problems == ()
    _orphaned, applied, migrated = foreseen.tried
    (deployment,) = [outcome for outcome in applied.outcomes if outcome.reference.kind == "Deployment"]
    assert "spec.selector" in deployment.note
    (change,) = [
        change for change in deployment.changes if change.path.endswith("[snapshot-controller].image")
    ]
    assert change.after == "registry.k8s.io/sig-storage/snapshot-controller:v8.7.0"
    assert (migrated.outcomes, migrated.is_due, later[1]["crd"] in migrated.note) == ((), True, True)
    assert rig.writes() == []

    for check_mode in (True, False):
        alone = installed.run(later[0], check_mode=check_mode, **later[1])
        assert (alone["failed"], alone["code"]) == (True, "invalid-step"), alone


def _pods(rig: SnapshotRig, label: str = "app") -> set[str]:
    """Return the UIDs of the webhook's pods with this label."""
    query = f"labelSelector={label}%3Dsnapshot-validation"
    items = rig.cluster.api("GET", f"{CORE}/pods?{query}")["items"]
    return {pod["metadata"]["uid"] for pod in items if not pod["metadata"].get("deletionTimestamp")}


def _sets(rig: SnapshotRig) -> list[Object]:
    found: list[Object] = rig.cluster.api("GET", f"{APPS}/replicasets")["items"]
    return found
