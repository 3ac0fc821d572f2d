# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line about an option that is not a dictionary names the option and shows how to write it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import argument_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr

pytestmark = pytest.mark.quick

GOOD: dict[str, Any] = {"name": "my-tls"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"secret": "my-tls"}, ["secret", "{name: ...}"]),
        ({"secret": ["my-tls"]}, ["secret", "{name: ...}"]),
        ({"secret": 5}, ["secret", "{name: ...}"]),
        ({"secret": "{broken"}, ["secret"]),
        ({"secret": GOOD, "targets": "hook"}, ["targets", "[{kind: ..., name: ...}]"]),
        ({"secret": GOOD, "targets": [{"kind": "x"}, "hook"]}, ["targets"]),
        ({"secret": GOOD, "targets": {"kind": "x"}}, ["targets"]),
        ({"secret": GOOD, "probe": "hook"}, ["probe", "{object: "]),
        ({"secret": GOOD}, []),
        ({"secret": "name=my-tls"}, []),
        ({"secret": '{"name": "my-tls"}', "targets": []}, []),
        ({}, []),
    ],
)
def test_the_option_is_named(arguments: dict[str, Any], names: list[str]) -> None:
    line = argument_specs.find_fault(k8s_csr.SPEC, arguments)
    assert bool(line) is bool(names)
    assert "\n" not in line
    assert not [name for name in names if name not in line], line


def test_a_secret_value_is_not_shown() -> None:
    line = argument_specs.find_fault(k8s_csr.SPEC, {"secret": GOOD, "proxy_headers": "hunter2"})
    assert "proxy_headers" in line
    assert "hunter2" not in line
