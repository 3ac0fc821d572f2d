# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_content

from tests.support.failures import fails
from tests.unit.plugins.module_utils._webhook.pki import (
    NOW,
    authority,
    leaf,
    private_key,
    unreadable_authority,
)

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = (authority(name) for name in ("ca-a", "ca-b", "ca-c"))
TWIN = authority("ca-a", expires=NOW + timedelta(days=700))
OLD = authority("ca-old", expires=NOW - timedelta(days=1))
OLDER = authority("ca-older", expires=NOW - timedelta(days=9))
DAMAGED = "-----BEGIN CERTIFICATE-----\nTm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
OPAQUE = unreadable_authority("ca-opaque")
# A SEQUENCE that is cut off or followed by more bytes. Go does not read it either.
CUT_OFF = "-----BEGIN CERTIFICATE-----\nMIIBCgKC\n-----END CERTIFICATE-----\n"
TRAILING = "-----BEGIN CERTIFICATE-----\nMAMCAQAA\n-----END CERTIFICATE-----\n"
LABELLED = f"# the cluster's CA\n{A.pem}\n\n"


@pytest.mark.parametrize(
    ("mode", "bundle", "wanted", "expected"),
    [
        pytest.param("add", "", A.pem, A.pem, id="add: first"),
        pytest.param("add", " \n", A.pem, A.pem, id="add: to white space, as a placeholder is"),
        pytest.param("add", A.pem, B.pem, A.pem + B.pem, id="add: behind what is there"),
        pytest.param("add", LABELLED, A.pem, LABELLED, id="add: bytes stay when it is there"),
        pytest.param("add", A.pem + OLD.pem, A.pem, A.pem + OLD.pem, id="add: expired stays when nothing is added"),
        pytest.param("add", A.pem + OLD.pem, B.pem, A.pem + B.pem, id="add: expired goes when something is added"),
        pytest.param("add", A.pem + A.pem, B.pem, A.pem + B.pem, id="add: a duplicate goes too"),
        pytest.param("add", DAMAGED + A.pem, B.pem, A.pem + B.pem, id="add: what does not parse goes too"),
        pytest.param("add", DAMAGED + A.pem, A.pem, DAMAGED + A.pem, id="add: it stays when nothing is added"),
        pytest.param("add", CUT_OFF, A.pem, A.pem, id="add: so does what is cut off"),
        pytest.param("add", TRAILING, A.pem, A.pem, id="add: and what is longer than its length says"),
        pytest.param(
            "add",
            B.pem + OPAQUE.pem + OPAQUE.pem + OLD.pem,
            A.pem,
            B.pem + OPAQUE.pem + A.pem,
            id="add: a certificate that only Go reads stays",
        ),
        pytest.param("exactly", OPAQUE.pem, A.pem, A.pem, id="exactly: it goes"),
        pytest.param("exactly", A.pem + OPAQUE.pem, A.pem, A.pem, id="exactly: it is one too many"),
        pytest.param("absent", A.pem + OPAQUE.pem, A.pem, OPAQUE.pem, id="absent: it stays"),
        pytest.param("add", private_key(), A.pem, A.pem, id="add: a key that somebody left there goes"),
        pytest.param("add", A.pem, B.pem + B.pem, A.pem + B.pem, id="add: wanted twice is once"),
        pytest.param("add", A.pem, B.pem + OLD.pem, A.pem + B.pem, id="add: expired is not added"),
        pytest.param("add", A.pem, A.pem + OLD.pem, A.pem, id="add: expired alone is no reason to write"),
        pytest.param("add", A.pem, TWIN.pem, A.pem + TWIN.pem, id="add: equal subjects are two certificates"),
        pytest.param("exactly", "", A.pem, A.pem, id="exactly: first"),
        pytest.param("exactly", A.pem + B.pem, C.pem, C.pem, id="exactly: replaces"),
        pytest.param("exactly", LABELLED, A.pem, LABELLED, id="exactly: bytes stay when equal"),
        pytest.param("exactly", A.pem + B.pem, B.pem + A.pem, A.pem + B.pem, id="exactly: order means nothing"),
        pytest.param("exactly", A.pem + OLD.pem, A.pem, A.pem, id="exactly: an expired one is one too many"),
        pytest.param("exactly", A.pem + DAMAGED, A.pem, A.pem, id="exactly: so is what does not parse"),
        pytest.param("exactly", A.pem + A.pem, A.pem, A.pem, id="exactly: so is a duplicate"),
        pytest.param("exactly", "", A.pem + OLD.pem, A.pem + OLD.pem, id="exactly: expired as given"),
        pytest.param("absent", A.pem + B.pem, A.pem, B.pem, id="absent: removes"),
        pytest.param("absent", A.pem, A.pem, "", id="absent: the last one"),
        pytest.param("absent", LABELLED, B.pem, LABELLED, id="absent: bytes stay when it is not there"),
        pytest.param("absent", A.pem + OLD.pem, A.pem, OLD.pem, id="absent: leaves expired ones alone"),
        pytest.param("absent", A.pem + OLD.pem, OLD.pem, A.pem, id="absent: removes an expired one by name"),
        pytest.param("absent", A.pem + TWIN.pem, A.pem, TWIN.pem, id="absent: never by subject"),
        pytest.param("absent", "", A.pem, "", id="absent: nothing there"),
    ],
)  # fmt: skip
def test_merge(mode: str, bundle: str, wanted: str, expected: str) -> None:
    merged = bundle_content.merge(bundle, wanted, mode=mode, now=NOW)
    assert merged == expected
    assert bundle_content.merge(merged, wanted, mode=mode, now=NOW) == merged


