# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run webhook_probe on a real API server that calls real HTTPS servers.

No Service here has a cluster address to which an API server would connect. Services with an address lack the
port.
"""

from __future__ import annotations

import datetime
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.clusters import AdminApiError, pki
from tests.support.failures import absent, has_failed
from tests.support.playbooks import playbook
from tests.support.waiting import NOT_REACHED, wait_for
from tests.support.webhooks.bundle_rig import ca, pem
from tests.support.webhooks.https_webhook import allow, deny
from tests.support.webhooks.probe_rig import (
    API_SERVICES,
    HOOKS,
    MUTATING_HOOKS,
    VALIDATING,
    ProbeRig,
    config_map,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet

JSON_PATCH = "application/json-patch+json"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[ProbeRig]:
    rig = ProbeRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


# Proofs


@pytest.mark.quick
def test_a_proof_needs_answers_over_new_connections(rig: ProbeRig) -> None:
    target = rig.called_webhook()
    result = rig.probe(target)
    assert (result["verdict"], result["failure"], result["changed"]) == ("ok", None, False)
    (served,) = result["served"]
    assert served["verifies"]
    assert served["problem"] == ""
    assert served["certificate"]["names"] == [rig.server_name]
    assert served["endpoint"] == f"localhost:{rig.server.port}"
    assert "6 requests, each over a new connection" in result["evidence"][-1]
    assert rig.writes() == []


def test_a_denial_is_a_proof_even_with_ignore(rig: ProbeRig) -> None:
    rig.server.answer = deny
    target = rig.called_webhook(failurePolicy="Ignore")
    assert rig.verdict(target, expect="denied") == ("ok", "ok")
    assert rig.verdict(target, expect="denied", denial_message="no team") == ("ok", "ok")
    assert rig.verdict(target, expect="denied", denial_message="no owner") == ("failed", "other-message")
    assert rig.verdict(target) == ("failed", "denied")


def test_one_of_several_mutating_webhooks(rig: ProbeRig) -> None:
    rig.server.answer = deny
    strict, other = (rig.webhook(name=f"{word}.{rig.name}.certflow.test") for word in ("strict", "other"))
    target = rig.configure(other | {"rules": []}, strict, hooks=MUTATING_HOOKS)
    wait_for(lambda: "denied" in rig.dry_run())
    unnamed = rig.probe(target, expect="denied")
    assert has_failed(unnamed, "probe-impossible", "target.webhook:", other["name"], strict["name"]), unnamed
    assert rig.verdict({**target, "webhook": strict["name"]}, expect="denied") == ("ok", "ok")
    result = rig.probe({**target, "webhook": other["name"]}, expect="denied")
    assert (result["verdict"], result["failure"]["code"]) == ("unproven", "another-webhook")


def test_an_existing_object_of_that_name_does_not_matter(rig: ProbeRig) -> None:
    target = rig.called_webhook()
    rig.make(f"/api/v1/namespaces/{rig.name}/configmaps", config_map(rig.name))
    result = rig.probe(target)
    assert result["verdict"] == "ok"
    assert 'accepted (configmaps "probed" already exists)' in result["evidence"][0]


# Open connections


def test_a_changed_certificate_is_detected_despite_an_open_connection(rig: ProbeRig) -> None:
    target = rig.called_webhook()
    rig.server.present(rig.leaf(issuer="bad"))
    assert rig.dry_run() == "accepted"  # a dry run alone accepts it
    result = rig.probe(target)
    assert (result["verdict"], result["failure"]["code"]) == ("failed", "ca-mismatch")
    assert result["served"][0]["verifies"] is False
    assert "unknown authority" in result["served"][0]["problem"]


def test_unreadable_endpoints_are_unproven(rig: ProbeRig) -> None:
    target = rig.called_webhook()
    rig.server.present(rig.leaf(issuer="bad"))
    rig.become_blind("patch")
    result = rig.probe(target)
    assert (result["verdict"], result["failure"]["code"], result["changed"]) == (
        "unproven",
        "old-connection",
        False,
    )
    assert rig.probe(target, require_proof=True)["failed"]
    assert rig.writes() == []


# Failures that failurePolicy Ignore hides


def test_a_dead_webhook_with_ignore(rig: ProbeRig) -> None:
    rig.server.answer = deny
    target = rig.called_webhook(failurePolicy="Ignore")
    rig.server.close()
    rig.configure(rig.webhook(port=free_port(), name="unrelated.certflow.test", rules=[]))
    operation = {"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": free_port()}
    rig.cluster.api("PATCH", f"{HOOKS}/{target['name']}", [operation], JSON_PATCH)
    wait_for(lambda: rig.dry_run() == "accepted")
    result = rig.probe(target, expect="denied")
    assert (result["verdict"], result["failure"]["code"]) == ("failed", "accepted")
    assert not absent(["Ignore", "refused"], result["cause"])
    assert rig.verdict(target) == ("unproven", "hidden-by-ignore")


def test_an_object_that_the_webhook_does_not_check_proves_nothing(rig: ProbeRig) -> None:
    target = rig.called_webhook()
    without = config_map(rig.name)
    without["metadata"]["labels"] = {}
    assert rig.verdict(target, object=without) == ("unproven", "not-asked")
    assert rig.verdict(target, object=without, expect="denied") == ("failed", "not-asked")
    conditional = rig.called_webhook(matchConditions=[{"name": "always", "expression": "true"}])
    assert rig.verdict(conditional) == ("unproven", "perhaps-not-asked")


# Failures by code


def _silent(_review: dict[str, Any]) -> tuple[int, object]:
    time.sleep(2)
    return 200, {}


def _other_uid(review: dict[str, Any]) -> tuple[int, object]:
    status, body = allow(review)
    assert isinstance(body, dict)
    return status, {**body, "response": {**body["response"], "uid": "another"}}


def _hang_up(_review: dict[str, Any]) -> tuple[int, object]:
    raise ConnectionResetError


def _status(number: int) -> Callable[[dict[str, Any]], tuple[int, object]]:
    return lambda _review: (number, b"no")


# Failure code -> the fields of the webhook that cause it, and words of the API server in the cause or
# evidence.
FAILURES: dict[str, tuple[Callable[[ProbeRig], dict[str, Any]], str]] = {
    "service-missing": (lambda rig: {"service": "absent"}, "absent"),
    "port-missing": (lambda rig: {"service": "ported", "port": 8443}, "8443"),
    "no-endpoints": (lambda rig: {"service": "ported", "port": 443}, "ported"),
    "refused": (lambda rig: {"port": free_port()}, "connection refused"),
    "ca-mismatch": (lambda rig: {"bundle": pem("bad")}, "certificate signed by unknown authority"),
    "bundle-broken": (lambda rig: {"bundle": "no certificate at all"}, "unable to load root certificates"),
    "name-mismatch": (lambda rig: _presented(rig, rig.leaf("hook")), "certificate is valid for hook, not hook."),
    "expired": (lambda rig: _presented(rig, rig.leaf(lifetime=-datetime.timedelta(hours=1))), "certificate has expired or is not yet valid"),
    "wrong-usage": (lambda rig: _presented(rig, _client_only(rig)), "incompatible key usage"),
    "not-tls": (lambda rig: _presented(rig, None), "first record does not look like a TLS handshake"),
    "wrong-path": (lambda rig: _answering(rig, _status(404)), "could not find the requested resource"),
    "client-refused": (lambda rig: _answering(rig, _status(403)), "failed to call webhook: unknown"),
    "invalid-response": (lambda rig: _answering(rig, _other_uid), 'got "another"'),
    "server-error": (lambda rig: _answering(rig, _status(500)), "an error on the server"),
    "timed-out": (lambda rig: _answering(rig, _silent), "context deadline exceeded"),
    "connection-closed": (lambda rig: _answering(rig, _hang_up), "EOF"),
    "denied": (lambda rig: _answering(rig, deny), "no team, no ConfigMap"),
}  # fmt: skip


def _presented(rig: ProbeRig, pair: pki.KeyPair | None) -> dict[str, Any]:
    rig.server.present(pair)
    return {}


def _answering(rig: ProbeRig, answer: Callable[[dict[str, Any]], tuple[int, object]]) -> dict[str, Any]:
    rig.server.answer = answer
    return {}


def _client_only(rig: ProbeRig) -> pki.KeyPair:
    """Return a certificate with the right name and without a usage for servers."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca("good").certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(rig.server_name)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca("good").key, hashes.SHA256())
    )
    return pki.KeyPair(certificate, key)


