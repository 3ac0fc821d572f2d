# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Conflict,
    Forbidden,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_patch,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import UntrustedLeafError
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.certificate_facts import (
    CertificateFacts,
)

from tests.support.accepted import accepting
from tests.support.failures import fails
from tests.unit.plugins.module_utils._webhook.objects import (
    api_service,
    client_config,
    configuration,
    definition,
    encoded,
)
from tests.unit.plugins.module_utils._webhook.pki import NOW, authority, leaf, private_key

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

A, B = authority("ca-a"), authority("ca-b")
VALIDATING = Target("ValidatingWebhookConfiguration", "hooks")
LOCK = {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
OWNED: dict[str, Any] = {"annotations": {"cert-manager.io/inject-ca-from": "ns/cert"}}


def plan(
    target: Target, obj: dict[str, Any], wanted: str | None = A.pem, **arguments: Any
) -> bundle_patch.TargetChange:
    return bundle_patch.plan(target, obj, wanted, now=NOW, **arguments)


def test_only_what_changes_is_in_the_patch() -> None:
    obj = configuration(("a.x.io", client_config(A.pem)), ("b.x.io", client_config(B.pem)))
    change = plan(VALIDATING, obj)
    assert change.path == "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hooks"
    assert change.operations == [
        LOCK,
        {"op": "test", "path": "/webhooks/1/name", "value": "b.x.io"},
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": encoded(B.pem + A.pem)},
    ]


@pytest.mark.parametrize(
    ("target", "obj", "pointer"),
    [
        (
            Target("CustomResourceDefinition", "things.example.com"),
            definition(client_config()),
            "/spec/conversion/webhook/clientConfig/caBundle",
        ),
        (Target("APIService", "v1.example.com"), api_service(**client_config()), "/spec/caBundle"),
    ],
)
def test_a_kind_with_one_place_needs_no_guard(target: Target, obj: dict[str, Any], pointer: str) -> None:
    assert plan(target, obj).operations == [LOCK, {"op": "add", "path": pointer, "value": encoded(A.pem)}]


@pytest.mark.parametrize(
    ("target", "obj", "pointer"),
    [
        (VALIDATING, configuration(("a.x.io", {**client_config(), "trustBundleRef": {"name": "b"}})), "/webhooks/0/clientConfig"),
        (
            Target("CustomResourceDefinition", "things.example.com"),
            definition({**client_config(), "trustBundleRef": {"name": "b"}}),
            "/spec/conversion/webhook/clientConfig",
        ),
        (
            Target("APIService", "v1.example.com"),
            api_service(**client_config(), group="example.com", version="v1", trustBundleRef={"name": "b"}),
            "/spec",
        ),
    ],
)  # fmt: skip
def test_fields_of_a_newer_api_are_left_and_named(target: Target, obj: dict[str, Any], pointer: str) -> None:
    change = plan(target, obj)
    assert [operation["path"] for operation in change.operations if operation["op"] == "add"] == [
        f"{pointer}/caBundle"
    ]
    assert [bundle.config.unknown for bundle in change.bundles] == [("trustBundleRef",)]


def test_nothing_to_do_is_no_patch() -> None:
    change = plan(VALIDATING, configuration(("a.x.io", client_config(A.pem)), **OWNED))
    assert (change.changed, change.operations) == (False, [])


def test_the_last_certificate_takes_the_key_with_it() -> None:
    change = plan(VALIDATING, configuration(("a.x.io", client_config(A.pem))), mode="absent")
    assert change.operations[-1] == {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}


def test_a_placeholder_is_replaced() -> None:
    change = plan(VALIDATING, configuration(("a.x.io", client_config("\n"))))
    assert change.operations[-1]["value"] == encoded(A.pem)


@pytest.mark.parametrize("wanted", [A.pem, None])
def test_an_object_of_another_writer_is_refused(wanted: str | None) -> None:
    obj = configuration(("a.x.io", client_config()), **OWNED)
    with fails("owned-by-another", "hooks", "cert-manager", "cert-manager.io/inject-ca-from", "accept:"):
        plan(VALIDATING, obj, wanted)
    assert plan(VALIDATING, obj, wanted, consent=accepting("cert-manager")).changed


@pytest.mark.parametrize("mode", ["add", "append"])
def test_a_mode_that_removes_nothing_needs_only_the_consent(mode: str) -> None:
    obj = configuration(("a.x.io", client_config(B.pem)), **OWNED)
    assert plan(VALIDATING, obj, mode=mode, consent=accepting("cert-manager")).changed


@pytest.mark.parametrize("mode", ["exactly", "absent"])
def test_what_a_live_writer_wrote_stays_but_for_our_own_additions(mode: str) -> None:
    obj = configuration(("a.x.io", client_config(A.pem + B.pem)), **OWNED)
    with fails("managed-bundle", mode):
        plan(VALIDATING, obj, mode=mode, consent=accepting("cert-manager"))
    with fails("owned-by-another", "accept:"):
        plan(VALIDATING, obj, mode=mode, recorded=True)
    assert plan(VALIDATING, obj, mode=mode, recorded=True, consent=accepting("cert-manager")).changed


def test_each_bundle_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the reads instead of the time. Reading a bundle again for each of its certificates is quadratic."""
    held = "".join(authority(f"ca-{number}").pem for number in range(20))
    [change] = plan(VALIDATING, configuration(("a.x.io", client_config(held))), mode="exactly").bundles
    read: list[str] = []
    read_certificates = bundle_content.certificates

    def counted(bundle: str) -> tuple[CertificateFacts, ...]:
        read.append(bundle)
        return read_certificates(bundle)

    monkeypatch.setattr(bundle_content, "certificates", counted)
    assert len(change.removed) == 20
    assert sorted(read) == sorted([held, A.pem])


GOOD = leaf(A, "hook.kube-system.svc")


@pytest.mark.parametrize(
    ("held", "wanted", "mode", "certificate"),
    [
        ("", A.pem, "add", GOOD),
        (A.pem, A.pem, "add", GOOD),
        (B.pem, A.pem, "add", GOOD),
        (A.pem, B.pem, "add", GOOD),
        ("", GOOD, "exactly", GOOD),
        (A.pem + B.pem, B.pem, "absent", GOOD),
    ],
)
def test_a_leaf_that_verifies_passes(held: str, wanted: str, mode: str, certificate: str) -> None:
    obj = configuration(("a.x.io", client_config(held)))
    plan(VALIDATING, obj, wanted, mode=mode, leaf_pem=certificate)


@pytest.mark.parametrize(
    ("held", "wanted", "mode", "certificate", "verdict"),
    [
        ("", B.pem, "add", GOOD, "ca-mismatch"),
        (B.pem, B.pem, "add", GOOD, "ca-mismatch"),
        (A.pem, B.pem, "exactly", GOOD, "ca-mismatch"),
        (A.pem + B.pem, A.pem, "absent", GOOD, "ca-mismatch"),
        (A.pem, A.pem, "absent", GOOD, "bundle-broken"),
        ("", A.pem, "add", leaf(A, "hook", "hook.kube-system"), "name-mismatch"),
        ("", A.pem, "add", leaf(A, "hook.kube-system.svc", expires=NOW - timedelta(days=1)), "expired"),
    ],
)
def test_a_leaf_that_the_api_server_would_refuse_is_refused(
    held: str, wanted: str, mode: str, certificate: str, verdict: str
) -> None:
    obj = configuration(("a.x.io", client_config(held)))
    with fails("certificate-untrusted", "hooks", "a.x.io", "hook.kube-system.svc") as caught:
        plan(VALIDATING, obj, wanted, mode=mode, leaf_pem=certificate)
    assert isinstance(caught.value, UntrustedLeafError)
    assert caught.value.verdict == verdict
    assert caught.value.remedy


def test_the_name_is_that_of_each_webhook() -> None:
    elsewhere = client_config(service=None, url="https://hook.example.com/x")
    obj = configuration(("a.x.io", client_config()), ("b.x.io", elsewhere))
    with fails("certificate-untrusted", "b.x.io", "hook.example.com"):
        plan(VALIDATING, obj, leaf_pem=GOOD)
    plan(VALIDATING, obj, leaf_pem=GOOD, service=("kube-system", "hook"))
    plan(VALIDATING, obj, leaf_pem=leaf(A, "hook.kube-system.svc", "hook.example.com"))


@pytest.mark.parametrize(
    ("text", "code"), [(GOOD + private_key(), "contains-private-key"), ("", "bundle-broken")]
)
def test_a_text_without_a_certificate_is_refused(text: str, code: str) -> None:
    with fails(code) as caught:
        bundle_patch.check_leaf(text)
    assert "-----" not in str(caught.value)


def test_report_and_diff_hold_meaning_and_no_pem() -> None:
    changes = [plan(VALIDATING, configuration(("a.x.io", client_config(B.pem))))]
    assert bundle_patch.report(changes[0]) == {
        "kind": "ValidatingWebhookConfiguration",
        "name": "hooks",
        "changed": True,
        "webhooks": [
            {"name": "a.x.io", "before": [B.fingerprint], "after": [B.fingerprint, A.fingerprint]},
        ],
    }
    line = "CN=ca-b until 2027-11-25T12:00:00Z, SHA-256 " + B.fingerprint
    diff = bundle_patch.diff(changes)
    assert diff["before"] == {"ValidatingWebhookConfiguration hooks": {"a.x.io": [line]}}
    assert diff["after"]["ValidatingWebhookConfiguration hooks"]["a.x.io"][0] == line
    assert "BEGIN" not in json.dumps(diff)


def test_a_bundle_that_is_not_known_yet_is_a_change() -> None:
    change = plan(VALIDATING, configuration(("a.x.io", client_config(A.pem))), None, leaf_pem=GOOD)
    assert change.changed
    assert bundle_patch.report(change)["webhooks"] == [
        {"name": "a.x.io", "before": [A.fingerprint], "after": None}
    ]


class TargetServer:
    """A client of an object that other clients write. Each answer is an object to read or an error to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, Any]] = []

    def now(self) -> datetime:
        return NOW

    def earlier(self) -> datetime:
        return self.now()

    def find(self, path: str) -> Any:
        return self._next("find", None)

    def patch(self, path: str, operations: list[dict[str, Any]], *, dry_run: bool) -> Any:
        return self._next("patch", (operations[0]["value"], dry_run))

    def _next(self, verb: str, detail: Any) -> Any:
        self.calls.append((verb, detail))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def versioned(version: str, held: str = "") -> dict[str, Any]:
    return configuration(("a.x.io", client_config(held)), resourceVersion=version)


