# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate of another owner is replaced only without a loss, unless the user accepts the loss."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import certificate_rules, markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.certificate_rules import IssueReason
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates import authority
from tests.support.certificates.authority import NOW, SERVER_AUTH
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    CUSTOM,
    MARKED,
    SERVER_AND_CLIENT,
    ca,
    found,
    intent,
    key_pem,
    leaf,
    rsa_key,
)
from tests.unit.plugins.module_utils._csr.objects import OWN, encoded

pytestmark = pytest.mark.quick

EXPIRED: dict[str, Any] = {"not_after": NOW}
DUE = IssueReason(certificate_rules.RENEWAL_DUE, "Secret apps/hook-tls: its certificate expired")
UNTRUSTED = IssueReason("Untrusted", "Secret apps/hook-tls: no CA verifies it")


def with_names(*names: x509.GeneralName, subject: Any = "hook") -> Any:
    entries = [*authority.dns(*OWN), *names]
    return authority.issue(subject, ca(), names=entries, usages=(SERVER_AUTH,), not_before=NOW, not_after=NOW)


def with_subject(oid: Any, text: str) -> Any:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, "hook"), x509.NameAttribute(oid, text)]
    return with_names(subject=x509.Name(parts))


# The certificate, the options of the task, and the losses.
LOSSES: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "nothing": (leaf(**EXPIRED), {}, []),
    "another type of key": (leaf(key=rsa_key(), **EXPIRED), {}, []),
    "a name of the Service in full": (
        leaf(*OWN, "hook.apps.svc.cluster.local", **EXPIRED), {}, ["the name hook.apps.svc.cluster.local"],
    ),
    "the same, and the task asks for it": (
        leaf(*OWN, "hook.apps.svc.cluster.local", **EXPIRED), {"names": ["hook.apps.svc.cluster.local"]}, [],
    ),
    "a URI": (
        with_names(x509.UniformResourceIdentifier("spiffe://example.com/hook")), {}, ["the URI spiffe://example.com/hook"],
    ),
    "an e-mail address": (with_names(x509.RFC822Name("hook@example.com")), {}, ["the e-mail address hook@example.com"]),
    "a name of another type": (
        with_names(x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16\x04hook")), {},
        ["a subjectAltName of the type otherName"],
    ),
    "a registered ID": (
        with_names(x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))), {}, ["a subjectAltName of the type registeredID"],
    ),
    "an organization": (with_subject(NameOID.ORGANIZATION_NAME, "payments"), {}, ["the organization payments"]),
    "the organization that the task asks for": (with_subject(NameOID.ORGANIZATION_NAME, "system:nodes"), {}, []),
    "another part of the subject": (
        with_subject(NameOID.ORGANIZATIONAL_UNIT_NAME, "payments"), {}, ["the part OU=payments of the subject"],
    ),
    "the usage of a client": (leaf(usages=SERVER_AND_CLIENT, **EXPIRED), {}, ["the usage client auth"]),
    "the usage of a client, and the task asks for it": (
        leaf(usages=SERVER_AND_CLIENT, **EXPIRED),
        {
            "signer_name": CUSTOM, "usages": ["server auth", "client auth"], "allow_client_identity": True,
            "common_name": "system:node:hook.apps.svc", "organizations": [],
        },
        [],
    ),
    "no extended usage, which is the usage of a client too": (
        leaf(usages=(), **EXPIRED), {}, ["the usage client auth, which a certificate without extended usages has"],
    ),
    "the same, and the task asks for a client": (
        leaf(usages=(), **EXPIRED),
        {
            "signer_name": CUSTOM, "usages": ["server auth", "client auth"], "allow_client_identity": True,
            "common_name": "system:node:hook.apps.svc", "organizations": [],
        },
        [],
    ),
    "a common name of its own": (leaf(common_name="payments", **EXPIRED), {}, ["the common name payments"]),
    "a common name with a comma, and the task asks for it": (
        leaf(usages=SERVER_AND_CLIENT, common_name="Hook, Inc.", **EXPIRED),
        {
            "signer_name": CUSTOM, "usages": ["server auth", "client auth"], "allow_client_identity": True,
            "common_name": "Hook, Inc.", "organizations": [],
        },
        [],
    ),
    "two common names": (with_subject(NameOID.COMMON_NAME, "payments"), {}, ["the common name payments"]),
    "a user of the same name": (leaf(common_name="system:hook", **EXPIRED), {}, ["the common name system:hook"]),
    "the common name of create-cert.sh": (leaf(common_name="system:node:hook.apps.svc;", **EXPIRED), {}, []),
}  # fmt: skip


