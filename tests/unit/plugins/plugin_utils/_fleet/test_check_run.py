# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of a fleet run, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.inventory import kubeconfig as kubeconfig_plugin
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import check_hosts, check_run
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.check_hosts import RunInput
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import spec_of
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.values import (
    UNDEFINED,
    UNREADABLE,
)

from tests.support.certificates.authority import authority
from tools.ci.venvs import REPOSITORY

pytestmark = pytest.mark.quick

GIVEN: dict[str, Any] = {
    "webhook_certificate_service": "hook",
    "webhook_certificate_namespace": "apps",
    "webhook_certificate_secret": {"name": "tls"},
}
#: The hosts of the inventory that a pattern matches.
MEMBERS = {"first": ["h0"], "nothing": []}


def run(*hosts: dict[str, Any], shared: dict[str, Any] | None = None, **options: Any) -> RunInput:
    """Return a run on the hosts h0, h1, ... shared: the variables of all hosts."""
    values = {
        f"h{number}": {**GIVEN, **(shared or {}), **variables} for number, variables in enumerate(hosts)
    }
    defaults = {"pattern": "clusters", "members": MEMBERS, "inventory_size": 9}
    return RunInput(**{"playbook": "certificates", "hosts": values, **defaults, **options})


def problems(*hosts: dict[str, Any], size: int = 9, **options: Any) -> list[str]:
    return check_run.find_problems(run(*hosts, inventory_size=size, **options))


