# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state before a decision, and the decision to keep the certificate or to obtain one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import gather
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateInUse,
    CertificateRun,
    CertificateState,
    StateChanged,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.certificate_rules import IssueReason
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import SecretError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.trust_anchors import TrustAnchor
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Forbidden,
    MissingPermissions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets

from tests.support.certificates.authority import DAY, NOW
from tests.unit.plugins.module_utils._certificate.runs import (
    CSR_NAME,
    HOOK,
    PATH,
    PENDING,
    api_with,
    its_csr,
    newer,
    waiting,
    webhook,
)
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    found,
    intent,
    leaf,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING

pytestmark = pytest.mark.quick

USABLE = found()
IN_USE = CertificateInUse(USABLE, TrustAnchor("test", ca().pem))
DECISIONS: dict[str, tuple[CertificateState, str]] = {
    "no Secret": (CertificateState(None, (), NOW), "NoSecret"),
    "a certificate in use": (CertificateState(USABLE, (), NOW, in_use=IN_USE), ""),
    "a certificate in use that is due": (
        CertificateState(
            found(leaf(not_before=NOW - 300 * DAY, not_after=NOW + DAY)), (), NOW, in_use=IN_USE
        ),
        "RenewalDue",
    ),
    "no anchor": (CertificateState(USABLE, (), NOW, anchor_problem="no CA"), "Untrusted"),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_a_decision_is_a_reason_or_the_certificate_in_use(case: str) -> None:
    state, code = DECISIONS[case]
    decision = gather.decide(intent(), state)
    assert (decision.code if isinstance(decision, IssueReason) else decision) == (code or IN_USE)


@pytest.mark.parametrize(
    ("issued", "is_in_use", "reads"),
    [
        (leaf(), True, 0),
        (leaf(by=ca("strange")), False, 3),
        (leaf(not_after=NOW), False, 0),
        # The clock of the signer is a little ahead.
        (leaf(not_before=NOW + timedelta(minutes=2)), True, 0),
        (leaf("hook"), False, 0),
    ],
)
def test_candidates_are_read_only_for_a_certificate_that_can_stay_in_use(
    issued: Any, is_in_use: bool, reads: int
) -> None:
    """A ConfigMap is read only if the CA of the connection does not verify the certificate."""
    api = ScriptedApi({PATH: secret_object(issued)}, ca_pem=ca().pem)
    run = CertificateRun(api, intent(accept=["foreign-secret"]))  # type: ignore[arg-type]
    state = gather.gather(run, gather.read_secret(run))
    assert bool(state.in_use) is is_in_use
    assert bool(state.anchor_problem) is bool(reads)
    assert len([path for _verb, path in api.asked if "configmaps" in path]) == reads


@pytest.mark.parametrize(("approve", "paths"), [(True, []), (False, [PENDING, csr_api.path(CSR_NAME)])])
def test_a_run_that_approves_reads_no_waiting_request(approve: bool, paths: list[str]) -> None:
    api = api_with(waiting(), its_csr())
    run = CertificateRun(api, intent(approve=approve))  # type: ignore[arg-type]
    state = gather.gather(run, gather.read_secret(run))
    assert [path for _verb, path in api.asked] == [PATH, *paths]
    assert bool(state.waiting) is not approve


def test_a_waiting_request_that_may_not_be_read_fails_only_a_run_that_needs_it() -> None:
    """A run that keeps its certificate does not need it. A run that issues one first reports every missing permission."""
    api = api_with(waiting(), its_csr())
    api.objects[csr_api.path(CSR_NAME)] = api_error(Forbidden)
    run = CertificateRun(api, intent(approve=False))  # type: ignore[arg-type]
    state = gather.gather(run, gather.read_secret(run))
    assert (state.waiting, type(state.waiting_fault)) == (None, MissingPermissions)


@pytest.mark.parametrize("text", ["not base64!", "a"])
def test_a_waiting_secret_without_a_key_is_a_fault_of_the_secret(text: str) -> None:
    api = api_with({**waiting(), "data": {"tls.key": text}}, its_csr())
    run = CertificateRun(api, intent(approve=False))  # type: ignore[arg-type]
    state = gather.gather(run, gather.read_secret(run))
    assert isinstance(state.waiting_fault, SecretError)


class AcquiredLease:
    """A Lease that the run has to wait for. problem: the reason why the run then goes on without it."""

    is_tried = False

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def acquire(self) -> None:
        self.is_tried = True


CHANGES: dict[str, dict[str, Any]] = {
    "the Secret was written": {PATH: newer(secret_object())},
    "the Secret was deleted": {PATH: None},
    "the target was written": {
        bundle_targets.path(HOOK): {**webhook(), "metadata": {"resourceVersion": "2"}}
    },
    "the waiting request was approved": {csr_api.path(CSR_NAME): newer(its_csr(), "2")},
    "the waiting key was deleted": {PENDING: None},
}


@pytest.mark.parametrize("problem", ["", "its update is refused"])
@pytest.mark.parametrize("case", ["no change", *CHANGES])
def test_a_state_that_changed_during_the_wait_for_the_lease_is_detected(case: str, problem: str) -> None:
    api = api_with(waiting(), its_csr())
    api.objects.update({PATH: secret_object(), bundle_targets.path(HOOK): webhook()})
    for obj in (
        api.objects[bundle_targets.path(HOOK)],
        *(entry.get(bundle_targets.path(HOOK)) for entry in CHANGES.values()),
    ):
        if obj:
            obj["metadata"]["uid"] = "u"
    run = CertificateRun(api, intent(approve=False), (HOOK,), lease=AcquiredLease(problem))  # type: ignore[arg-type]
    state = gather.gather(run, gather.read_secret(run))
    if case == "no change":
        gather.acquire_lease(run, state)
        return
    api.objects.update(CHANGES[case])
    with pytest.raises(StateChanged):
        gather.acquire_lease(run, state)
    gather.acquire_lease(replace(run, lease=None), state)


def of_signer(signer: str, mark: str = "", **metadata: Any) -> Any:
    marks = {**MARKED["annotations"], "certflow.kubernetes/signer-name": signer}
    marks |= {"certflow.kubernetes/adopted": mark} if mark else {}
    issued = leaf(not_before=NOW - 300 * DAY, not_after=NOW + DAY)
    return found(issued, **{**MARKED, "annotations": marks, **metadata})


@pytest.mark.parametrize(
    ("secret", "keeps_signer", "expected"),
    [
        (of_signer("ephemeral-ca"), True, "ephemeral-ca"),
        (of_signer("ephemeral-ca"), False, KUBELET_SERVING),  # the task names its signer
        (of_signer("ephemeral-ca", name="copy", mark="x-x"), True, "ephemeral-ca"),
        (of_signer("ephemeral-ca", labels={}), True, KUBELET_SERVING),  # another client wrote the certificate
        (of_signer("example.com/signer"), True, KUBELET_SERVING),  # its renewal is due
    ],
)
def test_a_renewal_changes_the_signer_except_that_of_ephemeral_ca(
    secret: Any, keeps_signer: bool, expected: str
) -> None:
    wanted = replace(intent(), keeps_signer=keeps_signer)
    run = CertificateRun(
        ScriptedApi(),  # type: ignore[arg-type]
        wanted,
        intent_for=lambda name: replace(intent(signer_name=name), keeps_signer=keeps_signer),
    )
    kept = gather.keep_signer(run, secret).intent
    assert kept.signer.name == expected
    assert (kept.secret.ca_key == "ca.crt") == (expected == "ephemeral-ca")
