# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a certificate: the wait ends at once after an answer, and as soon as a cause is known."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import IssueError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import (
    causes,
    wait_for_certificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import MANAGER_LEASE
from ansible_collections.certflow.kubernetes.plugins.module_utils._process import progress_lines

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, leaf, listed
from tests.unit.plugins.module_utils._csr.objects import APP_SERVING, NOW, approved, condition, csr, encoded

pytestmark = pytest.mark.quick

CSRS = csr_api.COLLECTION
NAME = "hook-apps-1a2b"
ISSUED = csr(approved(), certificate=leaf().pem)
FAILED = condition("Failed", "SignerValidationFailure", "usages did not match [..]")
DENIED = csr(condition("Denied", "No", "not wanted."))


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": obj}


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "99"}, "items": list(items)}


def other_uid(obj: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "uid": "another"}}


def wait(api: ScriptedApi, start: dict[str, Any], seconds: float = 5.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    return wait_for_certificate.wait(api, "certificate of x", start, until=until)  # type: ignore[arg-type]


class SleptClock:
    """A module time whose clock stands still between sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def hurry(monkeypatch: pytest.MonkeyPatch, seconds_of: dict[str, float] | None = None) -> None:
    """Shorten the times from which causes end the wait."""
    monkeypatch.setattr(wait_for_certificate, "EXPLAINED_SECONDS", 0.1)
    monkeypatch.setattr(wait_for_certificate, "SECONDS_OF", {"signer-not-served": 0.05, **(seconds_of or {})})
    monkeypatch.setattr(wait_for_certificate, "SHORTEST_LOOK_SECONDS", 0.05)


def test_each_cause_with_a_time_of_its_own_exists() -> None:
    assert set(wait_for_certificate.SECONDS_OF) <= {cause.code for cause in causes.CAUSES}


@pytest.mark.parametrize("end", [ISSUED, DENIED, csr(approved(), FAILED)], ids=["issued", "denied", "failed"])
def test_an_answer_in_the_watch_ends_the_wait_at_once(end: dict[str, Any]) -> None:
    api = ScriptedApi()
    api.watched = [[event("MODIFIED", csr(approved())), event("MODIFIED", end)], [event("MODIFIED", end)]]
    started = time.monotonic()
    assert wait(api, csr(), seconds=120) == end
    assert time.monotonic() - started < 60
    assert ("GET", CSRS) not in api.asked


@pytest.mark.parametrize("certificate", ["", "PEM"], ids=["", "with certificate"])
@pytest.mark.parametrize("state", ["denied", "failed"])
def test_a_refusal_is_reported_in_the_words_of_the_signer(state: str, certificate: str) -> None:
    api, end = ScriptedApi(), copy.deepcopy(DENIED if state == "denied" else csr(approved(), FAILED))
    if certificate:
        end["status"]["certificate"] = encoded(certificate)
    assert csr_api.is_over(end)
    with pytest.raises(IssueError) as caught:
        wait_for_certificate.require_issued(api, "certificate of x", end)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.values["diagnosis"]["code"]) == ("not-issued", state)
    said = end["status"]["conditions"][-1]["message"]
    assert said in " ".join((caught.value.cause, *caught.value.evidence)), "the signer's own words"
    assert api.asked == []


@pytest.mark.parametrize(
    ("start", "awaited"),
    [(csr(approved(), signerName="example.com/none"), "the signer example.com/none"), (csr(), "an approval")],
)
def test_a_long_wait_shows_for_whom_it_waits(
    monkeypatch: pytest.MonkeyPatch, start: dict[str, Any], awaited: str
) -> None:
    monkeypatch.setattr(wait_for_certificate, "SHORTEST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(wait_for_certificate, "SILENT_SECONDS", 0.3)
    lines: list[str] = []
    api = ScriptedApi({CSRS: page(start)})
    with progress_lines.show_progress(lines.append), pytest.raises(IssueError):
        wait(api, start, seconds=1.0)
    assert [line.partition("  ")[0] for line in lines] == [f"CSR {NAME} waits for {awaited}"] * len(lines)
    assert 1 <= len(lines) <= 3


def test_a_quick_answer_prints_no_line() -> None:
    lines: list[str] = []
    api = ScriptedApi()
    api.watched = [[event("MODIFIED", ISSUED)]]
    with progress_lines.show_progress(lines.append):
        wait(api, csr(approved()))
    assert lines == []


def test_the_list_finds_an_answer_that_the_watch_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_for_certificate, "SHORTEST_LOOK_SECONDS", 0.01)
    api = ScriptedApi({CSRS: page(ISSUED)})
    assert wait(api, csr()) == listed(ISSUED)
    assert [verb for verb, _path in api.asked] == ["WATCH", "GET"]


@pytest.mark.parametrize(
    ("events", "items", "code"),
    [
        ([event("DELETED", csr())], [], "not-issued"),
        ([event("ADDED", other_uid(csr()))], [other_uid(csr())], "request-replaced"),
        ([event("MODIFIED", other_uid(ISSUED))], [other_uid(ISSUED)], "request-replaced"),
    ],
)
def test_deletion_and_another_uid_end_the_wait_at_once(
    events: list[dict[str, Any]], items: list[dict[str, Any]], code: str
) -> None:
    api = ScriptedApi({CSRS: page(*items)})
    api.watched = [events]
    started = time.monotonic()
    with fails(code) as caught:
        wait(api, csr(), seconds=120)
    assert isinstance(caught.value, IssueError)
    assert caught.value.values.get("diagnosis", {}).get("code") == (
        "deleted" if code == "not-issued" else None
    )
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "events",
    [[], [event("ERROR", {"kind": "Status", "code": 410})]],
    ids=["no right to watch", "old version"],
)
def test_a_watch_that_ends_early_causes_no_flood_of_requests(
    monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(wait_for_certificate, "SHORTEST_LOOK_SECONDS", 0.2)
    api = ScriptedApi({CSRS: page(csr())})
    api.watched = [list(events) for _ in range(1000)]
    with pytest.raises(IssueError) as caught:
        wait(api, csr(), seconds=1.0)
    assert caught.value.values["diagnosis"]["code"] == "never-approved"
    assert len([entry for entry in api.asked if entry[0] == "WATCH"]) <= 6


def test_a_name_with_the_signs_of_a_selector_selects_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any requester chooses the name. Another selector would show another object, and the wait would say that it was replaced."""
    monkeypatch.setattr(wait_for_certificate, "SHORTEST_LOOK_SECONDS", 0.01)
    asked: list[str] = []

    class Api(ScriptedApi):
        def list_all(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
            asked.append((query or {})["fieldSelector"])
            return page(csr(approved(), name="a,b=c\\", certificate=leaf().pem))

    wait(Api(), csr(approved(), name="a,b=c\\"))
    assert asked == ["metadata.name=a\\,b\\=c\\\\"]


def test_the_request_is_read_once_more_before_the_diagnosis() -> None:
    answers = iter([page(csr(approved()))])
    api = ScriptedApi({CSRS: lambda: next(answers, page(ISSUED))})
    assert wait(api, csr(approved()), seconds=1.5) == listed(ISSUED)


def test_a_signer_that_is_not_served_ends_the_wait_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cluster has the marks of EKS, so the diagnosis comes after its own time."""
    hurry(monkeypatch, {"signer-not-served": 0.3})
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    api = ScriptedApi(
        {
            CSRS: page(csr(approved())),
            "/version": {"gitVersion": "v1.36.3-eks-3c42bf9"},
            f"{roles}/eks:certificate-controller-signer": {"metadata": {}},
            f"{roles}/eks:certificate-controller-approver": {"metadata": {}},
        }
    )
    started = time.monotonic()
    with pytest.raises(IssueError) as caught:
        wait(api, csr(approved()), seconds=120)
    assert 0.25 < time.monotonic() - started < 60
    assert caught.value.values["diagnosis"]["code"] == "signer-not-served"
    assert APP_SERVING in caught.value.remedy


def test_a_request_without_known_cause_waits_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    api = ScriptedApi(
        {CSRS: page(csr(approved(), signerName="example.com/x")), "/version": {"gitVersion": "v1.36.3"}}
    )
    started = time.monotonic()
    with pytest.raises(IssueError) as caught:
        wait(api, csr(approved(), signerName="example.com/x"), seconds=1.0)
    assert time.monotonic() - started >= 1.0
    assert caught.value.values["diagnosis"]["certainty"] == "one of"
    versions = [path for verb, path in api.asked if (verb, path) == ("GET", "/version")]
    assert len(versions) == 1, "the provider is read once"


def test_a_cause_that_depends_on_an_unknown_provider_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is the only mark. The signer may be slow, so the wait does not end at the first diagnosis."""
    hurry(monkeypatch, {"signer-depends-on-provider": 0.6})
    api = ScriptedApi({CSRS: page(csr(approved())), "/version": {"gitVersion": "v1.36.3-eks-3c42bf9"}})
    started = time.monotonic()
    with pytest.raises(IssueError) as caught:
        wait(api, csr(approved()), seconds=120)
    assert 0.6 <= time.monotonic() - started < 60
    assert caught.value.values["diagnosis"]["code"] == "signer-depends-on-provider"


def lease(renewed: datetime) -> dict[str, Any]:
    stamp = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"spec": {"renewTime": stamp, "leaseDurationSeconds": 15, "holderIdentity": "one"}}


def test_a_stopped_controller_manager_ends_the_wait_after_its_lease_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stopped before the request. The Lease is valid after EXPLAINED_SECONDS, and no longer after the time of its cause.

    A slow machine would look less often, so the clock is one that only sleeping moves.
    """
    hurry(monkeypatch, {"controller-manager-stopped": 2.0})
    clock = SleptClock()
    monkeypatch.setattr(wait_for_certificate, "time", clock)
    api = ScriptedApi({CSRS: page(csr(approved())), MANAGER_LEASE: lease(NOW - timedelta(seconds=14))})
    monkeypatch.setattr(api, "now", lambda: NOW + timedelta(seconds=clock.seconds))
    with pytest.raises(IssueError) as caught:
        wait_for_certificate.wait(api, "certificate of x", csr(approved()), until=120.0)  # type: ignore[arg-type]
    assert 1.0 < clock.seconds < 60
    assert caught.value.values["diagnosis"]["code"] == "controller-manager-stopped"
    asked = [path for _verb, path in api.asked]
    assert (asked.count(MANAGER_LEASE), asked.count("/version")) == (3, 1)


def test_a_lease_that_ran_out_before_the_request_does_not_end_the_wait_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A controller manager that starts with its control plane, or another one, takes the Lease over."""
    hurry(
        monkeypatch,
        {"signer-depends-on-provider": 0.2, "controller-manager-stopped": 0.6},
    )
    api = ScriptedApi({CSRS: page(csr(approved())), MANAGER_LEASE: lease(NOW - timedelta(hours=1))})
    started = time.monotonic()
    with pytest.raises(IssueError) as caught:
        wait(api, csr(approved()), seconds=120)
    assert 0.5 < time.monotonic() - started < 60
    assert caught.value.values["diagnosis"]["code"] == "controller-manager-stopped"


def test_a_certificate_that_comes_during_the_diagnosis_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    newer = {**ISSUED, "metadata": {**ISSUED["metadata"], "resourceVersion": "4712"}}
    api = ScriptedApi(
        {
            CSRS: page(csr(approved())),
            MANAGER_LEASE: lease(NOW - timedelta(hours=1)),
            csr_api.path(NAME): newer,
        }
    )
    assert wait(api, csr(approved()), seconds=120) == listed(newer)