@pytest.mark.parametrize("code", FAILURES)
def test_a_failure_has_its_code(rig: ProbeRig, code: str) -> None:
    prepare, said = FAILURES[code]
    ports = [{"port": 443}]
    rig.make(
        f"/api/v1/namespaces/{rig.name}/services", {"metadata": {"name": "ported"}, "spec": {"ports": ports}}
    )
    target = rig.configure(rig.webhook(**prepare(rig)))
    if code != "no-endpoints":  # without endpoints an API server would connect to the Service's address
        wait_for(lambda: rig.dry_run() != "accepted")
    result = rig.probe(target)
    assert result["failure"]["code"] == code, result
    assert result["verdict"] == "failed"
    assert has_failed(result, "webhook-unproven", rig.cluster.url, VALIDATING, target["name"], rig.name)
    assert result["remedy"]
    assert said in " ".join([result["cause"], *result["evidence"]])
    if code in ("service-missing", "port-missing", "no-endpoints"):  # the module knows it without a dry run
        assert rig.dry_runs() == 0


ELSEWHERE: dict[str, Callable[[ProbeRig], dict[str, Any]]] = {
    "another-webhook": lambda rig: {"object": config_map(rig.name, other="yes")},
    "invalid-object": lambda rig: {"object": {**config_map(rig.name), "data": {"a key": "no"}}},
    "namespace": lambda rig: {"object": config_map("absent")},
}


