# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A removal counts every endpoint that may serve, and is refused before the API server would refuse requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import remove
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_patch,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import (
    served_chains,
    webhook_endpoints,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    EndpointScan,
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.support.certificates.authority import NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error, ca, intent, leaf
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

TARGET = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
RULE = {"operations": ["CREATE"], "apiGroups": ["apps"], "resources": ["deployments"]}


def endpoint(number: int, state: str) -> Endpoint:
    return Endpoint(f"10.0.0.{number}", 8443, ("apps", f"hook-{number}"), state)


def serving(by: str, *, state: str = webhook_endpoints.READY) -> ServedChain:
    pair = leaf(by=ca(by))
    return ServedChain(endpoint(1, state), pair.pem, certificate_facts.describe_pem(pair.pem))


def outside(by: str) -> ServedChain:
    chain = serving(by)
    return replace(chain, endpoint=replace(chain.endpoint, pod=None, is_outside=True))


def hidden(state: str = webhook_endpoints.NOT_READY) -> ServedChain:
    return ServedChain(endpoint(2, state), problem="no answer", is_blind=True)


def refusing() -> ServedChain:
    return replace(hidden(webhook_endpoints.TERMINATING), is_blind=False, fault="refused")


def webhooks(count: int, bundle: str, policy: str) -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(bundle)}
    entry = {"clientConfig": config, "rules": [RULE], **({"failurePolicy": policy} if policy else {})}
    return {
        "metadata": {"name": "hook", "resourceVersion": "1"},
        "webhooks": [{**entry, "name": f"h{n}"} for n in range(count)],
    }


def check(
    scan: EndpointScan,
    *accept: str,
    policy: str = "",
    count: int = 1,
    other: str = "",
    keeps_secret: bool = False,
    pods: Any = (),
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, ...]:
    """Remove the CA "cluster" from a bundle, which may hold another CA. pods: those of the namespace, or the answer of the API server."""
    obj = webhooks(count, ca().pem + (ca(other).pem if other else ""), policy)
    listed = pods if isinstance(pods, Exception) else {"metadata": {}, "items": list(pods)}
    api = ScriptedApi({bundle_targets.path(TARGET): obj, "/api/v1/namespaces/apps/pods": listed})
    monkeypatch.setattr(served_chains, "scan", lambda *_args, **_options: scan)
    monkeypatch.setattr(remove, "_PAUSE_SECONDS", 0.01)
    run = CertificateRun(api, intent(accept=accept, wait_timeout=1))  # type: ignore[arg-type]
    change = bundle_patch.plan(TARGET, obj, ca().pem, mode="absent", recorded=True, now=NOW)
    return remove.check_removal(run, [change], keeps_secret=keeps_secret)


