# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stored certificate is kept only if it fits, and an issued one is used only if it is what was requested."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import certificate_rules
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from cryptography import x509

from tests.support.certificates import authority
from tests.support.certificates.authority import ANY_USAGE, CLIENT_AUTH, DAY, NOW, Issued
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    CUSTOM,
    MARKED,
    SERVER_AND_CLIENT,
    YEAR,
    ca,
    client_intent,
    found,
    intent,
    key_pem,
    later,
    leaf,
    rsa_key,
)
from tests.unit.plugins.module_utils._csr.objects import APP_SERVING, OWN, encoded

pytestmark = pytest.mark.quick

# The certificate in the Secret

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
    ("Names", "hook.apps.svc", intent(), leaf("hook.apps.svc"), MARKED),
    # No API server asks for the short names, so a certificate of another owner is kept without them.
    ("", "", intent(), leaf("hook.apps.svc"), {}),
    ("", "", intent(), leaf(*OWN, "hook.apps.svc.cluster.local"), {}),
    ("Names", "the task asks for hook, hook.apps.svc", intent(names=["hook"]), leaf("hook.apps.svc"), {}),
    ("Names", "hook.apps.svc", intent(), leaf("hook", "hook.apps"), {}),
    ("Names", "other.example.com", intent(), leaf("hook.apps.svc", "other.example.com"), MARKED),
    ("Subject", "CN=jane", client_intent(common_name="john"), JANE, MARKED),
    ("Subject", "CN=jane", client_intent(), JANE, {}),
    ("", "", client_intent(organizations=[]), JANE, {}),
    ("Subject", "hook", intent(**BOTH), leaf(usages=SERVER_AND_CLIENT), {}),
    ("", "", intent(), leaf(common_name="anything"), {}),
    ("Usages", "client auth", intent(), leaf(usages=SERVER_AND_CLIENT), MARKED),
    ("", "", intent(), leaf(usages=SERVER_AND_CLIENT), {}),
    ("Usages", "its usages are client auth", intent(), leaf(usages=(CLIENT_AUTH,)), {}),
    ("", "", intent(**ANY), leaf(usages=(ANY_USAGE,), common_name="jane"), {}),
    ("Usages", "also be used for any", intent(), leaf(usages=(ANY_USAGE,)), MARKED),
    ("KeyType", "rsa-2048, and the task asks for ecdsa-p256", intent(), RSA, MARKED),
    ("", "", intent(), RSA, {}),
    ("", "", intent(key_type="rsa-2048"), RSA, MARKED),
    ("Signer", f"is from {CUSTOM}", intent(), leaf(), BY_CUSTOM),
    ("NotYetValid", "not valid before", intent(), leaf(not_before=later(minutes=6)), {}),
    ("", "", intent(), leaf(not_before=later(minutes=4)), {}),
    ("RenewalDue", "expired at 2026-06-15 12:00 UTC", intent(), leaf(not_after=NOW), {}),
    ("", "", intent(renew_before="1h"), leaf(not_after=later(minutes=61)), {}),
    ("RenewalDue", "3600 seconds before", intent(renew_before="1h"), leaf(not_after=later(minutes=60)), {}),
    ("RenewalDue", "400 days before", intent(renew_before="400d"), leaf(), {}),
    ("RenewalDue", "", intent(renew_before="999999999d"), leaf(), {}),
]


@pytest.mark.parametrize(("code", "word", "wanted", "issued", "changed"), CASES)
def test_reasons_to_issue(code: str, word: str, wanted: Intent, issued: Any, changed: dict[str, Any]) -> None:
    reason = certificate_rules.reason_to_issue(wanted, found(issued, of=wanted, **changed), NOW)
    assert (reason.code if reason else "") == code, reason
    if reason:
        assert word in reason.message
        assert reason.message.startswith("Secret apps/hook-tls: ")


def test_the_first_reason_is_reported() -> None:
    expired = leaf("other.example.com", not_after=NOW - DAY)
    reason = certificate_rules.reason_to_issue(intent(), found(expired, **MARKED), NOW)
    assert reason is not None
    assert reason.code == "Names"


def test_a_missing_secret_is_a_reason() -> None:
    assert certificate_rules.missing_secret(intent()).message == "Secret apps/hook-tls does not exist"


# (lifetime, time of the renewal before the end)
MARGINS = [
    (YEAR, timedelta(days=30)),
    (timedelta(days=720), timedelta(days=30)),
    (timedelta(days=90), timedelta(days=30)),
    (timedelta(days=30), timedelta(days=10)),  # OpenShift: a fixed 30 days would renew at every run
    (timedelta(minutes=15), timedelta(minutes=5)),  # 10 minutes, backdated by 5
]


@pytest.mark.parametrize(("lifetime", "margin"), MARGINS)
def test_renewal_is_a_third_of_the_lifetime_before_the_end_and_at_most_thirty_days(
    lifetime: timedelta, margin: timedelta
) -> None:
    issued = leaf(not_before=NOW, lifetime=lifetime)
    end, secret = NOW + lifetime, found(issued)
    assert certificate_rules.reason_to_issue(intent(), secret, NOW) is None
    assert certificate_rules.reason_to_issue(intent(), secret, end - margin - timedelta(seconds=1)) is None
    reason = certificate_rules.reason_to_issue(intent(), secret, end - margin)
    assert reason is not None
    assert reason.code == certificate_rules.RENEWAL_DUE


