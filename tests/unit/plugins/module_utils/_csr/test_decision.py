# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the certificate that is there is kept, and why it is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import decision
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent

from tests.unit.plugins.module_utils._csr.flow import (
    CUSTOM,
    MARKED,
    SERVER_AND_CLIENT,
    YEAR,
    client_intent,
    found,
    intent,
    key_pem,
    later,
    leaf,
    rsa_key,
)
from tests.unit.plugins.module_utils._csr.objects import encoded
from tests.unit.plugins.module_utils._x509.authority import ANY_USAGE, CLIENT_AUTH, DAY, NOW

pytestmark = pytest.mark.quick

RSA = leaf(key=rsa_key())
BOTH = {
    "signer_name": CUSTOM,
    "usages": ["server auth", "client auth"],
    "common_name": "jane",
    "organizations": [],
    "allow_client_identity": True,
}
ANY = {**BOTH, "usages": ["server auth", "any"]}
JANE = leaf("", common_name="jane", usages=(CLIENT_AUTH,))
BY_CUSTOM = {**MARKED, "annotations": {"certflow.kubernetes/signer-name": CUSTOM}}

# (code, word of the message, intent, certificate, what differs in the Secret)
CASES: list[tuple[str, str, Intent, Any, dict[str, Any]]] = [
    ("", "", intent(), leaf(), {}),
    ("", "", intent(), leaf(), MARKED),
    ("Unusable", "lacks tls.crt", intent(), leaf(), {"data": {"tls.crt": None}}),
    ("Unusable", "lacks tls.key", intent(), leaf(), {"data": {"tls.key": None}}),
    ("Unusable", "no certificate found", intent(), leaf(), {"data": {"tls.crt": encoded("x")}}),
    ("KeyMismatch", "does not belong", intent(), leaf(), {"data": {"tls.key": encoded(key_pem(leaf()))}}),
    ("Names", "hook.apps.svc", intent(), leaf("hook.apps.svc"), {}),
    ("Names", "other.example.com", intent(), leaf("hook.apps.svc", "other.example.com"), MARKED),
    ("Subject", "CN=jane", client_intent(common_name="john"), JANE, MARKED),
    ("Subject", "CN=jane", client_intent(), JANE, {}),
    ("", "", client_intent(organizations=[]), JANE, {}),
    ("Subject", "hook", intent(**BOTH), leaf(usages=SERVER_AND_CLIENT), {}),
    ("", "", intent(), leaf(common_name="anything"), {}),
    ("Usages", "client auth", intent(), leaf(usages=SERVER_AND_CLIENT), {}),
    ("Usages", "its usages are client auth", intent(), leaf(usages=(CLIENT_AUTH,)), {}),
    ("", "", intent(**ANY), leaf(usages=(ANY_USAGE,), common_name="jane"), {}),
    ("Usages", "also be used for any", intent(), leaf(usages=(ANY_USAGE,)), {}),
    ("KeyType", "rsa-2048, wanted is ecdsa-p256", intent(), RSA, MARKED),
    ("", "", intent(), RSA, {}),
    ("", "", intent(key_type="rsa-2048"), RSA, MARKED),
    ("Signer", f"issued by {CUSTOM}", intent(), leaf(), BY_CUSTOM),
    ("NotYetValid", "not valid before", intent(), leaf(not_before=later(minutes=6)), {}),
    ("", "", intent(), leaf(not_before=later(minutes=4)), {}),
    ("Expired", "expired at 2026-06-15 12:00 UTC", intent(), leaf(not_after=NOW), {}),
    ("", "", intent(renew_before="1h"), leaf(not_after=later(minutes=61)), {}),
    ("RenewalDue", "3600 seconds before", intent(renew_before="1h"), leaf(not_after=later(minutes=60)), {}),
    ("RenewalDue", "400 days before", intent(renew_before="400d"), leaf(), {}),
    ("RenewalDue", "", intent(renew_before="999999999d"), leaf(), {}),
]


@pytest.mark.parametrize(("code", "word", "wanted", "issued", "changed"), CASES)
def test_each_reason(code: str, word: str, wanted: Intent, issued: Any, changed: dict[str, Any]) -> None:
    reason = decision.decide(wanted, found(issued, of=wanted, **changed), NOW)
    assert (reason.code if reason else "") == code, reason
    if reason:
        assert word in reason.message
        assert reason.message.startswith("Secret apps/hook-tls: ")


def test_the_first_reason_counts() -> None:
    expired = leaf("other.example.com", not_after=NOW - DAY)
    reason = decision.decide(intent(), found(expired, **MARKED), NOW)
    assert reason is not None
    assert reason.code == "Names"


def test_an_absent_secret_is_a_reason() -> None:
    assert decision.no_secret(intent()).message == "Secret apps/hook-tls does not exist"


# (lifetime, when it is renewed: before its end)
MARGINS = [
    (YEAR, timedelta(days=30)),
    (timedelta(days=720), timedelta(days=30)),
    (timedelta(days=90), timedelta(days=30)),
    (timedelta(days=30), timedelta(days=10)),  # OpenShift: a fixed 30 days would renew at every run
    (timedelta(minutes=15), timedelta(minutes=5)),  # 10 minutes, backdated by 5
]


@pytest.mark.parametrize(("lifetime", "margin"), MARGINS)
def test_it_is_renewed_at_a_third_of_its_life_at_most_thirty_days_before_its_end(
    lifetime: timedelta, margin: timedelta
) -> None:
    issued = leaf(not_before=NOW, lifetime=lifetime)
    end, seen = NOW + lifetime, found(issued)
    assert decision.decide(intent(), seen, NOW) is None
    assert decision.decide(intent(), seen, end - margin - timedelta(seconds=1)) is None
    reason = decision.decide(intent(), seen, end - margin)
    assert reason is not None
    assert reason.code == decision.DUE
