# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of a fleet run, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.inventory import kubeconfig as kubeconfig_plugin
from ansible_collections.certflow.kubernetes.plugins.module_utils._codes import CODES
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import settings as fleet_settings
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.settings import Host, Settings
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._role_variables import UNDEFINED, RoleSpec

from tools.ci.venvs import REPOSITORY

pytestmark = pytest.mark.quick

SPEC = RoleSpec(
    "webhook_certificate",
    {
        "webhook_certificate_service": {"type": "str", "required": True},
        "webhook_certificate_secret": {
            "type": "dict",
            "required": True,
            "options": {"name": {"type": "str", "required": True}},
        },
        "webhook_certificate_wait": {"type": "bool"},
    },
)
GIVEN: dict[str, Any] = {"webhook_certificate_service": "hook", "webhook_certificate_secret": {"name": "tls"}}


def problems(*hosts: dict[str, Any], size: int = 9, **settings: Any) -> list[str]:
    named = [Host(f"h{number}", {**GIVEN, **variables}) for number, variables in enumerate(hosts)]
    return fleet_settings.problems(Settings(**{"pattern": "clusters", **settings}), named, SPEC, size)


X, Y = {"certflow_context": "x"}, {"certflow_context": "y"}
MAY_START: tuple[tuple[tuple[dict[str, Any], ...], dict[str, Any]], ...] = (
    ((X, Y), {}),
    (({},), {}),  # one host takes its cluster from the environment
    ((X, {"webhook_certificate_kubeconfig": {"apiVersion": "v1"}}), {}),
    ((X, {"webhook_certificate_connection": {"host": "https://192.0.2.1"}}), {}),
    ((X, Y), {"serial": "1, 10%,100%", "max_failures": " 3 "}),
    ((X, Y), {"serial": [1, "25%"], "max_failures": 0}),
    ((X, Y), {"serial": "", "max_failures": ""}),
    ((X, Y), {"chosen": ["h1", "h0"]}),
    ((X, Y), {"fails_on_change": True, "reads_only": True}),
)


@pytest.mark.parametrize(("hosts", "settings"), MAY_START)
def test_a_run_that_may_start(hosts: tuple[dict[str, Any], ...], settings: dict[str, Any]) -> None:
    assert problems(*hosts, **settings) == []


def test_a_name_that_leads_nowhere_is_not_an_absent_one() -> None:
    """Also if it is the only host, or something else names its kubeconfig, whose current context would be used."""
    nowhere = {"certflow_kubeconfig": "k", "certflow_context": UNDEFINED}
    words = "certflow_context refers to a variable that is not defined for h"
    assert problems(nowhere) == [f"{words}0."]
    assert problems(X, nowhere) == [f"{words}1."]
    assert problems({**X, "certflow_cluster_uid": UNDEFINED}) == [
        "certflow_cluster_uid refers to a variable that is not defined for h0."
    ]


