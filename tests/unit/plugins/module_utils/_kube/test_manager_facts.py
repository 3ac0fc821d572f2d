# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the Lease and the flags of kube-controller-manager."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import (
    ManagerLease,
    find_manager_lease,
    read_manager_flags,
)

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

pytestmark = pytest.mark.quick

NOW = datetime(2026, 9, 1, 12, 0, 0, tzinfo=timezone.utc)
QUARTER = timedelta(seconds=15)


def lease(age: float, seconds: int = 15) -> dict[str, Any]:
    renewed = NOW - timedelta(seconds=age)
    spec = {
        "holderIdentity": "one_1a2b",
        "leaseDurationSeconds": seconds,
        "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return {"metadata": {}, "spec": spec}


class ManagerStandIn:
    """Answers each look in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def now(self) -> datetime:
        return NOW

    def find(self, path: str) -> Any:
        self.asked.append(path)
        return self.answers.pop(0)

    def get(self, path: str, query: Any) -> Any:
        self.asked.append((path, query))
        return self.answers.pop(0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


def read(*answers: Any, before: ManagerLease | None = None) -> tuple[ManagerLease | None, ManagerStandIn]:
    client = ManagerStandIn(*answers)
    return find_manager_lease(cast("Client", client), before), client


def test_a_lease(slept: list[float]) -> None:
    found, client = read(lease(2.5))
    assert found == ManagerLease(NOW - timedelta(seconds=2.5), QUARTER, "one_1a2b")
    assert found.runs_out == NOW + timedelta(seconds=12.5)
    assert (len(client.asked), slept) == (1, [])


@pytest.mark.parametrize("obj", [None, {}, {"spec": {}}, {"spec": {"holderIdentity": ""}}])
def test_a_missing_lease(obj: Any, slept: list[float]) -> None:
    assert read(obj)[0] is None


def test_one_that_seems_to_have_run_out_is_looked_at_again(slept: list[float]) -> None:
    """The clocks differ by a minute: the second look finds it renewed, so its holder works."""
    found, _client = read(lease(60), lease(58))
    assert found is not None
    assert found.renewed == NOW
    assert slept == [3.0], "longer than the two seconds between renewals"


def test_one_that_is_not_renewed_meanwhile_has_run_out(slept: list[float]) -> None:
    found, _client = read(lease(60), lease(60))
    assert found is not None
    assert found.runs_out < NOW


def test_what_an_earlier_look_found_proves_as_much(slept: list[float]) -> None:
    before = read(lease(16), lease(16))[0]
    slept.clear()
    found, client = read(lease(16), before=before)
    assert (found, len(client.asked), slept) == (before, 1, [])


def test_a_clock_may_be_wrong_by_hours(slept: list[float]) -> None:
    found, _client = read(lease(3600), lease(3598))
    assert found is not None
    assert found.renewed == NOW


@pytest.mark.parametrize("seconds", [15, 2**31 - 1])
def test_a_time_that_cannot_be_true_is_no_lease(slept: list[float], seconds: int) -> None:
    far = lease(0, seconds)
    far["spec"]["renewTime"] = "9999-12-31T23:59:59.000000Z"
    assert read(far)[0] is None


def test_a_lease_that_was_given_back_is_free_for_a_standby(slept: list[float]) -> None:
    found, _client = read(lease(5, seconds=1))
    assert found is not None
    assert found.runs_out > NOW


FORMS = [
    (["kube-controller-manager", "--cluster-signing-cert-file=/pki/ca.crt"], {"cluster-signing-cert-file": "/pki/ca.crt"}),
    (["kube-controller-manager", "--cluster-signing-cert-file", "/pki/ca.crt"], {"cluster-signing-cert-file": "/pki/ca.crt"}),
    (["kube-controller-manager", "--cluster-signing-cert-file="], {"cluster-signing-cert-file": ""}),
    (["kube-controller-manager", "--leader-elect", "--controllers=*,-ttl"], {"leader-elect": "true", "controllers": "*,-ttl"}),
    (["/bin/sh", "-c", "exec kube-controller-manager --cluster-signing-cert-file=/pki/ca.crt 1>>/var/log/x"], {"cluster-signing-cert-file": "/pki/ca.crt"}),
    (["kube-controller-manager", "--cloud-config=/secret", "--kubeconfig=/etc/x"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "values"), FORMS)
@pytest.mark.parametrize("key", ["command", "args"])
def test_flags(words: list[str], values: dict[str, str], key: str) -> None:
    pod = {"metadata": {"name": "kube-controller-manager-one"}, "spec": {"containers": [{key: words}]}}
    client = ManagerStandIn({"items": [pod]})
    [found] = read_manager_flags(cast("Client", client))
    assert (found.pod, found.values) == ("kube-controller-manager-one", values)
    assert client.asked[0][1]["labelSelector"] == "component=kube-controller-manager"


def test_no_pod_is_no_flags() -> None:
    assert read_manager_flags(cast("Client", ManagerStandIn({"items": None}))) == ()
