# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PodCertificateRequests are read in each version of the API, and each one that is not issued as requested is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import MalformedObject
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import pod_certificates
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.pod_certificates import (
    POD_CAUSES,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden, NotFound

from tests.support.certificates.authority import NOW

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

pytestmark = pytest.mark.quick

SIGNER = "example.com/pods"


def request(
    *conditions: tuple[str, str], signer: str = SIGNER, seconds: int | None = 86400, granted: int = 0
) -> dict[str, Any]:
    """Return a request. granted: the lifetime of its certificate in seconds."""
    status: dict[str, Any] = {
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": "as the signer says"}
            for kind, reason in conditions
        ]
    }
    if granted:
        begin = NOW.timestamp()
        times = {"notBefore": begin, "notAfter": begin + granted}
        status.update(
            {key: format_time(NOW.fromtimestamp(value, NOW.tzinfo)) for key, value in times.items()}
        )
    spec = {"signerName": signer, "podName": "web-1", "nodeName": "node-1", "maxExpirationSeconds": seconds}
    metadata = {"name": "req-1", "namespace": "shop", "creationTimestamp": format_time(NOW)}
    return {"metadata": metadata, "spec": spec, "status": status}


ISSUED = ("Issued", "Issued")
CASES: list[tuple[str, dict[str, Any], tuple[str, str] | None]] = [
    ("issued", request(ISSUED, granted=86400), None),
    ("issued, rounded by the signer", request(ISSUED, granted=86100), None),
    ("issued for a shorter time", request(ISSUED, granted=3600), ("lifetime-shortened", "proven")),
    ("issued without times", request(ISSUED), None),
    ("another key type", request(("Denied", "UnsupportedKeyType")), ("key-type-unsupported", "proven")),
    ("annotations", request(("Denied", "InvalidUnverifiedUserAnnotations")), ("denied", "proven")),
    ("denied", request(("Denied", "NotAllowed")), ("denied", "proven")),
    ("failed", request(("Failed", "CaUnavailable")), ("failed", "proven")),
    ("a signer of Kubernetes", request(signer="kubernetes.io/kube-apiserver-client-pod"), ("no-such-signer", "likely")),
    ("no answer", request(), ("pod-not-issued", "one of")),
    ("no status", {**request(), "status": None}, ("pod-not-issued", "one of")),
    ("no lifetime in the request", request(ISSUED, seconds=None, granted=3600), None),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "answer"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_each_cause(obj: dict[str, Any], answer: tuple[str, str] | None) -> None:
    diagnosis = pod_certificates.diagnose(obj, 0)
    assert (diagnosis and (diagnosis.code, diagnosis.certainty)) == answer


def test_every_row_has_a_case_and_a_code_of_its_own() -> None:
    codes = [row.code for row in POD_CAUSES]
    assert {answer[0] for _name, _obj, answer in CASES if answer} == set(codes)
    assert len(codes) == len(set(codes))


def test_the_evidence_has_the_pod_the_condition_and_the_other_requests() -> None:
    client = FakeClient({"v1": {"items": [request(), request(ISSUED), request(signer="example.com/other")]}})
    waiting = [diagnosis for _obj, diagnosis in pod_certificates.read(cast("Client", client))[1] if diagnosis]
    assert [diagnosis.evidence[1].split()[0] for diagnosis in waiting] == ["1", "0"]
    assert "web-1" in waiting[0].evidence[0]
    denied = pod_certificates.diagnose(request(("Denied", "No")), 0)
    assert denied is not None
    assert "No: as the signer says" in denied.evidence


def test_an_object_of_another_shape_is_no_defect() -> None:
    client = FakeClient({"v1": {"items": [{"metadata": {"name": "x"}, "spec": None}]}})
    with pytest.raises(MalformedObject):
        pod_certificates.read(cast("Client", client))


class FakeClient:
    def __init__(self, served: dict[str, Any]) -> None:
        self.served, self.asked = served, 0

    def list_all(self, path: str) -> Any:
        self.asked += 1
        answer = self.served.get(path.split("/")[3], NotFound("no such path"))
        if isinstance(answer, Exception):
            raise answer
        return answer


#: The versions that the API server serves -> the version that is read, and the number of requests.
SERVED: list[tuple[tuple[str, ...], str, int]] = [
    (("v1", "v1beta1"), "certificates.k8s.io/v1", 1),
    (("v1beta1",), "certificates.k8s.io/v1beta1", 2),
    (("v1alpha1",), "certificates.k8s.io/v1alpha1", 3),
    ((), "", 3),
]


@pytest.mark.parametrize(("served", "version", "asked"), SERVED)
def test_the_newest_version_is_read(served: tuple[str, ...], version: str, asked: int) -> None:
    client = FakeClient({key: {"items": [request()]} for key in served})
    read, requests = pod_certificates.read(cast("Client", client))
    assert (read, len(requests), client.asked) == (version, bool(served), asked)


def test_a_refused_list_is_not_an_absent_api() -> None:
    with pytest.raises(Forbidden):
        pod_certificates.read(cast("Client", FakeClient({"v1": Forbidden("no")})))
