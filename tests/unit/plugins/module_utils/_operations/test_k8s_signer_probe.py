# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_signer_probe over an API server that fails, and that issues wrong certificates."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    ConnectionFailed,
    Forbidden,
    KubeError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_signer_probe
from cryptography import x509

from tests.support.certificates import authority
from tests.support.certificates.authority import SERVER_AUTH
from tests.support.failures import absent
from tests.unit.plugins.module_utils._csr.flow import CUSTOM, ScriptedApi, ca
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING, encoded

pytestmark = pytest.mark.quick


class Signers(ScriptedApi):
    """An API server that answers an approved request with the result of ``issue``: PEM text, or "" for no certificate."""

    def __init__(self, **options: Any) -> None:
        super().__init__(seconds=8.0, **options)
        self.csrs: dict[str, dict[str, Any]] = {}
        self.fails: dict[str, BaseException] = {}
        self.issue: Any = lambda csr: ""
        self.on_write = self._answer

    def get(self, path: str, query: Any = None, accept: str = "") -> dict[str, Any]:
        if path == csr_api.COLLECTION:
            if "LIST" in self.fails:
                raise self.fails["LIST"]
            return {"metadata": {"resourceVersion": "1"}, "items": list(self.csrs.values())}
        return super().get(path, query, accept)

    def _answer(self, method: str, path: str, body: Any) -> Any:
        if method == "DELETE":
            if method not in self.fails:
                self.csrs = {name: csr for name, csr in self.csrs.items() if csr["metadata"]["uid"] != body}
        else:
            name = body["metadata"]["name"]
            stamp = {
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": "2026-06-15T12:00:00Z",
            }
            csr = {**body, "metadata": {**body["metadata"], **stamp}}
            self.csrs[name] = csr
            if method == "PUT":
                csr["status"]["certificate"] = encoded(self.issue(csr))
        if method in self.fails:  # the write took effect, and its answer is lost
            raise self.fails[method]
        return {} if method == "DELETE" else csr


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: authority.NOW)


def probe(api: ScriptedApi, *signers: str, seconds: int = 0) -> Result:
    given = {"signers": list(signers) or [KUBELET_SERVING], "probe_seconds": seconds}
    return k8s_signer_probe.run(api, given, False)  # type: ignore[arg-type]


def entry(api: ScriptedApi) -> dict[str, Any]:
    [found] = probe(api).values["signers"]
    return dict(found)


FAILURES: list[tuple[str, BaseException]] = [
    ("POST", ConnectionFailed("gone")),
    ("PUT", ConnectionFailed("gone")),
    ("PUT", KeyboardInterrupt()),
    ("PUT", ApiError("broken", status=503)),
]


@pytest.mark.parametrize(("method", "error"), FAILURES)
def test_no_request_stays_after_a_failure(method: str, error: BaseException) -> None:
    """The write took effect and its answer was lost. The request is found by its label."""
    api = Signers()
    api.fails = {method: error}
    with pytest.raises(type(error)):
        probe(api)
    assert api.csrs == {}
    assert api.writes()[-1][0] == "DELETE"


@pytest.mark.parametrize("error", [ConnectionFailed("gone"), Forbidden("no", status=403)])
def test_requests_that_stay_are_reported(error: KubeError) -> None:
    api = Signers()
    api.fails = {"DELETE": error}
    result = probe(api)
    assert result.changed
    [warning] = result.warnings
    assert next(iter(api.csrs)) in warning
    assert "left over" in warning


def test_requests_that_stay_after_a_failure_are_evidence() -> None:
    api = Signers()
    api.fails = {"PUT": ConnectionFailed("gone"), "DELETE": ConnectionFailed("gone")}
    with pytest.raises(ConnectionFailed) as caught:
        probe(api)
    assert "left over" in caught.value.evidence[0]


def test_requests_that_cannot_be_listed_are_reported_by_their_label() -> None:
    api = Signers()
    real = api._answer

    def answer(method: str, path: str, body: Any) -> Any:
        made = real(method, path, body)
        if method == "PUT":
            api.fails["LIST"] = ConnectionFailed("gone")
        return made

    api.on_write = answer
    with pytest.raises(ConnectionFailed) as caught:
        probe(api)
    assert "certflow.kubernetes/signer-probe=" in caught.value.evidence[0]


def signed(csr: dict[str, Any], *names: str, **options: Any) -> str:
    """Return a certificate of the cluster's CA for the key of the request."""
    request = x509.load_pem_x509_csr(base64.b64decode(csr["spec"]["request"]))
    asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = authority.dns(*names) if names else list(asked)
    # The request has the public key, and no other part of the key is needed here.
    return authority.issue(
        "system:node:x", ca(), key=request, names=held, usages=[SERVER_AUTH], **options
    ).pem


SOON = authority.NOW + 3650 * authority.DAY


def test_an_issued_certificate_is_described() -> None:
    api = Signers(ca_pem=ca("other").pem + ca().pem)
    api.issue = lambda csr: signed(csr, not_after=SOON)
    found = entry(api)
    assert (found["issued"], found["diagnosis"], found["ca_problem"]) == (True, None, None)
    assert found["ca_fingerprints"] == [ca().fingerprint]
    assert found["certificate"]["lifetime_seconds"] == 3650 * 24 * 3600, (
        "what was given, not what was asked for"
    )


def test_no_ca_is_assumed() -> None:
    api = Signers(ca_pem=ca("other").pem)
    api.issue = lambda csr: signed(csr, not_after=SOON)
    found = entry(api)
    assert (found["issued"], found["ca_source"], found["ca_fingerprints"]) == (True, None, [])
    assert "the API server's CA in test" in found["ca_problem"]
    assert "ConfigMap kube-system/kube-root-ca.crt: it does not exist" in found["ca_problem"]


def test_a_certificate_that_differs_from_the_request_is_diagnosed() -> None:
    api = Signers(ca_pem=ca().pem)
    api.issue = lambda csr: signed(csr, "other.example.com", not_after=SOON)
    found = entry(api)
    assert (found["issued"], found["diagnosis"]["code"]) == (True, "not-as-asked")
    assert not absent([found["request"]["names"][0]], found["diagnosis"]["cause"])


def test_all_are_sent_and_approved_before_the_first_is_waited_for() -> None:
    api = Signers()
    probe(api, KUBELET_SERVING, CUSTOM, "example.com/other")
    assert [method for method, _path in api.writes()] == ["POST"] * 3 + ["PUT"] * 3 + ["DELETE"] * 3
