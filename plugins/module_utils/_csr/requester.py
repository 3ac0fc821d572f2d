# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The identity that the API server stamps on a request, and the rule that two stamps are of one identity.

The API server overwrites username, uid, groups and extra of every request with those of the authenticated user, also
in a dry run. A client cannot choose them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .._errors import check_shape

# The assumed role, without the session's name (aws-iam-authenticator, pkg/server/server.go). kube-apiserver writes keys of
# extra that come in headers in lower case (impersonation, authenticating proxy), so both spellings exist.
CANONICAL_ARN = "canonicalarn"
# Two requests have one identity if one of these fields is equal and not empty.
MARKS = ("username", "uid", "canonical_arn")


@dataclass(frozen=True)
class Requester:
    """A user as the API server knows it.

    username: the name. For an assumed role it may contain the session's name, and then it changes with each session.
    uid: the UID. Empty for most ways to authenticate.
    groups: the groups of the user.
    canonical_arn: the extra ``canonicalArn`` of EKS. Empty unless it has exactly one value.
    """

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    canonical_arn: str = ""

    def __str__(self) -> str:
        marks = (("uid", self.uid), ("canonicalArn", self.canonical_arn))
        more = ", ".join(f"{name} {value!r}" for name, value in marks if value)
        return f"{self.username!r} ({more})" if more else repr(self.username)

    def as_result(self) -> dict[str, Any]:
        """Return the requester as results show it."""
        return {
            "username": self.username,
            "uid": self.uid,
            "groups": list(self.groups),
            "canonical_arn": self.canonical_arn,
        }


def requester_of(csr: Mapping[str, Any]) -> Requester:
    """Return the requester. Raises MalformedObject."""
    with check_shape("the CSR object"):
        spec = csr.get("spec") or {}
        extra = (spec.get("extra") or {}).items()
        arns = {arn for key, values in extra if key.lower() == CANONICAL_ARN for arn in values}
        return Requester(
            username=spec.get("username") or "",
            uid=spec.get("uid") or "",
            groups=tuple(spec.get("groups") or ()),
            canonical_arn=arns.pop() if len(arns) == 1 else "",
        )


def is_same(own: Requester | None, other: Requester, accepted: Collection[str] = ()) -> bool:
    """Return True if ``other`` is the identity ``own``, or if its user name is accepted.

    own: None if it is not known. accepted: the user names of the option ``requesters``.
    """
    is_accepted = bool(other.username) and other.username in accepted
    known = own or Requester()
    return is_accepted or any(
        getattr(known, mark) and getattr(known, mark) == getattr(other, mark) for mark in MARKS
    )
