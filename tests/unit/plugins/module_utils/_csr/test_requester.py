# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide if two requests have one identity, by the stamps of API servers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import MalformedObject
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request.csr_content import (
    Requester,
    is_same,
    requester_of,
)

pytestmark = pytest.mark.quick

ROLE = "arn:aws:iam::111122223333:role/deployer"
ACCOUNT = "system:serviceaccount:ci:deployer"


def stamp(username: str, uid: str = "", **extra: list[str]) -> dict[str, Any]:
    """Return the part of spec that the API server writes, without empty fields."""
    spec = {"username": username, "uid": uid, "groups": ["system:authenticated"], "extra": extra}
    return {key: value for key, value in spec.items() if value}


def session(name: str, role: str = ROLE, uid: str = "") -> dict[str, Any]:
    arns = {"canonicalArn": [role], "arn": [f"{role}/{name}"], "sessionName": [name]}
    return stamp(f"eks:{name}", uid, **arns)


# (this identity, the requester, user names that the task accepts, True if they are one identity)
CASES: list[tuple[dict[str, Any], dict[str, Any], list[str], bool]] = [
    (stamp("deployer"), stamp("deployer"), [], True),
    (stamp("deployer"), stamp("mallory"), [], False),
    (stamp("deployer"), stamp("Deployer"), [], False),
    (stamp("deployer"), stamp("deployer "), [], False),
    # An empty name is not an identity.
    (stamp(""), stamp(""), [], False),
    (stamp(""), stamp(""), [""], False),
    (stamp("deployer"), stamp(""), [""], False),
    # An equal UID is enough after a user was renamed. An empty UID is not.
    (stamp("deployer", "7"), stamp("renamed", "7"), [], True),
    (stamp("deployer", "7"), stamp("mallory", "8"), [], False),
    (stamp("deployer"), stamp("mallory"), [], False),
    # A ServiceAccount that was created again has another UID, and the same name.
    (stamp(ACCOUNT, "7"), stamp(ACCOUNT, "8"), [], True),
    # Sessions of one assumed role on EKS. aws-iam-authenticator gives them one UID, too, unless it hides the account.
    (session("monday"), session("tuesday"), [], True),
    (session("monday", uid="aws:AROA1"), session("tuesday", uid="aws:AROA1"), [], True),
    (session("monday"), session("tuesday", role=f"{ROLE}-2"), [], False),
    (session("monday"), stamp("eks:tuesday", sessionName=["monday"]), [], False),
    # Keys of extra that came in headers are in lower case.
    (session("monday"), stamp("eks:tuesday", canonicalarn=[ROLE]), [], True),
    # Only a single ARN counts.
    (stamp("a", canonicalArn=[]), stamp("b", canonicalArn=[]), [], False),
    (stamp("a", canonicalArn=[""]), stamp("b", canonicalArn=[""]), [], False),
    (stamp("a", canonicalArn=[ROLE, "x"]), stamp("b", canonicalArn=[ROLE, "x"]), [], False),
    (session("monday"), stamp("mallory", canonicalArn=["x", ROLE]), [], False),
    (session("monday"), stamp("mallory", canonicalArn=["x"], canonicalarn=[ROLE]), [], False),
    # Many identities have the same groups and the same other keys of extra.
    (stamp("deployer", arn=[ROLE]), stamp("mallory", arn=[ROLE]), [], False),
    (stamp("deployer", "", **{"example.com/canonicalArn": [ROLE]}), session("monday"), [], False),
    # The option names user names, not UIDs or roles.
    (stamp("deployer"), stamp("colleague"), ["colleague"], True),
    (stamp("deployer"), stamp("mallory"), ["colleague", "deployer"], False),
    (stamp("deployer"), stamp("mallory", "colleague"), ["colleague"], False),
]


@pytest.mark.parametrize(("own", "other", "accepted", "is_one"), CASES)
def test_one_identity(own: dict[str, Any], other: dict[str, Any], accepted: list[str], is_one: bool) -> None:
    found = is_same(requester_of({"spec": own}), requester_of({"spec": other}), accepted)
    assert found is is_one


def test_a_result_describes_the_requester() -> None:
    requester = requester_of({"spec": session("monday", uid="7")})
    assert requester.as_result() == {
        "username": "eks:monday",
        "uid": "7",
        "groups": ["system:authenticated"],
        "canonical_arn": ROLE,
    }
    assert str(requester) == f"'eks:monday' (uid '7', canonicalArn '{ROLE}')"
    assert requester_of({"spec": {}}) == requester_of({}) == Requester()


def test_a_name_with_control_and_bidirectional_characters_is_escaped() -> None:
    assert str(Requester("a\n\x1b[31m\u202eb")) == r"'a\n\x1b[31m\u202eb'"


@pytest.mark.parametrize("spec", [{"extra": ["x"]}, {"extra": {"canonicalArn": None}}, {"groups": 1}, "text"])
def test_a_malformed_stamp(spec: Any) -> None:
    with pytest.raises(MalformedObject):
        requester_of({"spec": spec})
