# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the variables of the playbook audit, before a cluster is contacted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    check_audit,
    check_hosts,
    exceptions,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.check_hosts import RunInput
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_files, report_text
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import PLAYBOOK_VARIABLES
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.values import UNDEFINED

from tests.support.audit import reports
from tests.support.failures import absent, fails

EXCEPTION = {"check": "expired", "reason": "It is replaced", "until": "2027-01-31"}


def check(tmp_path: Path, *hosts: Mapping[str, Any], **options: Any) -> tuple[list[str], dict[str, Any]]:
    """Check the settings of hosts, which name their clusters. Paths of files start with the text HERE."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        return value.replace("HERE", str(tmp_path)) if isinstance(value, str) else value

    values = {
        f"host-{number}": {"certflow_context": f"c{number}", **{key: placed(host[key]) for key in host}}
        for number, host in enumerate(hosts or ({},))
    }
    run = {"pattern": "clusters", "hosts": values, "inventory_size": len(values), **options}
    return check_audit.check(RunInput("audit", **run), report_files.read_audit)


def test_settings_without_a_problem(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(_report_text())
    (tmp_path / "exceptions.yml").write_text("[{check: expired, reason: r, until: 2027-01-31, objects: x}]")
    (tmp_path / "cas.yml").write_text(
        "host-1: {certificateAuthority: {createdAt: 2027-01-31T10:00:00Z, id: !!binary aGk=, 2027-01-31: x}}\nother: {}"
    )
    shared = {
        "certflow_fail_on": "warning",
        "certflow_report": "HERE/a.json,HERE/a.html",
        "certflow_compare_with": "HERE/old.json",
        "certflow_exceptions": "HERE/exceptions.yml",
        "certflow_certificate_authorities": "HERE/cas.yml",
        "certflow_audit_options": {"ca_break_days": "14", "certificate_authorities": "{}"},
    }
    problems, settings = check(tmp_path, shared, shared)
    assert problems == []
    assert settings["fail_on"] == "warning"
    assert settings["report"] == [f"{tmp_path}/a.json", f"{tmp_path}/a.html"]
    assert settings["exceptions"] == [
        {"check": "expired", "reason": "r", "until": "2027-01-31", "objects": ["x"]}
    ]
    assert settings["counters"] == {"host-1": '{"a.example.com": 3.0}'}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cas.yml", "exceptions.yml", "old.json"]
    assert settings["certificate_authorities"] == {
        "host-1": '{"certificateAuthority": {"createdAt": "2027-01-31T10:00:00+00:00", "id": "b\'hi\'"}}'
    }


def test_what_the_site_does_not_permit_is_of_each_host(tmp_path: Path) -> None:
    name = "certflow_audit_without"
    hosts: list[dict[str, Any]] = [{name: "metrics, port-forward,"}, {name: ["pods"]}, {name: ""}, {}]
    problems, settings = check(tmp_path, *hosts)
    assert problems == []
    assert settings["without"] == {"host-0": "metrics,port-forward", "host-1": "pods"}


def _report_text() -> str:
    return report_text.dump(reports.report({"host-1": reports.result(), "elsewhere": reports.result()}))


#: The variables of all hosts -> names that the only problem has.
WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "gate": ({"certflow_fail_on": "eror"}, ("certflow_fail_on", "error,")),
    "suffix": ({"certflow_report": "HERE/report.pdf"}, ("report.pdf'", ".json,")),
    "no suffix": ({"certflow_report": "HERE/report"}, (".json,",)),
    "directory": ({"certflow_report": "HERE/absent/report.json"}, ("absent/report.json",)),
    "earlier report": ({"certflow_compare_with": "HERE/broken.json"}, ("broken.json",)),
    "absent report": ({"certflow_compare_with": "HERE/absent.json"}, ("absent.json",)),
    "other report": ({"certflow_compare_with": "HERE/run.json"}, ("run.json",)),
    "exceptions": ({"certflow_exceptions": "HERE/absent.yml"}, ("absent.yml",)),
    "no list": ({"certflow_exceptions": {"check": "expired"}}, ("certflow_exceptions",)),
    "no entry": ({"certflow_exceptions": ["expired"]}, ("certflow_exceptions",)),
    "check": ({"certflow_exceptions": [{**EXCEPTION, "check": "expird"}]}, ("'expird',", "expired?")),
    "key": ({"certflow_exceptions": [{**EXCEPTION, "untill": 1}]}, ("untill.", "until?")),
    "no end": ({"certflow_exceptions": [{"check": "expired", "reason": "r"}]}, ("until.",)),
    "no date": ({"certflow_exceptions": [{**EXCEPTION, "until": "soon"}]}, ("'soon'",)),
    "release": ({"certflow_audit_options": {"snapshot_version": "1.0.0"}}, ("1.0.0",)),
    "endpoints": ({"certflow_audit_options": {"endpoints_per_service": 0}}, ("endpoints_per_service",)),
    "days": ({"certflow_audit_options": {"ca_break_days": -1}}, ("ca_break_days",)),
    "authorities": ({"certflow_certificate_authorities": "HERE/absent.yml"}, ("absent.yml",)),
    "no authorities": ({"certflow_certificate_authorities": "HERE/run.json"}, ("run.json",)),
    "word": ({"certflow_audit_without": "pods,metric"}, ("'metric'", "metrics?")),
    "essential": ({"certflow_audit_without": ["services"]}, ("'services'",)),
    "timeout": ({"certflow_audit_options": {"wait_timeout": "0"}}, ("certflow_audit_options.wait_timeout",)),
    "number": ({"certflow_audit_options": {"wait_timeout": "soon"}}, ("certflow_audit_options.wait_timeout",)),
    "option": ({"certflow_audit_options": {"probe_url": True}}, ("probe_url.", "probe_urls?")),
    "no options": ({"certflow_audit_options": "probe_urls"}, ("certflow_audit_options",)),
    "undefined": ({"certflow_kubeconfig": UNDEFINED}, ("certflow_kubeconfig",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_line_for_each_wrong_variable(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.json").write_text('{"format_version": "1.0", "clus')
    (tmp_path / "run.json").write_text(
        '{"format_version": "1.0", "kind": "run", "made_at": "2026-11-26T12:00:00Z", "clusters": []}'
    )
    variables, names = WRONG[name]
    problems = check(tmp_path, variables, variables)[0]
    assert len(problems) == 1, problems
    assert not absent(names, problems[0]), problems
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    ("names", "close"),
    [
        (["certflow_reprot"], "certflow_report?"),
        (["certflow_faill_on"], "certflow_fail_on?"),
        (["certflow_phase"], "certflow_ca_phase?"),
        (["certflow_kinds"], "certflow_repair_kinds?"),
        (["certflow_next_phase"], "prefix"),
        (["certflow"], ""),
        (["certflow_report_path"], "prefix"),
        (["certflow_audit"], ""),
    ],
)
def test_misspelt_names(tmp_path: Path, names: list[str], close: str) -> None:
    problems = check(tmp_path, names=names)[0]
    assert len(problems) == bool(close)
    assert all(close in line for line in problems)


def test_a_shared_variable_with_different_values(tmp_path: Path) -> None:
    hosts = {"certflow_fail_on": "error"}, {"certflow_fail_on": "never"}
    (line,) = check(tmp_path, *hosts)[0]
    assert not absent(("certflow_fail_on",), line)


def test_hosts_that_name_no_cluster(tmp_path: Path) -> None:
    nothing = {"certflow_context": ""}
    assert check(tmp_path, nothing)[0] == []
    for alone in ({"inventory_size": 2, "limit": "host-0"}, {"names": ["awx_job_id"]}):
        (line,) = check(tmp_path, nothing, **alone)[0]
        assert not absent(("host-0.",), line)
    (line,) = check(tmp_path, {}, nothing)[0]
    assert not absent(("host-1.",), line)
    assert "host-0" not in line


#: Options of a run -> a name that the first problem has.
NO_HOSTS: dict[str, tuple[dict[str, Any], str]] = {
    "no inventory": ({"inventory_size": 0}, "certflow.kubernetes.audit"),
    "empty pattern": ({"pattern": ""}, "certflow_hosts"),
    "host and group": ({"groups": {"clusters": ["a"], "all": ["a", "clusters"]}}, "clusters"),
    "host and group of the limit": ({"groups": {"eu": ["a"], "all": ["a", "eu"]}, "limit": "a,eu"}, "eu"),
    "no match": ({"hosts": {}, "limit": "prod"}, "prod"),
    "other hosts": ({"chosen": ["other"]}, "(-e)"),
}


@pytest.mark.parametrize("name", NO_HOSTS)
def test_hosts_that_cannot_be_audited(tmp_path: Path, name: str) -> None:
    options, word = NO_HOSTS[name]
    problems = check(tmp_path, {}, **options)[0]
    assert word in problems[0]


def test_the_summary_counts_further_problems() -> None:
    run = RunInput("audit", "clusters", inventory_size=1)
    assert check_hosts.summary(run, []) == ""
    assert check_hosts.summary(run, ["a.", "b.", "c."]) == "a. The list above has 2 more."


def test_an_exception_without_a_reason() -> None:
    with fails("invalid-input", "reason"):
        exceptions.read([{**EXCEPTION, "reason": " "}])


@pytest.mark.parametrize("key", ["clusters", "objects"])
@pytest.mark.parametrize("value", [[], "", " ", [""], None])
def test_an_exception_without_a_pattern(key: str, value: Any) -> None:
    with fails("invalid-input", key):
        exceptions.read([{**EXCEPTION, key: value}])


def test_the_table_names_the_options_of_the_module() -> None:
    description = PLAYBOOK_VARIABLES[check_audit.OPTIONS]["description"]
    assert set(re.findall("`([a-z_]+)`", description)) == {"audit_info", *check_audit.MODULE_OPTIONS}