def test_a_renewal_is_due_by_the_later_clock() -> None:
    secret, wanted = found(leaf(not_before=NOW, lifetime=YEAR)), intent()
    due = NOW + YEAR - timedelta(days=30)
    before = due - timedelta(hours=3)
    assert certificate_rules.reason_to_issue(wanted, secret, before, before + timedelta(hours=2)) is None
    reason = certificate_rules.reason_to_issue(wanted, secret, before, due)
    assert reason is not None
    assert reason.code == certificate_rules.RENEWAL_DUE


def test_a_clock_that_no_certificate_would_satisfy_renews_nothing() -> None:
    """A new certificate would be due at once, and so each run would renew it."""
    secret = found(leaf(not_before=NOW, lifetime=YEAR))
    assert certificate_rules.reason_to_issue(intent(), secret, NOW, NOW + YEAR) is None


# The certificate from the signer

KEY = authority.new_key()
HASH = private_keys.public_key_sha256(KEY.public_key())
HOUR = {"expiration_seconds": 3600}
IP = {"names": ["10.1.2.3"], "allow_names": ["10.1.2.3"]}
NAMES_AND_IP = [*authority.dns(*OWN), *authority.addresses("10.1.2.3")]


def own(*names: str, **options: Any) -> Issued:
    return leaf(*names, key=options.pop("key", KEY), **options)


def plain(*names: x509.GeneralName, **options: Any) -> Issued:
    return authority.issue("x", ca(), key=KEY, names=names, usages=[authority.SERVER_AUTH], **options)


def jane(**options: Any) -> Issued:
    return own("", **{"common_name": "jane", "usages": (CLIENT_AUTH,), **options})


USED: list[tuple[Intent, str]] = [
    (intent(), own().pem),
    (intent(), own(common_name="whatever").pem),
    (intent(), own(by=ca("middle", issuer="cluster")).pem + ca("middle", issuer="cluster").pem + ca().pem),
    (intent(**IP), plain(*NAMES_AND_IP).pem),
    (intent(**HOUR), own(not_before=NOW, lifetime=timedelta(minutes=65)).pem),
    (intent(**HOUR), own(not_after=later(minutes=10)).pem),
    (intent(), own(not_before=later(minutes=5)).pem),
    (client_intent(organizations=[]), jane().pem),
]


@pytest.mark.parametrize(("wanted", "pem"), USED)
def test_a_certificate_that_fits_the_request_is_used(wanted: Intent, pem: str) -> None:
    facts = certificate_rules.check_issued(wanted, HASH, pem, NOW)
    assert facts.public_key_sha256 == HASH


# (words of the message, intent, PEM)
REFUSED: list[tuple[tuple[str, ...], Intent, str]] = [
    ((), intent(), leaf().pem),
    ((), intent(), authority.authority("x", ca(), key=KEY).pem),
    (("hook",), intent(), own("hook.apps", "hook.apps.svc").pem),
    (("hook,", "hook.apps,", "hook.apps.svc"), intent(), own("").pem),
    (("kubernetes.default.svc",), intent(), own(*OWN, "kubernetes.default.svc").pem),
    (("10.1.2.3",), intent(), plain(*NAMES_AND_IP).pem),
    (("10.1.2.3",), intent(**IP), own().pem),
    (("a@example.com",), intent(), plain(*NAMES_AND_IP[:3], x509.RFC822Name("a@example.com")).pem),
    (("spiffe://a/b",), intent(), plain(*NAMES_AND_IP[:3], x509.UniformResourceIdentifier("spiffe://a/b")).pem),
    (("usages", "client"), intent(), own(usages=(CLIENT_AUTH,)).pem),
    (("usages",), intent(), own(usages=()).pem),
    (("client",), intent(), own(usages=SERVER_AND_CLIENT).pem),
    (("any",), intent(), own(usages=(ANY_USAGE,)).pem),
    (("2026-06-15", "12:00"), intent(), own(not_after=NOW).pem),
    (("2026-06-15", "12:06"), intent(), own(not_before=later(minutes=6)).pem),
    (("3600",), intent(**HOUR), own(not_after=later(minutes=66)).pem),
    (("31536000",), intent(signer_name=APP_SERVING), own(lifetime=367 * DAY).pem),
    (("CN=system:node:hook.apps.svc",), intent(), own().pem + leaf().pem),
    (("CN=middle", "CN=system:node"), intent(), own().pem + ca("middle", issuer="cluster").pem),
    (("CN=cluster", "CN=system:node"), intent(), own(by=ca("middle", issuer="cluster")).pem + ca().pem + ca("middle", issuer="cluster").pem),
    (("CN=john",), client_intent(), jane(common_name="john").pem),
    (("CN=jane",), client_intent(), jane().pem),
    ((), intent(), "garbage"),
    ((), intent(), ""),
    ((), intent(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    (("base64",), intent(), own().pem + "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "wanted", "pem"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_certificate_that_differs_is_refused(names: tuple[str, ...], wanted: Intent, pem: str) -> None:
    with fails("not-issued", wanted.signer.name, *names) as caught:
        certificate_rules.check_issued(wanted, HASH, pem, NOW)
    assert caught.value.remedy
