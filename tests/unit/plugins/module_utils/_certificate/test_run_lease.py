# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run's turn: taken once, what was read is looked at again, and given back whatever happens."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import run_lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.lease import Lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import Interrupted
from ansible_collections.certflow.kubernetes.plugins.module_utils._result import (
    Result,
)

from tests.unit.plugins.module_utils._csr.flow import Api, intent

pytestmark = pytest.mark.quick

LEASES = "/apis/coordination.k8s.io/v1/namespaces/apps/leases"
TAKEN, GIVEN_BACK = ("POST", LEASES), ("DELETE", f"{LEASES}/certflow-hook")


class Leases(Api):
    def send(self, method: str, path: str, body: Any) -> Any:
        """A write beside the work."""
        answer = self._write(method, path, body)
        return {**answer, "metadata": {**answer.get("metadata", {}), "uid": "1", "resourceVersion": "2"}}


def alone(api: Api, act: Any, **changed: Any) -> Result:
    return run_lease.alone(api, intent(**changed), act)  # type: ignore[arg-type]


def test_a_run_that_writes_nothing_asks_for_no_turn() -> None:
    api = Leases()
    alone(api, lambda _lease: Result(False, {}))
    assert api.asked == []


@pytest.mark.parametrize(("answers", "runs"), [([True], 1), ([False, True], 2), ([False, False], 2)])
def test_what_has_changed_meanwhile_is_decided_on_again(answers: list[bool], runs: int) -> None:
    """Once: then it is its turn."""
    api, count = Leases(), 0

    def act(lease: Lease) -> Result:
        nonlocal count
        count += 1
        run_lease.take(lease, lambda: answers.pop(0))
        run_lease.take(lease, lambda: False)
        return Result(True, {})

    assert alone(api, act).warnings == ()
    assert (count, api.asked) == (runs, [TAKEN, GIVEN_BACK])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_given_back_whatever_happens(error: type[BaseException]) -> None:
    api = Leases()

    def act(lease: Lease) -> Result:
        run_lease.take(lease, lambda: True)
        raise error

    with pytest.raises(error):
        alone(api, act)
    assert api.asked == [TAKEN, GIVEN_BACK]


def test_a_signal_takes_its_effect_after_the_lease_is_released() -> None:
    """Ansible ends its worker in the handler of the signal, without ``finally``."""
    api, asked = Leases(), list[list[Any]]()

    def act(lease: Lease) -> Result:
        run_lease.take(lease, lambda: True)
        os.kill(os.getpid(), signal.SIGTERM)
        return Result(True, {})

    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(list(api.asked)))
    try:
        with pytest.raises(Interrupted):
            alone(api, act)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [[TAKEN, GIVEN_BACK]]


def test_without_the_right_it_goes_on_as_it_is_and_warns() -> None:
    api = Leases()
    api.on_write = lambda *_: Forbidden("no", status=403, message="not yours")

    def act(lease: Lease) -> Result:
        run_lease.take(lease, lambda: False)
        return Result(True, {}, warnings=("first",))

    first, second = alone(api, act).warnings
    assert first == "first"
    assert "not yours" in second
    assert "apps/hook" in second
    assert api.asked == [TAKEN]


def test_what_is_no_services_has_a_name_of_its_secrets() -> None:
    api = Leases()
    names = []

    def act(lease: Lease) -> Result:
        run_lease.take(lease, lambda: True)
        names.append(api.sent[-1]["metadata"]["name"])
        return Result(True, {})

    for secret in ("a", "b"):
        options = {"service": None, "dns_names": ["a.example.com"], "allow_names": ["a.example.com"]}
        alone(api, act, **options, common_name="system:node:a", secret={"name": secret})
    assert len(set(names)) == 2
    assert all(name.startswith("certflow-") for name in names)
