# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if the certificate policies of a chain are valid (RFC 5280 section 6.1, RFC 9618). Pure.

An API server asks for no policy. So only a CA that requires an explicit policy (policyConstraints) makes a chain invalid. Go 1.24 and
newer checks that (crypto/x509 verify.go, policiesValid). Mappings of policies are not followed: a chain with one counts as valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..certificate_facts import CertificateFacts
from ..encoding.go_parser import ANY_POLICY, INHIBIT_ANY_POLICY, POLICIES, POLICY_CONSTRAINTS, POLICY_MAPPINGS


def are_valid(chain: Sequence[CertificateFacts]) -> bool:
    """Return True if Go accepts the policies of a chain, the leaf first and its anchor last. The policies of the anchor do not count."""
    below = chain[:-1]
    required = [entry.extensions.get(POLICY_CONSTRAINTS) for entry in below]
    if required.count(None) == len(below) or any(POLICY_MAPPINGS in entry.extensions for entry in below):
        return True
    #: The policies that every certificate so far has, None for any policy.
    common: frozenset[bytes] | None = None
    explicit = inhibit = len(below) + 1
    for entry in reversed(below):
        policies: frozenset[bytes] = entry.extensions.get(POLICIES, frozenset())
        if ANY_POLICY not in policies or not (inhibit or (entry is not below[0] and entry.is_self_issued)):
            common = policies - {ANY_POLICY} if common is None else common & policies
        if entry is below[0]:
            break
        explicit = _count_down(explicit, entry, POLICY_CONSTRAINTS)
        inhibit = _count_down(inhibit, entry, INHIBIT_ANY_POLICY)
    explicit = 0 if required[0] == 0 else max(0, explicit - 1)
    return bool(explicit) or common is None or bool(common)


def _count_down(left: int, entry: CertificateFacts, extension: str) -> int:
    """Return the number of further certificates after which a limit applies. Go ignores a negative one."""
    limits = (max(0, left - (not entry.is_self_issued)), entry.extensions.get(extension))
    return min(limit for limit in limits if limit is not None and limit >= 0)
