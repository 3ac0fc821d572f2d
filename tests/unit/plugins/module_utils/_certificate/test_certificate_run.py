# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Lease of a run: acquired once, the state is compared again, and the Lease is released in every case."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import certificate_run
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    CertificateState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import obtain
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.certificate_rules import IssueReason
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import RunInterrupted
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_patch import (
    BundleChange,
    TargetChange,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
    Target,
)

from tests.support.certificates.authority import NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, intent

pytestmark = pytest.mark.quick

LEASES = "/apis/coordination.k8s.io/v1/namespaces/apps/leases"
ACQUIRED, RELEASED = ("POST", LEASES), ("DELETE", f"{LEASES}/certflow-hook")


class Leases(ScriptedApi):
    def send(self, method: str, path: str, body: Any) -> Any:
        """Record a write of the Lease."""
        answer = self._write(method, path, body)
        return {**answer, "metadata": {**answer.get("metadata", {}), "uid": "1", "resourceVersion": "2"}}


def run_with_lease(api: ScriptedApi, act: Any, **changed: Any) -> Result:
    run = CertificateRun(api, intent(**changed))  # type: ignore[arg-type]
    return certificate_run.run_exclusively(run, act)


def test_a_run_that_writes_nothing_acquires_no_lease() -> None:
    api = Leases()
    run_with_lease(api, lambda _run: Result(False, {}))
    assert api.asked == []


@pytest.mark.parametrize(("answers", "runs"), [([True], 1), ([False, True], 2), ([False, False], 2)])
def test_a_changed_state_is_decided_on_again(answers: list[bool], runs: int) -> None:
    """Only once, because then the run holds the Lease."""
    api, count = Leases(), 0

    def act(run: CertificateRun) -> Result:
        nonlocal count
        count += 1
        certificate_run.acquire(run.lease, lambda: answers.pop(0))
        certificate_run.acquire(run.lease, lambda: False)
        return Result(True, {})

    assert run_with_lease(api, act).warnings == ()
    assert (count, api.asked) == (runs, [ACQUIRED, RELEASED])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_lease_is_released_in_every_case(error: type[BaseException]) -> None:
    api = Leases()

    def act(run: CertificateRun) -> Result:
        certificate_run.acquire(run.lease, lambda: True)
        raise error

    with pytest.raises(error):
        run_with_lease(api, act)
    assert api.asked == [ACQUIRED, RELEASED]


def test_a_signal_takes_its_effect_after_the_lease_is_released() -> None:
    """Ansible ends its worker in the handler of the signal, without ``finally``."""
    api, asked = Leases(), list[list[Any]]()

    def act(run: CertificateRun) -> Result:
        certificate_run.acquire(run.lease, lambda: True)
        os.kill(os.getpid(), signal.SIGTERM)
        return Result(True, {})

    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(list(api.asked)))
    try:
        with pytest.raises(RunInterrupted):
            run_with_lease(api, act)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [[ACQUIRED, RELEASED]]


def test_without_the_permission_the_run_continues_and_warns() -> None:
    api = Leases()
    api.on_write = lambda *_: Forbidden("no", status=403, message="not yours")

    def act(run: CertificateRun) -> Result:
        certificate_run.acquire(run.lease, lambda: False)
        return Result(True, {}, warnings=("first",))

    first, second = run_with_lease(api, act).warnings
    assert first == "first"
    assert "not yours" in second
    assert "apps/hook" in second
    assert api.asked == [ACQUIRED]


def test_without_a_service_the_lease_is_named_after_the_secret() -> None:
    api = Leases()
    names = []

    def act(run: CertificateRun) -> Result:
        certificate_run.acquire(run.lease, lambda: True)
        names.append(api.sent[-1]["metadata"]["name"])
        return Result(True, {})

    for secret in ("a", "b"):
        options = {"service": None, "names": ["a.example.com"], "allow_names": ["a.example.com"]}
        run_with_lease(api, act, **options, common_name="system:node:a", secret={"name": secret})
    assert len(set(names)) == 2
    assert all(name.startswith("certflow-") for name in names)


# The comparison with an approved plan


def planned(reason: str = "NoSecret", target: str = "hook", webhook: str = "w", **changed: Any) -> list[str]:
    """Return the digests of a run that issues a certificate."""
    guard = PlanGuard(fixed=["cluster:c"])
    run = CertificateRun(ScriptedApi(), intent(**changed), guard=guard)  # type: ignore[arg-type]
    config = ClientConfig(webhook, "/webhooks/0/clientConfig", "", "", None, "")
    change = TargetChange(
        Target("ValidatingWebhookConfiguration", target), "1", (BundleChange(config, None),)
    )
    run.allow_to_issue(IssueReason(reason, "it is due"), [change])
    return list(guard.as_result()["plan_digests"])


# Each part of the plan of a certificate, changed once.
CHANGED: tuple[dict[str, Any], ...] = (
    {"reason": "RenewalDue"},
    {"target": "another"},
    {"webhook": "another"},
    {"signer_name": "beta.eks.amazonaws.com/app-serving"},
    {"service": "victim"},
    {"namespace": "victim"},
    {"secret": {"name": "victim"}},
    {"names": ["hook.apps.svc", "kubernetes.default.svc"], "allow_names": ["kubernetes.default.svc"]},
    {"names": ["192.0.2.1"], "allow_names": ["192.0.2.1"]},
    {"expiration_seconds": 86400},
    {"key_type": "rsa-2048"},
)


@pytest.mark.parametrize("changed", CHANGED, ids=[next(iter(row)) for row in CHANGED])
def test_each_part_of_a_certificate_is_in_the_plan(changed: dict[str, Any]) -> None:
    assert planned() == planned()
    assert planned(**changed) != planned()


def test_each_ordinary_renewal_is_the_same_in_a_plan() -> None:
    """The certificate may become due before its plan is approved, and the CA of the cluster may be switched."""
    assert planned("CaSwitched") == planned("RenewalDue")


def test_the_order_of_names_is_not_in_the_plan() -> None:
    names = ["hook.apps.svc", "a.test", "b.test"]
    assert planned(names=names, allow_names=names) == planned(names=names[::-1], allow_names=names)


def test_a_certificate_that_was_not_planned_is_refused_before_a_write() -> None:
    """The plan was made when the certificate was kept and a target lacked its CA."""
    api = ScriptedApi()
    guard = PlanGuard([entry for entry in planned() if "certificate" not in entry], ["cluster:c"])
    run = CertificateRun(api, intent(), guard=guard)  # type: ignore[arg-type]
    run.allow_to_store()
    with fails("plan-differs", "apps/hook"):
        obtain(run, CertificateState(None, (), NOW), IssueReason("NoSecret", "it is due"))
    assert api.writes() == [("POST", "/api/v1/namespaces/apps/secrets")], "the dry run"
