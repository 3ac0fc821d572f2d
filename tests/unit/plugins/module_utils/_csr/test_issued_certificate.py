# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer may do as it likes: what it issued is used only if it is what was asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import issued_certificate
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from cryptography import x509

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    SERVER_AND_CLIENT,
    ca,
    client_intent,
    intent,
    later,
    leaf,
)
from tests.unit.plugins.module_utils._csr.objects import APP_SERVING, OWN
from tests.unit.plugins.module_utils._x509 import authority
from tests.unit.plugins.module_utils._x509.authority import ANY_USAGE, CLIENT_AUTH, DAY, NOW, Issued

pytestmark = pytest.mark.quick

KEY = authority.new_key()
HASH = private_keys.public_key_sha256(KEY.public_key())
HOUR = {"expiration_seconds": 3600}
IP = {"ip_addresses": ["10.1.2.3"], "allow_names": ["10.1.2.3"]}
NAMES_AND_IP = [*authority.dns(*OWN), *authority.addresses("10.1.2.3")]


def own(*names: str, **options: Any) -> Issued:
    return leaf(*names, key=options.pop("key", KEY), **options)


def plain(*names: x509.GeneralName, **options: Any) -> Issued:
    return authority.issue("x", ca(), key=KEY, names=names, usages=[authority.SERVER_AUTH], **options)


def jane(**options: Any) -> Issued:
    return own("", **{"common_name": "jane", "usages": (CLIENT_AUTH,), **options})


GOOD: list[tuple[Intent, str]] = [
    (intent(), own().pem),
    (intent(), own(common_name="whatever").pem),
    (intent(), own(by=ca("middle", issuer="cluster")).pem + ca("middle", issuer="cluster").pem + ca().pem),
    (intent(**IP), plain(*NAMES_AND_IP).pem),
    (intent(**HOUR), own(not_before=NOW, lifetime=timedelta(minutes=65)).pem),
    (intent(**HOUR), own(not_after=later(minutes=10)).pem),
    (intent(), own(not_before=later(minutes=5)).pem),
    (client_intent(organizations=[]), jane().pem),
]


@pytest.mark.parametrize(("wanted", "pem"), GOOD)
def test_what_was_asked_for_is_taken(wanted: Intent, pem: str) -> None:
    facts = issued_certificate.check(wanted, HASH, pem, NOW)
    assert facts.public_key_sha256 == HASH


# (names in the refusal, intent, PEM)
LIES: list[tuple[tuple[str, ...], Intent, str]] = [
    ((), intent(), leaf().pem),
    ((), intent(), authority.authority("x", ca(), key=KEY).pem),
    (("hook",), intent(), own("hook.apps", "hook.apps.svc").pem),
    (("hook,", "hook.apps,", "hook.apps.svc"), intent(), own("").pem),
    (("kubernetes.default.svc",), intent(), own(*OWN, "kubernetes.default.svc").pem),
    (("10.1.2.3",), intent(), plain(*NAMES_AND_IP).pem),
    (("10.1.2.3",), intent(**IP), own().pem),
    (
        ("a@example.com",),
        intent(),
        plain(*NAMES_AND_IP[:3], x509.RFC822Name("a@example.com")).pem,
    ),
    (
        ("spiffe://a/b",),
        intent(),
        plain(*NAMES_AND_IP[:3], x509.UniformResourceIdentifier("spiffe://a/b")).pem,
    ),
    (("usages", "client"), intent(), own(usages=(CLIENT_AUTH,)).pem),
    (("usages",), intent(), own(usages=()).pem),
    (("client",), intent(), own(usages=SERVER_AND_CLIENT).pem),
    (("any",), intent(), own(usages=(ANY_USAGE,)).pem),
    (("2026-06-15", "12:00"), intent(), own(not_after=NOW).pem),
    (("2026-06-15", "12:06"), intent(), own(not_before=later(minutes=6)).pem),
    (("3600",), intent(**HOUR), own(not_after=later(minutes=66)).pem),
    (("31536000",), intent(signer_name=APP_SERVING), own(lifetime=367 * DAY).pem),
    (("CN=system:node:hook.apps.svc",), intent(), own().pem + leaf().pem),
    (
        ("CN=middle", "CN=system:node"),
        intent(),
        own().pem + ca("middle", issuer="cluster").pem,
    ),
    (
        ("CN=cluster", "CN=system:node"),
        intent(),
        own(by=ca("middle", issuer="cluster")).pem + ca().pem + ca("middle", issuer="cluster").pem,
    ),
    (("CN=john",), client_intent(), jane(common_name="john").pem),
    (("CN=jane",), client_intent(), jane().pem),
    ((), intent(), "garbage"),
    ((), intent(), ""),
    ((), intent(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    (("base64",), intent(), own().pem + "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
]


@pytest.mark.parametrize(("names", "wanted", "pem"), LIES, ids=lambda value: str(value)[:40])
def test_anything_else_is_refused(names: tuple[str, ...], wanted: Intent, pem: str) -> None:
    with fails("not-issued", wanted.signer.name, *names) as caught:
        issued_certificate.check(wanted, HASH, pem, NOW)
    assert caught.value.remedy