def test_add_keeps_a_ca_that_the_clock_of_another_api_server_still_accepts() -> None:
    end = OLD.certificate.not_valid_after_utc
    ahead, bundle = end + 3 * bundle_content.LONGEST_DELAY, A.pem + OLD.pem
    merge = functools.partial(bundle_content.merge, bundle, B.pem, mode="add")
    assert merge(now=end) == merge(now=ahead, earlier=end) == bundle + B.pem
    assert merge(now=ahead) == merge(now=ahead, earlier=end + bundle_content.LONGEST_DELAY) == A.pem + B.pem


@pytest.mark.parametrize("mode", ["add", "exactly"])
def test_a_bundle_that_has_expired_is_refused(mode: str) -> None:
    with fails("bundle-broken", "2026-11-24"):
        bundle_content.merge(A.pem, OLDER.pem + OLD.pem, mode=mode, now=NOW)


@pytest.mark.parametrize(
    ("bundle", "code", "names"),
    [
        ("", "bundle-broken", ()),
        ("None", "bundle-broken", ()),
        ("-----BEGIN CERTIFICATE-----\nMII", "bundle-broken", ()),
        (DAMAGED, "bundle-broken", ()),
        (A.pem + DAMAGED, "bundle-broken", ("2",)),
        (A.pem + private_key(), "contains-private-key", ()),
        (private_key().rpartition("-----END")[0], "contains-private-key", ()),
        (A.pem * 201, "bundle-broken", ("201", "200")),
    ],
)
def test_a_bad_bundle_is_refused(bundle: str, code: str, names: tuple[str, ...]) -> None:
    with fails(code, *names) as caught:
        bundle_content.check(bundle)
    assert caught.value.remedy
    assert "-----" not in str(caught.value) + "".join(caught.value.evidence)


@pytest.mark.parametrize("bundle", [A.pem, A.pem * 200, LABELLED, OLD.pem, leaf(A, "a.b.svc")])
def test_a_good_bundle_passes(bundle: str) -> None:
    bundle_content.check(bundle)


def test_no_key_is_quoted_when_one_is_refused() -> None:
    with fails("contains-private-key") as caught:
        bundle_content.check(private_key())
    secret = "".join(private_key().split("\n")[1:-2])
    error = caught.value
    assert not any(
        secret[start : start + 12] in repr(vars(error)) for start in range(0, len(secret) - 12, 12)
    )
    assert error.__cause__ is None


def test_an_anchor_says_subject_date_and_fingerprint() -> None:
    (anchor,) = bundle_content.certificates(LABELLED)
    assert str(anchor) == f"CN=ca-a until 2027-11-25T12:00:00Z, SHA-256 {A.fingerprint}"


def test_a_certificate_that_only_go_reads_is_like_others() -> None:
    (anchor,) = bundle_content.certificates(OPAQUE.pem)
    assert (anchor.subject, anchor.fingerprint) == ("CN=ca-opaque", OPAQUE.fingerprint)
    assert anchor.pem == OPAQUE.pem
    bundle_content.check(A.pem + OPAQUE.pem)
    with fails("bundle-broken", "damaged"):
        bundle_content.check(OPAQUE.pem[:200] + OPAQUE.pem[210:])


def test_go_trusts_the_same_certificates_after_a_merge(go_program: Path) -> None:
    """The API server reads the bundle with Go, which accepts more than other libraries."""
    served = leaf(OPAQUE, "hook.apps.svc")
    bundles = [OPAQUE.pem, bundle_content.merge(OPAQUE.pem, A.pem, mode="add", now=NOW), A.pem]
    questions = [
        {
            "leaf": served,
            "bundle": bundle,
            "name": "hook.apps.svc",
            "time": int(NOW.timestamp()),
            "usage": "server auth",
        }
        for bundle in bundles
    ]
    output = subprocess.run(
        [go_program], input=json.dumps(questions).encode(), capture_output=True, check=True
    )
    assert [verdict["ok"] for verdict in json.loads(output.stdout)] == [True, True, False]
