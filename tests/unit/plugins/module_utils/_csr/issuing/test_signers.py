# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The refusals of each signer are known before a request is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.usages import (
    CLIENT_USAGES,
    KNOWN_USAGES,
    SERVING_USAGES,
    USAGES,
    is_client_identity,
    unexpected_usages,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys

from tests.support.certificates.signer_requests import (
    APP_SERVING,
    CLIENT,
    CUSTOM,
    GOOD,
    KUBELET_SERVING,
    OWN_HAND,
    REFUSED,
    TAKEN,
)
from tests.support.failures import fails

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(("name", "changes", "texts"), REFUSED)
def test_refusals_in_the_signers_words_and_order(
    name: str, changes: dict[str, Any], texts: list[str]
) -> None:
    row = signers.find_signer(name)
    assert signers.list_refusals(row, replace(GOOD[name], **changes)) == texts
    assert all(signers.remedy_for(name, f"spec is invalid: {text}") for text in texts)


@pytest.mark.parametrize(("name", "changes"), TAKEN)
def test_taken(name: str, changes: dict[str, Any]) -> None:
    assert signers.list_refusals(signers.find_signer(name), replace(GOOD[name], **changes)) == []


@pytest.mark.parametrize("name", sorted(set(signers.SIGNERS) - {signers.LEGACY_UNKNOWN}))
def test_defaults_are_taken_by_the_signer_itself(name: str) -> None:
    row = signers.find_signer(name)
    common_name, organizations = signers.subject_for(
        row, "hook", "apps", "" if row.common_names else "system:node:one"
    )
    request = CertificateRequest(
        common_name=common_name,
        organizations=organizations,
        dns_names=("hook.apps.svc",) if row.purpose == "serving" else (),
        usages=row.usages,
        key_type="ecdsa-p256",
    )
    assert signers.list_refusals(row, request) == []
    assert is_client_identity(row.usages) == (row.purpose == "client")


def test_every_key_type_is_taken_by_the_controller_manager() -> None:
    for key_type in private_keys.KEY_TYPES:
        request = replace(GOOD[KUBELET_SERVING], key_type=key_type)
        assert signers.list_refusals(signers.find_signer(KUBELET_SERVING), request) == []


def test_legacy_unknown_is_explained() -> None:
    with fails("invalid-request", "v1beta1") as caught:
        signers.find_signer("kubernetes.io/legacy-unknown")
    assert KUBELET_SERVING in caught.value.remedy
    assert APP_SERVING in caught.value.remedy


@pytest.mark.parametrize(
    "name", ["example.com/a", "a.b/c.d-e.f", "issuers.cert-manager.io/ns.name", "kubernetes.io/other"]
)
def test_generic_row(name: str) -> None:
    row = signers.find_signer(name)
    assert (row.name, row.rules) == (name, ())


@pytest.mark.parametrize(
    "name",
    ["", "kubelet-serving", "example/a", "example.com/", "/a", "example.com/a/b", "Example.com/a", "example.com/A",
     "example.com/a_b", f"example.com/{'a' * 64}", "example.com/a\n", "*"],
)  # fmt: skip
def test_invalid_signer_name(name: str) -> None:
    with fails("invalid-request", repr(name), "<domain>/<path>"):
        signers.find_signer(name)


@pytest.mark.parametrize(
    ("name", "service", "expected"),
    [
        (KUBELET_SERVING, "hook", ("system:node:hook.apps.svc", ("system:nodes",))),
        (KUBELET_SERVING, "h" * 47, (f"system:node:{'h' * 47}.apps", ("system:nodes",))),
        (KUBELET_SERVING, "h" * 48, ("system:node:webhook.svc", ("system:nodes",))),
        (APP_SERVING, "hook", ("hook.apps.svc", ())),
        (APP_SERVING, "h" * 63, ("h" * 63, ())),
        (CUSTOM, "h" * 57, (f"{'h' * 57}.apps", ())),
    ],
)
def test_subject_fits(name: str, service: str, expected: tuple[str, tuple[str, ...]]) -> None:
    found = signers.subject_for(signers.find_signer(name), service, "apps")
    assert found == expected
    assert len(found[0]) <= 64


def test_subject_of_the_task_wins() -> None:
    row = signers.find_signer(KUBELET_SERVING)
    assert signers.subject_for(row, "hook", "apps", "system:node:x", ["a"]) == ("system:node:x", ("a",))
    assert signers.subject_for(row, "hook", "apps", "", []) == ("system:node:hook.apps.svc", ())


