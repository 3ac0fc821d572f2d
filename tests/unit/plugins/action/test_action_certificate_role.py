# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role webhook_certificate passes its variables to k8s_csr. No cluster answers, so each run fails before its first request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.failures import absent, has_failed
from tests.support.playbooks.playbook import play

PREFIX = "webhook_certificate_"
GIVEN = {"service": "a", "namespace": "{{ 'b' }}", "secret": {"name": "{{ 'c' }}"}, "kubeconfig": "/nowhere"}


def outcomes(directory: Path, defaults: dict[str, Any], *variables: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the role in a block of a play for each dictionary of variables. Return the failed results.

    defaults: module_defaults of the plays.
    """
    blocks = []
    for number, more in enumerate(variables):
        role = {
            "ansible.builtin.include_role": {"name": "certflow.kubernetes.webhook_certificate"},
            "vars": {
                name if name.startswith("certflow_") else PREFIX + name: value
                for name, value in {**GIVEN, **more}.items()
            },
        }
        shown = f"REPORT {{{{ ['{number}', ansible_failed_result | combine({{'published': webhook_certificate_result}})] | to_json }}}}"
        blocks.append({"block": [role], "rescue": [{"ansible.builtin.debug": {"msg": shown}}]})
    run = play(
        directory,
        [
            {"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": [block]}
            for block in blocks
        ],
    )
    reports = run.reports()
    found: list[dict[str, Any]] = [reports[str(number)] for number in range(len(variables))]
    for row in found:
        assert (row["published"]["code"], row["published"]["msg"]) == (row["code"], row["msg"])
    return found


def test_the_variables_are_the_options_and_blank_ones_leave_the_defaults(tmp_path: Path) -> None:
    """A variable wins over module_defaults. What is omitted is not an option."""
    omitted = "{{ nothing | default(omit) }}"
    defaults = {
        "group/certflow.kubernetes.k8s": {"context": "nowhere", "kubeconfig": "/other"},
        "certflow.kubernetes.k8s_csr": {"wait_timeout": 7, "renew_before": "9d", "state": "absent"},
    }
    variables = {
        "secret": {"name": "{{ 'c' }}", "type": omitted},
        "ca_bundle": omitted,
        "renew_before": "",
        "wait_timeout": "60",
    }
    (found,) = outcomes(tmp_path, defaults, variables)
    used = found["invocation"]["module_args"]
    names = (
        "service",
        "namespace",
        "kubeconfig",
        "context",
        "wait_timeout",
        "renew_before",
        "state",
        "ca_bundle",
    )
    assert [used[name] for name in names] == ["a", "b", "/nowhere", "nowhere", 60, "9d", "present", None]
    assert (used["secret"]["name"], used["secret"]["type"]) == ("c", "kubernetes.io/tls")


def test_a_wrong_variable_never_leads_to_another_cluster(tmp_path: Path) -> None:
    """A kubeconfig that is left out would make the environment choose the cluster."""
    defaults = {"group/certflow.kubernetes.k8s": {"kubeconfig": "/other"}}
    wrong = {"kubeconfig": "{{ nothing }}", "signer_name": "{{ nothing }}", "connection": [1], "targets": 5}
    found_by_name = dict(
        zip(wrong, outcomes(tmp_path, defaults, *({name: value} for name, value in wrong.items())))
    )
    assert len(found_by_name) == len(wrong)
    for name, found in found_by_name.items():
        assert has_failed(found, "invalid-input", f"webhook_certificate_{name}")
        assert "invocation" not in found


def test_a_kubeconfig_with_several_contexts_needs_a_name(tmp_path: Path) -> None:
    """The message names the variable of the role. No request is sent to the current context."""
    contexts = [{"name": name, "context": {"cluster": "x", "user": "x"}} for name in ("dev", "prod")]
    server = {"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}
    content = {
        "current-context": "dev",
        "contexts": contexts,
        "clusters": [server],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    several, single = tmp_path / "several", tmp_path / "single"
    several.write_text(json.dumps(content))
    single.write_text(json.dumps({**content, "contexts": contexts[:1]}))
    unnamed, named, only = outcomes(
        tmp_path,
        {},
        {"kubeconfig": str(several)},
        {"kubeconfig": str(several), "context": "prod"},
        {"kubeconfig": str(single)},
    )
    assert has_failed(unnamed, "invalid-connection", "webhook_certificate_context")
    assert (named["code"], only["code"]) == ("unreachable", "unreachable")


def test_a_plan_of_the_playbooks_is_refused(tmp_path: Path) -> None:
    """The role outside of a fleet run compares nothing with it. An empty text, also of a template, is no plan."""
    plans: list[Any] = ["plan.json", {}, "", "{{ nothing | default('') }}"]
    found = outcomes(tmp_path, {}, *({"certflow_plan": plan} for plan in plans))
    for row in found[:2]:
        assert row["code"] == "invalid-input"
        assert not absent(["certflow_plan", "approved_plan", "k8s_csr", "certificates."], row["msg"])
    for row in found[2:]:
        assert "certflow_plan" not in row["msg"]
