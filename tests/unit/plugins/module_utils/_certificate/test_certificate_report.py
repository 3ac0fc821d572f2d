# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The values at the top of each result: what was done, the expiry, the signer and the provider."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    certificate_flow,
    certificate_report,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers, trust_anchors
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets

from tests.support.certificates.authority import DAY, NOW, authority
from tests.unit.plugins.module_utils._certificate.runs import COLLECTION, HOOK, PATH, PENDING, SPEC, webhook
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    ca,
    created,
    found,
    intent,
    leaf,
    rsa_key,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING

pytestmark = pytest.mark.quick

PAIR = leaf()
KEPT = {**MARKED, "labels": markers.labels_for(SPEC)}
EMPTY = {"metadata": {"resourceVersion": "1"}, "items": []}


def result_of(held: dict[str, Any] | None, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    api = ScriptedApi(
        {
            PATH: held,
            COLLECTION: {**EMPTY, "items": [held] if held else []},
            PENDING: None,
            csr_api.COLLECTION: EMPTY,
            bundle_targets.path(HOOK): webhook("cluster"),
        },
        ca_pem=ca().pem,
    )
    run = CertificateRun(api, intent(**options), (HOOK,), check_mode=check_mode)  # type: ignore[arg-type]
    act = certificate_flow.remove_certificate if "state" in options else certificate_flow.ensure_certificate
    return dict(act(run).values)


@pytest.mark.parametrize(
    ("secret", "options", "reason", "days_left", "signer"),
    [
        (None, {}, "a certificate is due (Secret apps/hook-tls does not exist)", None, KUBELET_SERVING),
        (secret_object(**KEPT), {}, "the certificate is kept", 364, KUBELET_SERVING),
        (
            secret_object(**KEPT),
            {"secret": {"labels": {"tier": "edge"}}},
            "the certificate is kept. To be brought up to date: the metadata of Secret apps/hook-tls",
            364,
            KUBELET_SERVING,
        ),
        (
            secret_object(**KEPT),
            {"secret": {"ca_key": "ca.crt"}},
            "the certificate is kept. To be brought up to date: ca.crt of Secret apps/hook-tls",
            364,
            KUBELET_SERVING,
        ),
        (secret_object(PAIR, **created(PAIR)), {"state": "absent"}, "to be removed: Secret apps/hook-tls", None, KUBELET_SERVING),
        (None, {"state": "absent"}, "this collection has nothing to remove", None, ""),
    ],
)  # fmt: skip
def test_a_result_says_what_was_done(
    secret: Any, options: dict[str, Any], reason: str, days_left: int | None, signer: str
) -> None:
    values = result_of(secret, check_mode=True, **options)
    assert (values["reason"], values["days_left"], values["signer"]) == (reason, days_left, signer)
    assert (values["not_after"] is None) is (days_left is None)
    assert values["not_after"] in (None, "2027-06-14T12:00:00Z")


@pytest.mark.parametrize(
    ("host", "signer", "provider"),
    [
        ("https://0A1B.gr7.eu-west-1.eks.amazonaws.com", KUBELET_SERVING, {"name": "eks"}),
        ("https://10.0.0.1:6443", "beta.eks.amazonaws.com/app-serving", {"name": "eks"}),
        ("https://10.0.0.1:6443", KUBELET_SERVING, {}),
        ("https://10.0.0.1:6443", "ephemeral-ca", {}),
        ("https://10.0.0.1:6443", "not a signer", {}),
    ],
)
def test_the_provider_is_named_without_a_request(host: str, signer: str, provider: dict[str, str]) -> None:
    api = ScriptedApi()
    api.host_name = host.removeprefix("https://").partition(":")[0].lower()
    values = certificate_report.values(api, intent(), reason="x", signer=signer)  # type: ignore[arg-type]
    assert (values["signer"], values["provider"], api.asked) == (signer, provider, [])


@pytest.mark.parametrize(("days", "left"), [(900, 364), (9, 9)])
def test_the_end_of_a_chain_is_that_of_its_first_certificate(days: int, left: int) -> None:
    short = authority("short", not_after=NOW + days * DAY)
    held, wanted = leaf(by=short), intent(ca_bundle=short.pem)
    offered = trust_anchors.candidates(ScriptedApi(), wanted, held.pem)  # type: ignore[arg-type]
    anchor = trust_anchors.choose(wanted, held.pem, offered, NOW)
    facts = found(held).certificate
    values = certificate_report.values(ScriptedApi(), wanted, reason="x", facts=facts, anchor=anchor)  # type: ignore[arg-type]
    assert values["days_left"] == left
    assert values["certificate"]["not_after"] == "2027-06-14T12:00:00Z"


def test_an_expired_certificate_has_no_days_left() -> None:
    expired = leaf(not_after=NOW - DAY / 2)
    facts = found(expired).certificate
    values = certificate_report.values(ScriptedApi(), intent(), reason="x", facts=facts)  # type: ignore[arg-type]
    assert values["days_left"] == -1
    assert facts is not None
    assert facts.not_after + timedelta(days=1) > NOW


def test_the_diff_of_a_replacement_shows_ca_lifetime_and_key_type() -> None:
    secret, wanted = found(leaf(key=rsa_key())), intent()
    foreseen = certificate_report.diff(secret, None, (), issues=wanted)
    before, after = foreseen["before"]["certificate"], foreseen["after"]["certificate"]
    assert (before["issuer"], before["key_type"], before["not_after"][:4]) == (
        "CN=cluster",
        "rsa-2048",
        "2027",
    )
    assert (after["signer"], after["key_type"]) == (KUBELET_SERVING, "ecdsa-p256")
    assert {"names", "usages", "lifetime"} <= after.keys()
    made = certificate_report.diff(secret, secret.certificate, (), issues=wanted)["after"]["certificate"]
    assert (made["issuer"], made["key_type"]) == ("CN=cluster", "ecdsa-p256")
    kept = certificate_report.diff(secret, secret.certificate, ())
    assert kept["before"] == kept["after"]