def test_common_name_too_long() -> None:
    row = signers.find_signer(APP_SERVING)
    assert signers.subject_for(row, "hook", "apps", "a" * 64)[0] == "a" * 64
    with fails("invalid-request", "65", "64"):
        signers.subject_for(row, "hook", "apps", "a" * 65)


def test_subject_with_half_a_surrogate() -> None:
    with fails("invalid-request", "Unicode"):
        signers.subject_for(signers.find_signer(APP_SERVING), "hook", "apps", "\ud800")
    with fails("invalid-request", "Unicode"):
        signers.subject_for(signers.find_signer(APP_SERVING), "hook", "apps", "", ["\udfff"])


def test_client_signer_has_no_default_user() -> None:
    with fails("invalid-request", CLIENT, "common_name"):
        signers.subject_for(signers.find_signer(CLIENT), "hook", "apps")


@pytest.mark.parametrize(
    ("usages", "allowed", "common_name", "organizations", "code"),
    [
        (CLIENT_USAGES, False, "jane", ["dev"], "client-identity-not-allowed"),
        (("any",), False, "jane", ["dev"], "client-identity-not-allowed"),
        ((), False, "jane", ["dev"], "client-identity-not-allowed"),
        (("digital signature", "key encipherment"), False, "jane", ["dev"], "client-identity-not-allowed"),
        (("digital signature", "key encipherment"), True, "", ["dev"], "invalid-request"),
        (CLIENT_USAGES, True, "", ["dev"], "invalid-request"),
        (CLIENT_USAGES, True, "jane", None, "invalid-request"),
    ],
)
def test_client_identity_is_refused(
    usages: tuple[str, ...], allowed: bool, common_name: str, organizations: list[str] | None, code: str
) -> None:
    with fails(code, "common_name", "organizations"):
        signers.check_client_identity(
            usages, allowed=allowed, common_name=common_name, organizations=organizations
        )


def test_client_identity_is_granted() -> None:
    signers.check_client_identity(CLIENT_USAGES, allowed=True, common_name="jane", organizations=[])
    signers.check_client_identity(SERVING_USAGES, allowed=False, common_name="", organizations=None)


# (usages, is it a login?, the usages that are never asked for and never approved)
PURPOSES: list[tuple[tuple[str, ...], bool, tuple[str, ...]]] = [
    ((), True, ()),
    (("server auth",), False, ()),
    (("server auth", "signing", "digital signature", "key encipherment", "key agreement"), False, ()),
    (("data encipherment", "content commitment", "encipher only", "decipher only", "server auth"), False, ()),
    (("digital signature", "key encipherment"), True, ()),
    (("client auth",), True, ()),
    (("server auth", "client auth"), True, ()),
    (("any",), True, ()),
    (("server auth", "any"), True, ()),
    (("server auth", "cert sign"), False, ("cert sign",)),
    (("cert sign", "crl sign"), True, ("cert sign", "crl sign")),
    (("server auth", "code signing"), False, ("code signing",)),
    (("client auth", "email protection"), True, ("email protection",)),
    (("s/mime", "digital signature"), False, ("s/mime",)),
    (("server auth", "no such usage"), False, ("no such usage",)),
    *(
        (("server auth", usage), False, (usage,))
        for usage in (
            "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc",
            "netscape sgc",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("usages", "is_login", "unexpected"), PURPOSES)
def test_usages_decide_the_purpose(
    usages: tuple[str, ...], is_login: bool, unexpected: tuple[str, ...]
) -> None:
    assert is_client_identity(usages) == is_login
    assert unexpected_usages(usages) == unexpected


def test_each_usage_of_the_api_is_in_the_table_of_purposes() -> None:
    assert len(USAGES) == 23
    assert {usage for usages, _login, _unexpected in PURPOSES for usage in usages} >= KNOWN_USAGES


def test_usages_that_are_never_asked_for() -> None:
    signers.check_usages(SERVING_USAGES)
    with fails("invalid-request", "usages") as caught:
        signers.check_usages(("server auth", "cert sign", "code signing"))
    assert caught.value.evidence == ("cert sign", "code signing")


def test_one_signer_alone_is_not_asked() -> None:
    rows = [*signers.SIGNERS.values(), signers.GENERIC]
    assert [row.name for row in rows if not row.is_asked] == [OWN_HAND]
    assert [row.name for row in rows if row.ca_key] == [OWN_HAND]


def test_unknown_words_have_no_remedy() -> None:
    assert signers.remedy_for(KUBELET_SERVING, "the dog ate it") == ""