@pytest.mark.parametrize("code", ELSEWHERE)
def test_a_request_that_another_check_refuses_is_unproven(rig: ProbeRig, code: str) -> None:
    target = rig.called_webhook()
    if code == "another-webhook":
        other = rig.webhook(name="other.certflow.test", port=free_port())
        rig.configure(other | {"objectSelector": {"matchLabels": {"other": "yes"}}})
        body = config_map(rig.name, other="yes")
        path = f"/api/v1/namespaces/{rig.name}/configmaps?dryRun=All"
        wait_for(lambda: _is_refused(rig, path, body))
    assert rig.verdict(target, **ELSEWHERE[code](rig)) == ("unproven", code)


def _is_refused(rig: ProbeRig, path: str, body: dict[str, Any]) -> bool:
    try:
        rig.cluster.api("POST", path, body)
    except AdminApiError:
        return True
    return False


def test_a_failed_call_is_not_repeated_without_wait(rig: ProbeRig) -> None:
    target = rig.configure(rig.webhook(port=free_port()))
    wait_for(lambda: rig.dry_run() != "accepted")
    assert rig.verdict(target, wait_timeout=60) == ("failed", "refused")
    assert rig.dry_runs() == 1


def test_with_wait_the_probe_repeats_until_the_webhook_answers(rig: ProbeRig) -> None:
    def late(review: dict[str, Any]) -> tuple[int, object]:
        return allow(review) if len(rig.server.calls) > before + 2 else (503, b"not yet")

    target = rig.called_webhook()
    before = len(rig.server.calls)
    rig.server.answer = late
    assert rig.verdict(target, wait=True, wait_timeout=60) == ("ok", "ok")
    rig.server.answer = _status(503)
    result = rig.probe(target, wait=True, wait_timeout=3)
    assert (result["verdict"], result["failure"]["code"]) == ("failed", "server-error")


def test_wait_ends_at_once_if_waiting_changes_nothing(rig: ProbeRig) -> None:
    target = rig.called_webhook(failurePolicy="Ignore")
    started = time.monotonic()
    assert rig.verdict(target, wait=True, wait_timeout=NOT_REACHED) == ("unproven", "hidden-by-ignore")
    assert time.monotonic() - started < NOT_REACHED


BAD_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "no object": ({"kind": VALIDATING, "name": "x"}, {"object": None}, ("object",)),
    "no apiVersion": ({"kind": VALIDATING, "name": "x"}, {"object": {"kind": "Pod"}}, ("apiVersion",)),
    "message": ({"kind": VALIDATING, "name": "x"}, {"denial_message": "no"}, ("denial_message", "expect:")),
    "conversion denied": ({"kind": "CustomResourceDefinition", "name": "x"}, {"expect": "denied"}, ("CustomResourceDefinition", "expect")),
    "object of an API": ({"kind": "APIService", "name": "x"}, {"object": config_map("default")}, ("APIService", "object")),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_OPTIONS)