# Hosts, settings, the text of the first problem.
MAY_NOT_START: tuple[tuple[tuple[dict[str, Any], ...], dict[str, Any], str], ...] = (
    ((), {"size": 0}, "the inventory has no host"),
    ((), {}, "no host matches certflow_hosts: clusters"),
    ((), {"limit": "a"}, "no host matches certflow_hosts: clusters within --limit a"),
    ((), {"pattern": " "}, "certflow_hosts is empty"),
    ((), {"pattern": None}, "certflow_hosts is empty"),
    ((X, Y), {"pattern": "eks", "chosen": ["h1", "h2"]}, "the inventory sets certflow_hosts to eks"),
    ((X,), {"serial": "0"}, "certflow_serial"),
    ((X,), {"serial": "101%"}, "certflow_serial"),
    ((X,), {"serial": "1,"}, "certflow_serial"),
    ((X,), {"max_failures": "10%"}, "certflow_max_failures is not a number of clusters: 10%"),
    ((X,), {"max_failures": "-1"}, "certflow_max_failures"),
    (({"webhook_certificate_service": ""},), {}, "webhook_certificate_service is not set for h0"),
    (({"webhook_certificate_service": " "},), {}, "webhook_certificate_service"),
    ((X, {**Y, "webhook_certificate_secret": {}}), {}, "webhook_certificate_secret is not set for h1"),
    (
        (X, {**Y, "webhook_certificate_secret": {"name": ""}}),
        {},
        "webhook_certificate_secret is not set for h1",
    ),
    ((X, {}), {}, "these hosts do not name their cluster: h1."),
    ((X, {"certflow_context": ""}), {}, "these hosts do not name their cluster: h1."),
    (({}, {}), {}, "these hosts do not name their cluster: h0, h1."),
    (
        (X, {"webhook_certificate_connection": {"proxy": "x"}}),
        {},
        "these hosts do not name their cluster: h1.",
    ),
    ((X,), {"names": ["certflow_max_failure"]}, "Did you mean certflow_max_failures?"),
    ((X,), {"names": ["webhook_certificate_wiat"]}, "Did you mean webhook_certificate_wait?"),
    (
        (X, {**Y, "webhook_certificate_wait": "x"}),
        {},
        "webhook_certificate_wait is not true or false for h1: 'x'.",
    ),
    ((X,), {"fails_on_change": True}, "certflow_fail_on_change is for runs that write nothing."),
)


@pytest.mark.parametrize(("hosts", "settings", "words"), MAY_NOT_START)
def test_a_run_that_may_not_start(
    hosts: tuple[dict[str, Any], ...], settings: dict[str, Any], words: str
) -> None:
    assert words in problems(*hosts, **settings)[0]


def test_many_hosts_with_a_problem_are_counted() -> None:
    [found] = problems(*({**X, "webhook_certificate_service": ""} for _ in range(50)))
    assert found.startswith("webhook_certificate_service is not set for h0, h1, h2, h3, h4 and 45 more.")


def test_the_summary_is_one_line() -> None:
    """It has the first problem, the number of the others, and the command that shows the variables."""
    lines = problems({**X, "webhook_certificate_service": "", "webhook_certificate_wait": "x"})
    page = "The variables: ansible-doc -t role certflow.kubernetes.webhook_certificate"
    assert fleet_settings.summary(lines, SPEC) == f"{lines[0]} The list above has 1 more. {page}"
    assert fleet_settings.summary(lines[:1], SPEC) == f"{lines[0]} {page}"
    assert fleet_settings.summary(problems(X, serial="0"), SPEC) == problems(X, serial="0")[0]
    assert fleet_settings.summary([], SPEC) == ""


def test_the_inventory_of_the_message_is_a_file_of_the_inventory_plugin() -> None:
    first, *written = problems(size=0)
    assert fleet_settings.summary([first, *written], SPEC) == first
    assert "-i clusters.yml certflow.kubernetes.certificates" in first
    options = yaml.safe_load(kubeconfig_plugin.DOCUMENTATION)["options"]
    inventory = yaml.safe_load("\n".join(written))
    assert inventory.keys() <= options.keys()
    assert inventory["plugin"] == kubeconfig_plugin.InventoryModule.NAME


def kinds_of_failure() -> dict[str, str]:
    """Return the status in the report by the code of the failure. Every other code is a failure."""
    plays = yaml.safe_load((REPOSITORY / "playbooks" / "_fleet.yml").read_text())
    [block] = [
        task for play in plays for task in play["tasks"] if task["name"] == "Run the role on this cluster"
    ]
    kinds: dict[str, str] = block["rescue"][0]["vars"]["__certflow_kinds"]
    return kinds


def test_the_outcome_of_a_failure_depends_on_codes_that_exist() -> None:
    kinds = kinds_of_failure()
    assert kinds.keys() <= CODES.keys()
    assert set(kinds.values()) == {"unreachable", "refused"}


@pytest.mark.parametrize(
    "code", ["managed-bundle", "owned-by-another", "requested-by-another-identity", "secret-unusable"]
)
def test_what_is_another_owners_is_refused(code: str) -> None:
    assert kinds_of_failure()[code] == "refused"
