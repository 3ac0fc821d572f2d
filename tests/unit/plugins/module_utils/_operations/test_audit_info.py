# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of audit_info that are refused before the cluster is contacted."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import ESSENTIAL
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import (
    SPEC,
    parse_options,
)

pytestmark = pytest.mark.quick


def parsed(**options: Any) -> Any:
    defaults = {name: row.get("default") for name, row in SPEC.items()}
    return parse_options({**defaults, **options})


def test_defaults_do_not_connect_to_addresses_of_the_cluster() -> None:
    options = parsed()
    assert (options.without, options.probe_urls, options.endpoints_per_service) == ((), False, 10)
    assert (options.snapshot_release, options.previous_counters) == (None, None)
    assert parsed(previous_counters={}).previous_counters == {}


def test_values_are_read() -> None:
    options = parsed(
        previous_counters={"a": "3", "b": 2.5},
        snapshot_version="8.7.0",
        endpoints_per_service=1,
        without=["metrics", "metrics"],
    )
    assert options.previous_counters == {"a": 3.0, "b": 2.5}
    assert str(options.snapshot_release) == "8.7.0"
    assert options.without == ("metrics",)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"endpoints_per_service": 0}, "invalid-input"),
    ({"ca_break_days": -1}, "invalid-input"),
    ({"ca_break_days": 36500}, "invalid-input"),
    ({"previous_counters": {"a": "many"}}, "invalid-input"),
    ({"previous_counters": {"a": -1}}, "invalid-input"),
    ({"previous_counters": {"a": None}}, "invalid-input"),
    ({"snapshot_version": "9.9.9"}, "release-unavailable"),
    ({"without": ["portforward"]}, "invalid-input"),
    *(({"without": [source]}, "invalid-input") for source in (*ESSENTIAL, "snapshot-controller", "nodez")),
]


def test_the_refusal_of_a_number_names_both_limits() -> None:
    with pytest.raises(CertflowError) as caught:
        parsed(ca_break_days=36500)
    assert {"ca_break_days", "0", "36500"} <= set(caught.value.remedy.replace(",", "").split())


@pytest.mark.parametrize(("options", "code"), WRONG)
def test_a_value_that_is_not_valid_is_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(CertflowError) as caught:
        parsed(**options)
    assert caught.value.code == code
