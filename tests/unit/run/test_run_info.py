# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_info: one answer for a request, however it is found, and one look at each signer's others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import _requests
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube._errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._run import _k8s_csr_info

from tests.unit.csr.flow import Api, api_error, leaf
from tests.unit.csr.objects import approved, csr

pytestmark = pytest.mark.quick

CSRS = _requests.COLLECTION
STUCK = [csr(approved(), name=f"stuck-{number}") for number in range(3)]


def api_with(*csrs: dict[str, Any]) -> Api:
    listed = {"metadata": {"resourceVersion": "9"}, "items": list(csrs)}
    return Api({CSRS: listed, **{_requests.path(obj["metadata"]["name"]): obj for obj in csrs}})


def info(api: Api, **changed: Any) -> dict[str, Any]:
    options = {"gather": ["csrs", "provider"], "provider": "eks", "providers": [], "signers": {}, **changed}
    return dict(_k8s_csr_info.run(api, options, False).values)  # type: ignore[arg-type]


def test_by_name_and_in_the_list_the_diagnosis_is_the_same() -> None:
    api = api_with(*STUCK)
    [one] = info(api, name="stuck-0")["csrs"]
    assert one == info(api)["csrs"][0]
    assert one["diagnosis"]["certainty"] == "proven", "the two others prove it"
    assert any(text.startswith("2 other") for text in one["diagnosis"]["evidence"])


def test_each_signers_requests_are_counted_once() -> None:
    api = api_with(*STUCK, csr(approved(), certificate=leaf().pem, signerName="example.com/x"))
    info(api)
    assert api.asked == [("GET", CSRS)] * 2, (
        "all of them, and one signer's: what is issued needs no explanation"
    )


def test_where_others_cannot_be_seen_nothing_is_claimed_of_them() -> None:
    api = api_with(STUCK[0])
    api.objects[CSRS] = api_error(Forbidden)
    [one] = info(api, name="stuck-0")["csrs"]
    assert one["diagnosis"]["certainty"] == "likely"


def test_the_provider_says_where_its_ca_is_and_how_long_it_issues() -> None:
    provider = info(api_with(), provider="openshift")["provider"]
    assert "csr-controller-ca" in provider["ca"]
    assert provider["longest_lifetime_seconds"] == 720 * 3600
    unknown = info(api_with(), provider="strange", signers={"default": "example.com/x"})["provider"]
    assert (unknown["ca"], unknown["longest_lifetime_seconds"]) == ("", None)