def write(server: TargetServer, *, check_mode: bool = False) -> bundle_patch.TargetChange:
    client = cast("Client", server)
    change = plan(VALIDATING, versioned("7"))
    return bundle_patch.write(client, change, lambda fresh: plan(VALIDATING, fresh), check_mode=check_mode)


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_undisturbed_write_is_one_request(check_mode: bool) -> None:
    server = TargetServer(versioned("8", A.pem))
    assert write(server, check_mode=check_mode).changed
    assert server.calls == [("patch", ("7", check_mode))]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("held", ["", B.pem])
def test_a_bundle_that_a_policy_changes_during_the_write_is_an_error(held: str, check_mode: bool) -> None:
    server = TargetServer(versioned("8", held))
    with fails("object-refused", "hooks", "policy"):
        write(server, check_mode=check_mode)


def test_a_bundle_that_a_policy_only_sorts_is_as_it_was_written() -> None:
    server = TargetServer(versioned("8", A.pem + B.pem))
    change = plan(VALIDATING, versioned("7", B.pem))
    assert bundle_patch.write(cast("Client", server), change, lambda _fresh: change) is change


@pytest.mark.parametrize("error", [Conflict("moved"), UnprocessableObject("a test operation failed")])
def test_an_object_that_moved_is_read_and_decided_again(error: Exception) -> None:
    server = TargetServer(error, versioned("8", B.pem), versioned("9", B.pem + A.pem))
    change = write(server)
    assert server.calls == [("patch", ("7", False)), ("find", None), ("patch", ("8", False))]
    assert bundle_patch.report(change)["webhooks"][0]["after"] == [B.fingerprint, A.fingerprint]