@pytest.mark.parametrize(("issued", "options", "losses"), LOSSES.values(), ids=list(LOSSES))
def test_a_loss_is_refused_by_name(issued: Any, options: dict[str, Any], losses: list[str]) -> None:
    wanted = intent(**options)
    secret = found(issued, of=wanted)
    if losses:
        with fails("secret-unusable", "apps/hook-tls", "foreign-secret") as caught:
            certificate_rules.judge_replacement(wanted, secret, DUE, has_targets=True)
        assert list(caught.value.evidence) == losses
    accepting = intent(**options, accept=["foreign-secret"])
    for task in (accepting, *([] if losses else [wanted])):
        reason = certificate_rules.judge_replacement(task, secret, DUE, has_targets=True)
        assert reason.code == certificate_rules.RENEWAL_DUE
        assert f"key {secret.key_type} -> ecdsa-p256" in reason.message
        assert "CA CN=cluster -> signer" in reason.message


@pytest.mark.parametrize("issued", [row[0] for row in LOSSES.values()])
def test_a_certificate_of_this_collection_is_never_refused(issued: Any) -> None:
    secret = found(issued, **MARKED)
    assert certificate_rules.judge_replacement(intent(), secret, DUE, has_targets=True) == DUE
    assert certificate_rules.judge_replacement(intent(), None, DUE, has_targets=False) == DUE


ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
#: What another client stored -> True if a private key would be lost.
UNREADABLE: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({"tls.crt": "", "tls.key": ""}, False),
    "white space": ({"tls.crt": encoded("\n"), "tls.key": encoded("\n")}, False),
    "texts": ({"tls.crt": encoded("no certificate"), "tls.key": encoded("no key")}, False),
    "a key that waits for its certificate": ({"tls.crt": ""}, True),
    "a certificate that cannot be read": ({"tls.crt": encoded("no certificate")}, True),
    "a key that is not text": ({"tls.key": "//8="}, True),
    "a key with a passphrase": ({"tls.key": encoded(ENCRYPTED)}, True),
    "a key of another certificate": ({"tls.key": encoded(key_pem(leaf()))}, True),
}


@pytest.mark.parametrize(("data", "has_key"), UNREADABLE.values(), ids=list(UNREADABLE))
@pytest.mark.parametrize("metadata", [{}, {**MARKED, "annotations": {markers.ADOPTED: "of-another"}}])
def test_the_key_of_another_owner_is_lost_only_if_that_is_accepted(
    metadata: dict[str, Any], data: dict[str, Any], has_key: bool
) -> None:
    secret = found(leaf(), data=data, **metadata)
    with fails("secret-unusable", "key", "foreign-secret") if has_key else nullcontext():
        certificate_rules.judge_replacement(intent(), secret, DUE, has_targets=True)
    accepted = intent(accept=["foreign-secret"])
    assert certificate_rules.judge_replacement(accepted, secret, DUE, has_targets=True).code == DUE.code


def test_a_healthy_certificate_of_another_owner_is_replaced_only_if_accepted() -> None:
    secret, wanted = found(leaf("hook.apps.svc")), intent(names=["hook"])
    reason = certificate_rules.reason_to_issue(wanted, secret, NOW)
    assert reason is not None
    with fails("secret-unusable", "hook", "2027-06-14", "foreign-secret"):
        certificate_rules.judge_replacement(wanted, secret, reason, has_targets=True)
    accepted = intent(names=["hook"], accept=["foreign-secret"])
    assert certificate_rules.judge_replacement(accepted, secret, reason, has_targets=True).code == "Names"


def test_a_certificate_whose_ca_the_run_does_not_know_is_healthy_unless_a_target_refuses_it() -> None:
    with fails("secret-unusable", "ca_bundle", "foreign-secret"):
        certificate_rules.judge_replacement(intent(), found(), UNTRUSTED, has_targets=False)
    assert (
        certificate_rules.judge_replacement(intent(), found(), UNTRUSTED, has_targets=True).code
        == "Untrusted"
    )
