# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which CA of a cluster is outgoing, which is its successor, and which of them signs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import (
    ClusterCas,
    find_cas,
    is_refused_by_openssl,
    published_cas,
    signer_of,
    with_gone,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.certificate_facts import (
    CertificateFacts,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import issuer_index
from cryptography import x509

from tests.support.certificates.authority import DAY, NOW, Issued, authority, issue

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.quick

NAME = "kubernetes"
OLD = authority(NAME, not_before=NOW - 900 * DAY, not_after=NOW + 100 * DAY)
NEW = authority(NAME, not_before=NOW - 9 * DAY, not_after=NOW + 3650 * DAY)
OTHER = authority("new-ca", not_before=NOW - 9 * DAY)
STRANGER = authority("corporate", not_before=NOW - 800 * DAY)
TWIN = authority(NAME, OLD, key=NEW.key, not_before=NOW - 9 * DAY)
SIGNING = authority("intermediate", NEW, not_before=NOW - 9 * DAY)
#: A root of a company that is older than the outgoing CA, and an intermediate for this cluster.
AGED = authority("corporate", not_before=NOW - 2000 * DAY)
BELOW = authority("intermediate", AGED, not_before=NOW - 9 * DAY)
#: A rotation after that to OTHER, as k3s does it: each root has another name, and the outgoing one signs a twin.
THIRD = authority("ca@3", not_before=NOW - 9 * DAY / 2)
THIRD_TWIN = authority("ca@3", OTHER, key=THIRD.key, not_before=NOW - 9 * DAY / 2)
THIRD_SIGNING = authority("intermediate@3", THIRD, not_before=NOW - 9 * DAY / 2)
#: The intermediates of a cluster below the root of a company, which stays.
FIRST_BELOW = authority("intermediate@1", AGED, not_before=NOW - 900 * DAY)


def signed(ca: Issued, days_ago: int = 1) -> str:
    return issue("leaf", ca, not_before=NOW - days_ago * DAY).pem


def pem(*issued: Issued) -> str:
    return "".join(entry.pem for entry in issued)


@dataclass(frozen=True)
class Case:
    """What a cluster shows, and what is expected: outgoing, successor, the CA of the API server and of the newest certificate."""

    published: Sequence[Issued]
    api_server: str
    expected: tuple[Issued, Issued, Issued, Issued | None] | None
    issued: tuple[str, ...] = ()
    #: False if the published CAs never changed.
    has_changed: bool = True
    #: The successor that the user names.
    named: Sequence[Issued] = ()


CASES = {
    "one CA": Case([OLD], signed(OLD), None),
    "nothing published": Case([], signed(OLD), None),
    "a published CA is not in use": Case([OLD, NEW], signed(STRANGER), None),
    "published, quiet": Case([OLD, NEW], signed(OLD), (OLD, NEW, OLD, None)),
    "published, wrong order": Case([NEW, OLD], signed(OLD), (OLD, NEW, OLD, None)),
    "the signer is switched, the API server is not": Case([OLD, NEW], signed(OLD), (OLD, NEW, OLD, NEW), (signed(OLD, 3), signed(NEW, 2))),
    "the API server is switched, the signer is not": Case([OLD, NEW], signed(NEW), (OLD, NEW, NEW, OLD), (signed(OLD, 1),)),
    "nothing is issued since the API server is switched": Case([OLD, NEW], signed(NEW), (OLD, NEW, NEW, None), (signed(OLD, 2),)),
    "rolled back": Case([OLD, NEW], signed(OLD), (OLD, NEW, OLD, OLD), (signed(NEW, 3), signed(OLD, 2))),
    "a certificate of another signer does not count": Case([OLD, NEW], signed(OLD), (OLD, NEW, OLD, OLD), (signed(STRANGER, 1), signed(OLD, 5))),
    "different subjects": Case([OLD, OTHER], signed(OTHER), (OLD, OTHER, OTHER, None)),
    "four certificates": Case([SIGNING, NEW, TWIN, OLD], signed(SIGNING) + pem(SIGNING, TWIN), (OLD, NEW, NEW, NEW), (signed(SIGNING),)),
    "below an older root": Case([BELOW, AGED, OLD], signed(BELOW) + pem(BELOW), (OLD, BELOW, BELOW, BELOW), (signed(BELOW),)),
    "a root with its twin": Case([SIGNING, NEW, TWIN], signed(SIGNING) + pem(SIGNING, TWIN), None),
    "an intermediate is published": Case([SIGNING], signed(SIGNING), None),
    "CAs of several purposes": Case([STRANGER, OLD, OTHER], signed(OLD), None),
    "CAs of several purposes, and a successor": Case([STRANGER, OLD, OTHER, NEW], signed(OLD), (OLD, NEW, OLD, None)),
    "two CAs of different purpose": Case([OLD, OTHER], signed(OLD), None, has_changed=False),
    "equal subjects count without a change": Case([OLD, NEW], signed(OLD), (OLD, NEW, OLD, None), has_changed=False),
    "a second rotation, with roots of other names": Case(
        [THIRD_SIGNING, THIRD, THIRD_TWIN, OTHER, STRANGER],
        signed(THIRD_SIGNING) + pem(THIRD_SIGNING, THIRD_TWIN),
        (OTHER, THIRD, THIRD, THIRD),
        (signed(THIRD_SIGNING),),
    ),
    "an intermediate replaces another one": Case(
        [BELOW, FIRST_BELOW, AGED], signed(FIRST_BELOW) + pem(FIRST_BELOW), (FIRST_BELOW, BELOW, FIRST_BELOW, BELOW), (signed(BELOW),)
    ),
    "a successor that the user names": Case([STRANGER, OLD, OTHER], signed(OLD), (OLD, OTHER, OLD, None), has_changed=False, named=[OTHER]),
    "the API server is switched, the signer was not a week ago": Case([OLD, NEW], signed(NEW, 9), (OLD, NEW, NEW, None), (signed(OLD, 8),)),
    "the API server is switched, and two signers differed a week ago": Case(
        [OLD, NEW], signed(NEW, 9), (OLD, NEW, NEW, None), (signed(NEW, 9), signed(OLD, 8))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rotation(name: str) -> None:
    case = CASES[name]
    issued = {f"certificate {number}": text for number, text in enumerate(case.issued)}
    cas = find_cas(
        published_cas(pem(*case.published)),
        case.api_server,
        issued,
        now=NOW,
        has_changed=case.has_changed,
        named=pem(*case.named),
    )
    if case.expected is None:
        assert cas is None or not cas.is_rotating
        return
    assert cas is not None
    assert cas.is_rotating
    (outgoing,) = cas.outgoing
    seen = (outgoing, cas.cas[-1], cas.api_server, cas.signer)
    for number, ca in enumerate(seen):
        expected = case.expected[number]
        assert (ca is None) == (expected is None)
        assert ca is None or expected is None or expected.fingerprint in ca.fingerprints
    # A chain with a twin of the root leads to the outgoing CA too.
    leaf, sent = certificate_facts.load_leaf_and_chain(case.api_server)
    assert signer_of(cas.cas, leaf, sent) is cas.api_server
    newest = case.expected[3] or case.expected[2]
    assert (cas.signs is cas.cas[-1]) == (newest is case.expected[1])


#: Three CAs of one name, and a fourth that never signs. A letter is a CA in the order of their ages.
LINE = {
    "a": OLD,
    "b": authority(NAME, not_before=NOW - 50 * DAY, not_after=NOW + 3650 * DAY),
    "c": NEW,
    "x": authority("service-network-signer", not_before=NOW - 5 * DAY),
}
#: What is published, the CA of the API server, that of the newest certificate, and what a caBundle has -> the CAs that are superseded,
#: in use, successors and gone, and those that the caBundle lacks.
SETS = {
    "one CA": ("a", "a", "a", "a", ("", "a", "", "", "")),
    "two successors": ("abc", "a", "a", "a", ("", "a", "bc", "", "bc")),
    "the order of the ConfigMap does not matter": ("cba", "a", "a", "ab", ("", "a", "bc", "", "c")),
    "switched to the middle one, the last has not signed": ("abc", "b", "b", "ab", ("a", "b", "c", "", "c")),
    "a second rotation over an unfinished first one": ("abc", "b", "b", "a", ("a", "b", "c", "", "bc")),
    "the API server is switched, the signer is not": ("abc", "b", "a", "ac", ("", "ab", "bc", "", "b")),
    "the signer skipped one": ("abc", "c", "c", "a", ("ab", "c", "", "", "c")),
    "rolled back": ("ab", "a", "a", "b", ("", "a", "b", "", "a")),
    "a CA of another purpose never signs": ("abx", "a", "a", "a", ("", "a", "b", "", "b")),
    "the outgoing one was withdrawn in haste": ("b", "b", "b", "a", ("", "b", "", "a", "b")),
    "the successor was withdrawn": ("a", "a", "a", "ab", ("", "a", "", "b", "")),
    "the API server still has one that was withdrawn": ("b", "a", "a", "a", ("", "a", "b", "", "b")),
}


def line(published: str, api: str, signer: str, bundle: str) -> ClusterCas:
    cas = with_gone(
        published_cas(*(LINE[name].pem for name in published)),
        "".join(LINE[name].pem for name in api + bundle),
    )
    found = find_cas(cas, signed(LINE[api], 2), {"newest": signed(LINE[signer], 1)}, now=NOW)
    assert found
    return found


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_cas(name: str) -> None:
    published, api, signer, bundle, expected = SETS[name]
    cas = line(published, api, signer, bundle)
    letters = {LINE[letter].fingerprint: letter for letter in LINE}
    missing = cas.missing_in(pem(*(LINE[letter] for letter in bundle)))
    groups = (cas.superseded, cas.in_use, cas.successors, cas.gone, missing)
    assert (
        tuple("".join(letters[print_] for ca in group for print_ in ca.fingerprints) for group in groups)
        == expected
    )


#: What a caBundle has -> the intermediates that it lacks. The root alone verifies what servers send together with an intermediate.
BELOW_ONE_ROOT = [
    ([FIRST_BELOW], [BELOW]),
    ([FIRST_BELOW, AGED], [BELOW]),
    ([BELOW, AGED], [FIRST_BELOW]),
    ([FIRST_BELOW, BELOW, AGED], []),
    ([FIRST_BELOW, BELOW], []),
    ([AGED], []),
    ([STRANGER], [FIRST_BELOW, BELOW]),
]


@pytest.mark.parametrize(("bundle", "missing"), BELOW_ONE_ROOT)
def test_a_bundle_needs_each_intermediate_that_signs(bundle: list[Issued], missing: list[Issued]) -> None:
    cas = find_cas(published_cas(pem(FIRST_BELOW, AGED, BELOW)), signed(FIRST_BELOW), now=NOW)
    assert cas
    assert [ca.fingerprints for ca in cas.missing_in(pem(*bundle))] == [{ca.fingerprint} for ca in missing]
    # The root stays trusted when the phase finish removes the outgoing intermediate.
    switched = find_cas(cas.cas, signed(BELOW), now=NOW)
    assert switched
    assert [ca.fingerprints for ca in switched.superseded] == [{FIRST_BELOW.fingerprint}]
    # An OpenSSL client needs the root beside the intermediate.
    assert all(AGED.pem in ca.pem for ca in cas.cas)


@pytest.mark.parametrize("order", list(itertools.permutations((OLD, NEW, TWIN, SIGNING))))
def test_the_order_of_a_bundle_does_not_matter(order: tuple[Issued, ...]) -> None:
    """The bundle of a k3s cluster before the rotation has the old root first. The file of its successor has it last."""
    outgoing, successor = published_cas(pem(*order))
    assert outgoing.fingerprints == {OLD.fingerprint}
    assert successor.fingerprints == {NEW.fingerprint, TWIN.fingerprint, SIGNING.fingerprint}


def test_a_block_that_is_no_certificate_is_left_out() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert len(published_cas(broken + OLD.pem, OLD.pem + NEW.pem)) == 2


IDENTIFIED = {
    ca: authority(
        NAME,
        key=ca.key,
        extensions=[(x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key()), False)],
    )
    for ca in (OLD, NEW)
}
LINK = x509.AuthorityKeyIdentifier.from_issuer_public_key(OLD.key.public_key())
#: The leaf and the bundle -> True if OpenSSL tries the wrong CA. Compared with OpenSSL by tests/system/rotation/test_cluster_ca.py.
ORDERS = [
    (issue("leaf", OLD), [OLD, NEW], False),
    (issue("leaf", OLD), [NEW, OLD], True),
    (issue("leaf", OLD), [NEW], False),
    (issue("leaf", OLD), [OTHER, OLD], False),
    (issue("leaf", OLD, extensions=[(LINK, False)]), [IDENTIFIED[NEW], IDENTIFIED[OLD]], False),
    (issue("leaf", OLD, extensions=[(LINK, False)]), [NEW, IDENTIFIED[OLD]], True),
    (issue("leaf", OLD), [IDENTIFIED[NEW], IDENTIFIED[OLD]], True),
]


@pytest.mark.parametrize(("leaf", "bundle", "expected"), ORDERS)
def test_the_order_that_openssl_refuses(leaf: Issued, bundle: list[Issued], expected: bool) -> None:
    assert is_refused_by_openssl(leaf.facts, pem(*bundle)) is expected


@pytest.mark.parametrize(("has_one_name", "issuer"), [(False, None), (True, None), (True, authority("ca"))])
def test_many_published_cas_are_not_compared_in_pairs(
    has_one_name: bool, issuer: Issued | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """issuer: a CA of the same name that the cluster does not publish."""
    many = [authority("ca" if has_one_name else f"ca-{number}", issuer) for number in range(150)]
    checks: list[None] = []
    check = issuer_index.is_signed_by

    def counted(*certificates: CertificateFacts) -> bool:
        checks.append(None)
        return check(*certificates)

    monkeypatch.setattr(issuer_index, "is_signed_by", counted)
    monkeypatch.setattr(issuer_index, "MOST_CHECKS", 1000)
    cas = published_cas(pem(*many))
    assert len(cas) == 150
    assert len(checks) == (1000 if has_one_name else 150)
    find_cas(cas, signed(many[0]), {"csr": signed(many[1])}, now=NOW, named=many[2].pem)
    assert len(checks) <= (2000 if has_one_name else 300)


@pytest.mark.parametrize(
    ("published", "api", "signer", "state"),
    [
        ("a", "a", "a", "no-successor"),
        ("ab", "a", "a", "before-switch"),
        ("ab", "a", "b", "during-switch"),
        ("ab", "b", "b", "after-switch"),
        ("abc", "b", "b", "after-switch"),
        ("b", "b", "b", "no-successor"),
    ],
)
def test_the_state_of_a_rotation(published: str, api: str, signer: str, state: str) -> None:
    assert line(published, api, signer, "a").state == state
