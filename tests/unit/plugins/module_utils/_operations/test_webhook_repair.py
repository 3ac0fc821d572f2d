# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of webhook_repair that are refused before the cluster is contacted."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_repair import (
    SPEC,
    parse_options,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import kinds

from tests.support.failures import fails

pytestmark = pytest.mark.quick

# What is given, and the option that the refusal names. An empty list would repair nothing and succeed.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kinds": []}, "kinds"),
    ({"kinds": [kinds.REMOVE_OUTGOING, kinds.SECURE]}, "kinds"),
    ({"proof_after": -1}, "proof_after"),
]


@pytest.mark.parametrize(("options", "named"), WRONG)
def test_a_value_that_is_not_valid_is_refused(options: dict[str, Any], named: str) -> None:
    defaults = {name: row.get("default") for name, row in SPEC.items()}
    with fails("invalid-input", named):
        parse_options({**defaults, **options}, check_mode=False)
