# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Amazon EKS says about the CAs of a cluster."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import (
    find_cas,
    find_successor,
    parse_eks_cas,
    published_cas,
)

from tests.support.certificates.authority import DAY, NOW, authority, issue

pytestmark = pytest.mark.quick

OLD = authority("kubernetes", not_before=NOW - 900 * DAY)
NEW = authority("kubernetes", not_before=NOW - 9 * DAY)
ROTATION = find_cas(published_cas(OLD.pem + NEW.pem), issue("leaf", OLD).pem, now=NOW)
SOON = NOW + 30 * DAY
TEXT = SOON.isoformat()


def ca(issued: Any, first: Any = TEXT, **fields: Any) -> dict[str, Any]:
    events = {"firstAutoActivation": first, "finalAutoActivation": (SOON + 90 * DAY).isoformat()}
    data = base64.b64encode(issued.pem.encode()).decode()
    return {"id": "ca-2", "signingStatus": "NOT_USED", "scheduledEvents": events, "data": data, **fields}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"certificateAuthority": ca(NEW)}, SOON),
        ({"certificateAuthority": ca(NEW, SOON.timestamp())}, SOON),
        ({"certificateAuthority": ca(NEW, SOON)}, SOON),
        ({"certificateAuthority": ca(NEW, SOON.replace(tzinfo=None))}, SOON),
        ({"certificateAuthorities": [{"certificateAuthority": ca(OLD, None)}, ca(NEW)]}, SOON),
        ({"certificateAuthority": ca(OLD)}, None),
        ({"certificateAuthority": ca(NEW, (NOW - DAY).isoformat())}, None),
        ({"certificateAuthority": ca(NEW, 1e300)}, None),
        ({"certificateAuthority": ca(NEW, [])}, None),
        ({"certificateAuthority": {**ca(NEW), "data": "AAAA"}}, None),
        ({"certificateAuthorities": [{"id": "ca-2", "signingStatus": "NOT_USED"}]}, None),
        ({"certificateAuthorities": {"id": "ca-2"}}, None),
        ({"certificateAuthority": None}, None),
        ({}, None),
    ],
)
def test_the_date_of_the_successor(output: dict[str, Any], expected: Any) -> None:
    assert ROTATION
    found = find_successor(parse_eks_cas(output), ROTATION, NOW)
    assert (found.first_activation if found else None) == expected