UID = "0a1b2c3d-0000-4000-8000-000000000000"
X, Y = {"certflow_context": "x"}, {"certflow_context": "y"}
UPGRADE = {"snapshot_controller_version": "8.7.0"}
MAY_START: tuple[tuple[tuple[dict[str, Any], ...], dict[str, Any]], ...] = (
    ((X, Y), {}),
    (({},), {"size": 1}),  # the only host of the inventory takes its cluster from the environment
    (({},), {"size": 1, "limit": "h0", "names": ["webhook_certificate_service"]}),
    ((X, {"webhook_certificate_kubeconfig": {"apiVersion": "v1"}}), {}),
    ((X, {"webhook_certificate_connection": {"host": "https://192.0.2.1"}}), {}),
    ((X, Y), {"chosen": ["h1", "h0"]}),
    ((X, Y), {"pattern": "clusters", "groups": {"eu": ["eu"], "clusters": ["h0"], "all": ["eu", "h0"]}}),
    ((X, Y), {"reads_only": True, "shared": {"certflow_fail_on_change": "yes"}}),
    ((X, Y), {"shared": {"certflow_fail_on_change": "no"}}),
    ((X, Y), {"playbook": "upgrade", "shared": {**UPGRADE, "certflow_deadline": "13m"}}),
    ((X, Y), {"playbook": "upgrade", "shared": {**UPGRADE, "certflow_deadline": "1m"}, "reads_only": True}),
    ((X, Y), {"playbook": "upgrade", "shared": {**UPGRADE, "certflow_deadline": "5m", "snapshot_controller_step_timeout": 60}}),
    # AWX answers an optional question with an empty text.
    ((X, Y), {"shared": dict.fromkeys(spec_of("certificates").shared, "")}),
    ((X, Y), {"shared": {"certflow_max_failures": " 10% ", "certflow_until": "canary", "certflow_deadline": "20m"}}),
    ((X, Y), {"shared": {"certflow_stages": [{"name": "a", "hosts": "first"}, {"name": "b", "hosts": "rest"}]}}),
    ((X, Y), {"shared": {"certflow_report": "~/r.json", "certflow_run_file": "r.run", "certflow_after_cluster": "my.role"}}),
    (({**X, "certflow_cluster_uid": UID}, {**Y, "certflow_cluster_uid": UID[::-1]}), {}),
    ((X, {**Y, "webhook_certificate_secret": {"name": "other"}}), {"shared": {"certflow_cluster_uid": UID}}),
    ((X, Y), {"shared": {"certflow_plan": "plan.json", "certflow_window_override": True}}),
    (
        ({**X, "certflow_window": {"start": "22:00", "end": "04:00"}}, {**Y, "certflow_deadline": 600}),
        {"shared": {"certflow_cluster_uid": UID, "certflow_allow_shared_cluster": True}},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("hosts", "settings"), MAY_START)
def test_a_run_that_may_start(hosts: tuple[dict[str, Any], ...], settings: dict[str, Any]) -> None:
    assert problems(*hosts, **settings) == []


def test_a_name_that_leads_nowhere_is_not_an_absent_one() -> None:
    """Also if it is the only host, or something else names its kubeconfig, whose current context would be used."""
    nowhere = {"certflow_kubeconfig": "k", "certflow_context": UNDEFINED}
    words = "refers to a variable that is not defined."
    assert problems(nowhere) == [f"certflow_context {words}"]
    assert problems(X, nowhere) == [f"h1: certflow_context {words}"]
    assert problems({**X, "certflow_cluster_uid": UNDEFINED}) == [f"certflow_cluster_uid {words}"]


@pytest.mark.parametrize("playbook", ["certificates", "upgrade"])
def test_a_variable_that_cannot_be_rendered_is_the_only_problem_of_it(playbook: str) -> None:
    """Of one host or of all. It is neither unset, nor a wrong value, nor a difference between hosts."""
    release = {"snapshot_controller_version": "8.7.0"}
    for name in spec_of(playbook).options:
        line = f"{name} cannot be rendered. Correct its template."
        value = {name: UNREADABLE}
        for hosts, start in (({**X, **value}, {**Y, **value}), ""), ((X, {**Y, **value}), "h1: "):
            assert problems(*hosts, playbook=playbook, shared=release) == [f"{start}{line}"]


# Hosts, settings, the text of the first problem.
MAY_NOT_START: tuple[tuple[tuple[dict[str, Any], ...], dict[str, Any], str], ...] = (
    ((), {"size": 0}, "the inventory has no host"),
    ((), {}, "no host matches certflow_hosts: clusters. Set certflow_hosts to a host or a group of the inventory, such as -e certflow_hosts=all"),
    ((), {"limit": "a"}, "no host matches certflow_hosts: clusters within --limit a"),
    ((X,), {"pattern": "prod:&eu", "groups": {"eu": ["eu"], "all": ["eu"]}}, "eu is the name of a host and of a group"),
    ((X,), {"limit": "!eu", "groups": {"eu": [], "all": ["eu"]}}, "eu is the name of a host and of a group"),
    (
        (X,),
        {
            "groups": {"first": [], "all": ["first"]},
            "shared": {"certflow_stages": [{"name": "a", "hosts": "first[0]"}]},
        },
        "first is the name of a host and of a group",
    ),
    ((), {"pattern": " "}, "certflow_hosts is empty"),
    ((), {"pattern": None}, "certflow_hosts is empty"),
    ((X, Y), {"pattern": "eks", "chosen": ["h1", "h2"]}, "the inventory sets certflow_hosts to eks"),
    ((X,), {"shared": {"certflow_max_failures": "few"}}, "certflow_max_failures is not a number of clusters"),
    ((X,), {"shared": {"certflow_max_failures": "-1"}}, "certflow_max_failures"),
    ((X,), {"shared": {"certflow_max_failures": UNDEFINED}}, "certflow_max_failures refers to a variable"),
    ((X,), {"shared": {"certflow_stages": [{"name": "a"}]}}, "certflow_stages[0] lacks hosts."),
    ((X,), {"shared": {"certflow_stages": [{"name": "a", "hosts": "nothing"}]}}, "the stage a: nothing"),
    ((X, Y), {"shared": {"certflow_stages": [{"name": "a", "hosts": "first"}]}}, "in no stage: h1."),
    ((X,), {"shared": {"certflow_until": "cannary"}}, "Did you mean canary?"),
    ((X,), {"shared": {"certflow_deadline": "soon"}}, "certflow_deadline is not a duration: 'soon'."),
    ((X,), {"shared": {"certflow_deadline": 0}}, "certflow_deadline"),
    ((X, {**Y, **UPGRADE, "certflow_deadline": "12m"}), {"playbook": "upgrade", "shared": UPGRADE}, "h1: certflow_deadline"),
    (
        (X, {**Y, "certflow_deadline": "12m", "snapshot_controller_step_timeout": "900"}),
        {"playbook": "upgrade", "shared": UPGRADE},
        "h1: certflow_deadline is shorter than 1026 s",
    ),
    ((X, {**Y, "certflow_window": {"start": "22:00"}}), {}, "h1: certflow_window lacks end."),
    ((X, {**Y, "certflow_window": UNDEFINED}), {}, "h1: certflow_window refers to a variable"),
    ((X,), {"shared": {"certflow_window_override": "maybe"}}, "certflow_window_override is not true or false"),
    ((X, {**Y, "certflow_cluster_uid": "a b"}), {}, "h1: certflow_cluster_uid is not a UID: 'a b'."),
    ((X, Y), {"shared": {"certflow_cluster_uid": UID}}, "the hosts h0, h1 mean the same cluster"),
    ((X, Y), {"shared": {"certflow_cluster_uid": UID, "certflow_allow_shared_cluster": "no"}}, "certflow_allow_shared_cluster"),
    ((X,), {"shared": {"certflow_plan": "sha256:12"}}, "certflow_plan is a hash"),
    ((X,), {"shared": {"certflow_plan": ["x"]}}, "certflow_plan"),
    ((X,), {"shared": {"certflow_report": "a\nb.json"}}, "certflow_report[0] is not a text on one line"),
    ((X,), {"shared": {"certflow_report": "~/.ssh/authorized_keys"}}, "certflow_report is not one path that ends in .json"),
    ((X,), {"shared": {"certflow_run_file": {"a": 1}}}, "certflow_run_file is not a text on one line"),
    ((X,), {"shared": {"certflow_after_cluster": ["x"]}}, "certflow_after_cluster is not a text on one line"),
    ((X,), {"shared": {"certflow_allow_shared_cluster": "x"}}, "certflow_allow_shared_cluster is not true or false"),
    ((X, {**Y, "certflow_max_failures": 1}), {}, "certflow_max_failures is a variable of the whole run, and its value differs between hosts."),
    (({**X, "certflow_until": "canary"}, Y), {}, "certflow_until is a variable of the whole run"),
    (({"webhook_certificate_service": ""},), {}, "webhook_certificate_service is not set."),
    (({"webhook_certificate_service": " "},), {}, "webhook_certificate_service"),
    ((X, {**Y, "webhook_certificate_secret": {}}), {}, "h1: webhook_certificate_secret is not set."),
    ((X, {**Y, "webhook_certificate_secret": {"name": ""}}), {}, "h1: webhook_certificate_secret is not set."),
    ((X, {}), {}, "these hosts do not name their cluster: h1."),
    # --limit and a slice of an AWX job leave one host. A slice does not show how many hosts the inventory has.
    (({},), {"size": 2, "limit": "h0"}, "these hosts do not name their cluster: h0."),
    (({},), {"size": 1, "names": ["awx_job_id"]}, "these hosts do not name their cluster: h0."),
    (({"webhook_certificate_connection": {"api_key": "k"}},), {}, "these hosts do not name their cluster: h0."),
    ((X,), {"shared": {"certflow_window": []}}, "certflow_window is not a window or a list of windows"),
    ((X,), {"shared": {"certflow_window": {}}}, "certflow_window lacks start and end"),
    ((X, {"certflow_context": ""}), {}, "these hosts do not name their cluster: h1."),
    (({}, {}), {}, "these hosts do not name their cluster: h0, h1."),
    ((X, {"webhook_certificate_connection": {"proxy": "x"}}), {}, "these hosts do not name their cluster: h1."),
    ((X,), {"names": ["certflow_max_failure"]}, "Did you mean certflow_max_failures?"),
    ((X,), {"names": ["certflow_canary"]}, "certflow_canary is not a variable of these playbooks."),
    ((X,), {"inventory_names": {"h0": ["certflow_contxt"]}}, "Did you mean certflow_context?"),
    ((X,), {"inventory_names": {"h0": ["certflow_windows"]}}, "Did you mean certflow_window?"),
    ((X,), {"inventory_names": {"h0": ["webhook_certificate_wiat"]}}, "Did you mean webhook_certificate_wait?"),
    ((X,), {"inventory_names": {"h0": ["CERTFLOW_CONTEXT"]}}, "Did you mean certflow_context?"),
    # Another host sets the variable that is meant.
    (({**X, "webhook_certificate_context": "z"}, Y), {"inventory_names": {"h1": ["webhook_certificate_contxt"]}}, "Did you mean webhook_certificate_context?"),
    (({"certflow_context": False},), {}, "certflow_context is not a text: a boolean. Put the word in quotes, or set"),
    ((X, Y), {"unnamed_contexts": dict.fromkeys(["h0", "h1"], "c")}, "h0, h1: c"),
    ((X,), {"names": ["certflow_stagse"]}, "Did you mean certflow_stages?"),
    ((X,), {"names": ["webhook_certificate_wiat"]}, "Did you mean webhook_certificate_wait?"),
    ((X, {**Y, "webhook_certificate_wait": "x"}), {}, "h1: webhook_certificate_wait is not true or false: 'x'."),
    ((X,), {"shared": {"certflow_fail_on_change": True}}, "certflow_fail_on_change is for runs with --check"),
    # The tag plan tries no step of an upgrade, so it does not know what would change.
    ((X,), {"playbook": "upgrade", "reads_only": True, "has_reading_tag": True, "shared": {**UPGRADE, "certflow_fail_on_change": True}},
     "without --tags"),
    ((X,), {"playbook": "upgrade", "shared": {**UPGRADE, "certflow_deadline": "20m", "snapshot_controller_step_timeout": "10m"}},
     "snapshot_controller_step_timeout"),
)  # fmt: skip


@pytest.mark.parametrize(("hosts", "settings", "words"), MAY_NOT_START)
def test_a_run_that_may_not_start(
    hosts: tuple[dict[str, Any], ...], settings: dict[str, Any], words: str
) -> None:
    assert words in problems(*hosts, **settings)[0]


def test_an_unknown_name_of_the_inventory_is_a_note() -> None:
    """A name near a variable of the role that is set may belong to another role."""
    names = ["certflow_canary", "certflow_server", "webhook_certificate_wiat"]
    given = run({**X, "webhook_certificate_wait": True}, Y, inventory_names={"h0": names})
    assert check_run.find_problems(given) == []
    [line] = check_hosts.notes(given)
    assert "certflow_canary" in line


def test_a_uid_names_a_cluster() -> None:
    assert problems({"certflow_cluster_uid": UID}) == []


ROOT = authority("enterprise root")
INTERMEDIATES = [authority(f"intermediate {number}", ROOT) for number in range(2)]
SUCCESSORS = [{"certflow_cluster_ca": {"successor": ca.pem + ROOT.pem}} for ca in INTERMEDIATES]
ROOT_ONLY = {"certflow_cluster_ca": {"successor": ROOT.pem}}
OTHER_ROOT = authority("another root")
#: The same CAs with a twin that another root signed.
TWINS = [
    {
        "certflow_cluster_ca": {
            "successor": "".join(
                entry.pem
                for entry in (
                    ROOT,
                    OTHER_ROOT,
                    ca,
                    authority(f"intermediate {number}", OTHER_ROOT, key=ca.key),
                )
            )
        }
    }
    for number, ca in enumerate(INTERMEDIATES)
]
#: A dictionary of a survey of AWX, or of the command line.
TEXT = {"certflow_cluster_ca": json.dumps({"successor": ROOT.pem})}


@pytest.mark.parametrize(
    ("first", "second", "shared", "is_refused"),
    [
        (SUCCESSORS[0], SUCCESSORS[0], {}, True),
        # The root may be that of an enterprise. The CAs that will sign are compared.
        (SUCCESSORS[0], SUCCESSORS[1], {}, False),
        (TWINS[0], TWINS[1], {}, False),
        (TWINS[0], TWINS[0], {}, True),
        (TEXT, TEXT, {}, True),
        (ROOT_ONLY, SUCCESSORS[0], {}, False),
        (ROOT_ONLY, ROOT_ONLY, {}, True),
        (ROOT_ONLY, {}, {}, False),
        ({"certflow_cluster_ca": {"successor": ""}}, {"certflow_cluster_ca": {"successor": ""}}, {}, False),
        # The user says that the clusters share what they were restored from.
        (ROOT_ONLY, ROOT_ONLY, {"certflow_allow_shared_cluster": True}, False),
    ],
)
def test_two_clusters_do_not_get_one_successor(
    first: dict[str, Any], second: dict[str, Any], shared: dict[str, Any], is_refused: bool
) -> None:
    lines = problems({**X, **first}, {**Y, **second}, playbook="cluster_ca", shared=shared)
    assert len(lines) == is_refused
    assert all(line.startswith("h0, h1: certflow_cluster_ca has the same successor") for line in lines)


def test_many_hosts_with_a_problem_are_counted() -> None:
    [line] = problems(*({**X, "webhook_certificate_service": ""} for _ in range(50)), X)
    assert line.startswith("h0, h1, h2, h3, h4 and 45 more: webhook_certificate_service is not set.")


def test_the_summary_is_one_line() -> None:
    """It has the first problem, the number of the others, and the command that shows the variables."""
    given = run({**X, "webhook_certificate_service": "", "webhook_certificate_wait": "x"})
    lines = check_run.find_problems(given)
    page = "The variables: ansible-doc -t role certflow.kubernetes.webhook_certificate"
    assert check_hosts.summary(given, lines) == f"{lines[0]} The list above has 1 more. {page}"
    assert check_hosts.summary(given, lines[:1]) == f"{lines[0]} {page}"
    of_playbook = problems(X, shared={"certflow_max_failures": "x"})
    assert check_hosts.summary(given, of_playbook) == of_playbook[0]
    assert check_hosts.summary(given, []) == ""


def test_the_lines_that_the_page_shows() -> None:
    page = (REPOSITORY / "docs/docsite/rst/reference_playbook_variables.rst").read_text()
    hosts = {f"prod-{number}": {**GIVEN, "certflow_context": f"c{number}"} for number in range(1, 4)}
    for name in ("prod-1", "prod-2"):
        hosts[name]["certflow_window"] = {"start": 1320, "end": "04:00"}
    for values in hosts.values():
        values["webhook_certificate_secret"] = "hook-tls"
    lines = check_run.find_problems(run(hosts=hosts, names=["certflow_max_failure"]))
    assert len(lines) == 3
    assert [line for line in lines if f"   {line}\n" not in page] == []


def test_a_job_of_awx_is_pointed_to_its_survey() -> None:
    [line] = problems({**X, "webhook_certificate_service": ""}, names=["awx_job_id"])
    assert "survey" in line
    assert "-e" not in line


def test_the_inventory_of_the_message_is_a_file_of_the_inventory_plugin() -> None:
    given = run(inventory_size=0)
    first, *written = check_run.find_problems(given)
    assert check_hosts.summary(given, [first, *written]) == first
    assert "-i clusters.yml certflow.kubernetes.certificates" in first
    options = yaml.safe_load(kubeconfig_plugin.DOCUMENTATION)["options"]
    inventory = yaml.safe_load("\n".join(written))
    assert inventory.keys() <= options.keys()
    assert inventory["plugin"] == kubeconfig_plugin.InventoryModule.NAME


def test_the_stages_and_the_budget_of_a_run() -> None:
    """A percentage is of the clusters up to certflow_until, within --limit."""
    stages = [{"name": "canary", "hosts": "first"}, {"name": "fleet", "hosts": "rest"}]
    shared = {"certflow_stages": stages, "certflow_max_failures": "10%"}
    hosts: list[dict[str, Any]] = [{} for _number in range(21)]
    given = run(*hosts, shared=shared)
    assert check_run.stage_patterns(given) == ["first"]
    assert [stage.name for stage in check_run.assign_stages(given).stages] == ["canary", "fleet"]
    assert check_run.make_budget(given) == Budget(2, "named")
    assert check_run.make_budget(run(*hosts, shared={**shared, "certflow_until": "canary"})) == Budget(
        0, "named"
    )
    assert check_run.make_budget(run(*hosts, shared=shared, reads_only=True)) == Budget(2, canary="")


@pytest.mark.parametrize(
    ("stages", "canary"),
    [
        (None, "first"),
        ("", "first"),
        ([{"name": "Canary", "hosts": "first"}, {"name": "fleet", "hosts": "rest"}], "named"),
        ('[{"name": "canary", "hosts": "first"}]', "named"),
        ([{"name": "fleet", "hosts": "rest"}], ""),
    ],
)
def test_the_canary_of_a_run(stages: Any, canary: str) -> None:
    """The stages name it, also if no cluster of the run is in that stage, as in a slice of a job."""
    assert check_run.make_budget(run({}, shared={"certflow_stages": stages}, members={})).canary == canary


def test_each_checked_variable_is_in_the_table() -> None:
    assert check_run.CHECKS.keys() <= spec_of("repair").options.keys()


@pytest.mark.parametrize(
    ("value", "is_right"),
    [("check.yml", True), ("absent.yml", False), ("folder.yml", False), ("/absent.yaml", False), ("my.own.role", True), ("", True)],
)  # fmt: skip
def test_the_file_of_the_user_s_check(tmp_path: Path, value: str, is_right: bool) -> None:
    (tmp_path / "check.yml").touch()
    (tmp_path / "folder.yml").mkdir()
    given = run({}, shared={"certflow_after_cluster": value})
    assert (not [*check_run.check_file_problems(given, str(tmp_path))]) == is_right


@pytest.mark.parametrize(
    ("name", "value", "is_right"),
    [
        ("certflow_findings", "HERE/report.json", False),
        ("certflow_findings", " HERE/folder/../report.json ", False),
        ("certflow_findings", "HERE/link.json", False),
        ("certflow_findings", "HERE/other.json", True),
        ("certflow_findings", {"clusters": []}, True),
        ("certflow_findings", '{"clusters":\n []}', True),
        ("certflow_findings", "", True),
        ("certflow_plan", "HERE/report.json", False),
        ("certflow_exceptions", "HERE/report.json", False),
        ("certflow_run_file", "HERE/report.json", False),
    ],
)
def test_the_report_does_not_replace_an_input(tmp_path: Path, name: str, value: Any, is_right: bool) -> None:
    (tmp_path / "link.json").symlink_to("report.json")
    place = value.replace("HERE", str(tmp_path)) if isinstance(value, str) else value
    given = run({}, shared={"certflow_report": f"{tmp_path}/report.json", name: place})
    lines = [*check_run.check_file_problems(given, None)]
    assert [name in line for line in lines] == ([] if is_right else [True])
    assert [*check_run.check_file_problems(run({}, shared={name: place}), None)] == []