def test_a_write_whose_answer_was_lost_is_a_change() -> None:
    server = TargetServer(Conflict("our own write was there"), versioned("8", A.pem))
    assert write(server).changed
    assert server.calls == [("patch", ("7", False)), ("find", None)]


def test_a_refused_bundle_is_not_tried_again() -> None:
    server = TargetServer(UnprocessableObject("caBundle: Invalid value"), versioned("7"))
    with fails("object-refused"):
        write(server)


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("kind", [Forbidden, UnprocessableObject])
def test_an_error_names_the_objects_that_had_been_written(kind: type[Exception], check_mode: bool) -> None:
    """The class of the error decides what the result says about permissions, and what callers do."""
    second = Target(VALIDATING.kind, "second")
    server = TargetServer(versioned("7", A.pem), kind("no"), versioned("7"))
    changes = [plan(target, versioned("7")) for target in (VALIDATING, second)]
    with pytest.raises(kind) as caught:
        bundle_patch.write_all(cast("Client", server), changes, plan, check_mode=check_mode)
    assert (str(VALIDATING) in str(caught.value)) is not check_mode
    server = TargetServer(kind("no"), versioned("7"))
    with pytest.raises(kind) as caught:
        bundle_patch.write_all(cast("Client", server), changes, plan, check_mode=check_mode)
    assert str(VALIDATING) not in str(caught.value)


def test_an_object_that_never_rests_ends_the_attempts() -> None:
    rounds = [answer for version in range(8, 20) for answer in (Conflict("moved"), versioned(str(version)))]
    server = TargetServer(*rounds)
    with fails("conflict", "hooks"):
        write(server)
    assert len(server.calls) == 2 * bundle_patch.ATTEMPTS


def test_what_replan_finds_ends_the_write() -> None:
    obj = configuration(("other.x.io", client_config()), resourceVersion="8")
    target = Target(VALIDATING.kind, "hooks", ("a.x.io",))
    server = TargetServer(Conflict("moved"), obj)
    change = plan(target, versioned("7"))
    with fails("invalid-target", "hooks", "a.x.io", "other.x.io"):
        bundle_patch.write(cast("Client", server), change, lambda fresh: plan(target, fresh))


def test_an_absent_object_is_named() -> None:
    with fails("invalid-target", "ValidatingWebhookConfiguration", "hooks"):
        bundle_targets.read(cast("Client", TargetServer(None)), VALIDATING)


def test_an_object_that_may_not_be_read_names_the_rights_to_read_and_write_it() -> None:
    with fails("missing-permissions", "hooks", "get", "patch"):
        bundle_targets.read(cast("Client", TargetServer(Forbidden("403"))), VALIDATING)