def test_invalid_options_are_refused(rig: ProbeRig, row: str) -> None:
    target, options, names = BAD_OPTIONS[row]
    result = rig.probe(target, **options)
    assert has_failed(result, "probe-impossible", *names), result


# Conversion webhooks


def test_a_conversion_is_proven_with_a_version_that_is_not_stored(rig: ProbeRig) -> None:
    target = rig.definition()
    result = rig.probe(target)
    assert result["verdict"] == "ok", result
    assert result["evidence"][0] == "dry run of Thing default/certflow-probe-*, 6 times: accepted"
    assert set(rig.server.calls) == {"/convert?timeout=30s"}
    stored = {
        "apiVersion": f"{rig.name}.certflow.test/v1",
        "kind": "Thing",
        "metadata": {"namespace": "default"},
    }
    assert has_failed(rig.probe(target, object=stored), "probe-impossible", "v1,", "v1beta1")
    rig.server.answer = _status(404)
    assert rig.verdict(target) == ("failed", "wrong-path")
    rig.server.answer = lambda review: (
        200,
        {
            **{key: review[key] for key in ("apiVersion", "kind")},
            "response": {
                "uid": review["request"]["uid"],
                "result": {"status": "Failed", "message": "not-a-thing"},
            },
        },
    )
    result = rig.probe(target)
    assert result["failure"]["code"] == "conversion-refused"
    assert not absent(["not-a-thing"], result["cause"])


def test_a_conversion_over_an_old_connection_is_unproven(rig: ProbeRig) -> None:
    target = rig.definition()
    assert rig.verdict(target) == ("ok", "ok")
    rig.server.present(rig.leaf(issuer="bad"))
    assert rig.verdict(target) == ("failed", "ca-mismatch")
    rig.become_blind()
    assert rig.verdict(target) == ("unproven", "old-connection")


def test_a_schema_with_required_fields_needs_an_object(rig: ProbeRig) -> None:
    target = rig.definition(v1=True, v1beta1=False)
    assert rig.verdict(target) == ("unproven", "invalid-object")
    thing = {"apiVersion": f"{rig.name}.certflow.test/v1beta1", "kind": "Thing", "size": 1}
    assert rig.verdict(target, object={**thing, "metadata": {"namespace": rig.name}}) == ("ok", "ok")


def test_a_definition_with_one_version_is_never_converted(rig: ProbeRig) -> None:
    target = rig.definition(v1=True)
    assert rig.verdict(target) == ("unproven", "nothing-to-convert")


# Aggregated APIs


def test_an_aggregated_api(rig: ProbeRig) -> None:
    target = rig.api_service()
    assert rig.verdict(target, wait=True) == ("ok", "ok")
    rig.server.present(rig.leaf(issuer="bad"))
    assert rig.verdict(target) == ("failed", "ca-mismatch")
    rig.become_blind()
    assert rig.verdict(target) == ("unproven", "old-connection")


def test_an_aggregated_api_without_a_server(rig: ProbeRig) -> None:
    target = rig.api_service(port=free_port())
    wait_for(
        lambda: rig.cluster.api("GET", f"{API_SERVICES}/{target['name']}").get("status", {}).get("conditions")
    )
    result = rig.probe(target)
    assert (result["verdict"], result["failure"]["code"]) == ("failed", "refused")
    assert "condition Available is not True" in result["evidence"][0]


# Both execution modes


def test_both_execution_modes_return_the_same(rig: ProbeRig, tmp_path: Path) -> None:
    target = rig.called_webhook(failurePolicy="Ignore")
    tasks = [
        {
            "name": "Probe",
            "certflow.kubernetes.webhook_probe": {"target": target, "object": config_map(rig.name)},
            "vars": {"__certflow_execution_mode": mode},
            "register": f"{mode}_result",
            "check_mode": True,
        }
        for mode in ("in_process", "module")
    ]
    same = ["verdict", "failure", "evidence", "served", "changed", "msg"]
    checks = [f"in_process_result.{key} == module_result.{key}" for key in same]
    checks += ["module_result.verdict == 'unproven'"]
    proof = {"name": "Same", "ansible.builtin.assert": {"that": checks}}
    play = {
        "name": "Execution modes",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [*tasks, proof],
    }
    run = playbook.play(tmp_path, [play], K8S_AUTH_KUBECONFIG=str(rig.kubeconfig))
    assert run.status == 0, run.output
    assert run.recap("skipped") == 0