#: What the endpoints serve, and the word that allows the removal, "" if it needs none.
SCANS: dict[str, tuple[EndpointScan, str]] = {
    "no endpoint": (EndpointScan(problem="no pod is ready"), ""),
    "a ready pod": (EndpointScan((serving("cluster"),)), "downtime"),
    "a pod that is not ready": (EndpointScan(unready=(serving("cluster", state=webhook_endpoints.NOT_READY),)), "downtime"),
    "a pod of another CA": (EndpointScan((serving("old"),)), ""),
    "a pod of another CA, and one that was not seen": (EndpointScan((serving("old"),), unready=(hidden(),)), "unseen"),
    "an address of another CA, which may lead to other machines": (EndpointScan((outside("old"),)), "unseen"),
    "a pod that ends and serves no more": (EndpointScan(unready=(refusing(),)), ""),
    "endpoints that are not known": (EndpointScan(problem="forbidden", is_known=False), "unseen"),
    "a pod that never ends": (EndpointScan(unready=(serving("cluster", state=webhook_endpoints.TERMINATING),)), "downtime"),
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(("scan", "word"), SCANS.values(), ids=list(SCANS))
def test_a_removal_that_refuses_requests_needs_a_word(
    scan: EndpointScan, word: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"count": count, "monkeypatch": monkeypatch}
    if not word:
        assert check(scan, **options) == ()
        return
    option = f"{{{word}: [ValidatingWebhookConfiguration/hook]}}"
    with fails("still-needed", "CREATE", "deployments") as caught:
        check(scan, **options)
    assert option in caught.value.remedy
    assert len(caught.value.evidence) == count
    assert len(check(scan, word, **options)) == count
    with fails("still-needed"):
        check(scan, "unseen" if word == "downtime" else "downtime", **options)


def test_pods_may_come_back_with_a_secret_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Deployment has no replica now."""
    scan = EndpointScan(problem="no pod is ready")
    with fails("still-needed", "unseen"):
        check(scan, keeps_secret=True, monkeypatch=monkeypatch)
    assert len(check(scan, "unseen", keeps_secret=True, monkeypatch=monkeypatch)) == 1


def pod(secret: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"name": "hook-0"},
        "spec": {"volumes": [{"name": "tls", "secret": {"secretName": secret}}]},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("pods", "code"),
    [
        ([pod("hook-tls")], "still-needed"),  # the Service does not select it now, or does not exist
        ([pod("hook-tls", "Pending")], "still-needed"),
        ([pod("hook-tls", "Succeeded"), pod("other")], ""),
        (api_error(Forbidden), "missing-permissions"),
    ],
)
def test_a_pod_with_the_secret_may_become_an_endpoint_again(
    pods: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = EndpointScan(problem="there is no Service apps/hook")
    if not code:
        assert check(scan, pods=pods, monkeypatch=monkeypatch) == ()
        return
    with fails(code):
        check(scan, pods=pods, monkeypatch=monkeypatch)
    assert len(check(scan, "unseen", pods=pods, monkeypatch=monkeypatch)) == 1


def test_a_webhook_that_is_skipped_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = EndpointScan((serving("cluster"),))
    (warning,) = check(scan, policy="Ignore", monkeypatch=monkeypatch)
    assert "call no webhook for CREATE of deployments in apps" in warning


def test_a_bundle_that_verifies_the_pod_by_another_ca_may_lose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(EndpointScan((serving("old"),)), other="old", monkeypatch=monkeypatch) == ()


def test_an_expired_ca_may_go_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    later = certificate_facts.describe_pem(ca().pem).not_after + timedelta(days=1)
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: later)
    assert check(EndpointScan(problem="forbidden", is_known=False), monkeypatch=monkeypatch) == ()


@pytest.mark.parametrize(
    "chain", [serving("cluster", state=webhook_endpoints.TERMINATING), hidden(webhook_endpoints.TERMINATING)]
)
def test_the_end_of_a_pod_is_awaited(chain: ServedChain, monkeypatch: pytest.MonkeyPatch) -> None:
    ending = EndpointScan(unready=(chain,))
    scans = iter([ending, ending, EndpointScan()])
    obj = webhooks(1, ca().pem, "")
    api = ScriptedApi({bundle_targets.path(TARGET): obj})
    monkeypatch.setattr(served_chains, "scan", lambda *_args, **_options: next(scans))
    monkeypatch.setattr(remove, "_PAUSE_SECONDS", 0.01)
    change = bundle_patch.plan(TARGET, obj, ca().pem, mode="absent", recorded=True, now=NOW)
    assert remove.check_removal(CertificateRun(api, intent()), [change], keeps_secret=False) == ()  # type: ignore[arg-type]


def test_the_targets_of_a_service_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at an endpoint that does not answer takes its whole time."""
    targets = [replace(TARGET, name=f"hook-{number}") for number in range(7)]
    objects = {bundle_targets.path(target): webhooks(2, ca().pem, "") for target in targets}
    changes = [
        bundle_patch.plan(
            target,
            objects[bundle_targets.path(target)],
            ca().pem,
            mode="absent",
            recorded=True,
            now=NOW,
        )
        for target in targets
    ]
    looks: list[Any] = []

    def scan(*about: Any, **_options: Any) -> EndpointScan:
        looks.append(about)
        return EndpointScan((hidden("ready"),))

    monkeypatch.setattr(served_chains, "scan", scan)
    run = CertificateRun(ScriptedApi(objects), intent(wait_timeout=1))  # type: ignore[arg-type]
    with fails("still-needed", "CREATE") as caught:
        remove.check_removal(run, changes, keeps_secret=False)
    assert len(caught.value.evidence) == 14
    assert len(looks) == 1
