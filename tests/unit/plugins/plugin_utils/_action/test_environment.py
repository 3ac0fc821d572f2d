# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A relative path of the environment starts where Ansible does, in both execution modes. No cluster exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.playbooks.playbook import play

VARIABLES = ("K8S_AUTH_KUBECONFIG", "KUBECONFIG")


def write_kubeconfig(path: Path) -> None:
    """Write a kubeconfig whose context has the name of its folder, and whose API server does not answer."""
    name = path.parent.name
    kubeconfig = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.invalid:1"}}],
        "users": [{"name": name, "user": {"token": "x"}}],
    }
    path.write_text(json.dumps(kubeconfig))


@pytest.mark.parametrize("value", ["config", "../absent:config"])
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("mode", ["in_process", "module"])
def test_a_relative_kubeconfig_of_the_environment_is_one_file(
    tmp_path: Path, variable: str, value: str, mode: str
) -> None:
    """Ansible runs a module in the folder of the play, which may hold the kubeconfig of another cluster."""
    places = {name: tmp_path / name for name in ("production", "staging")}
    for place in places.values():
        place.mkdir()
        write_kubeconfig(place / "config")
    task = {"certflow.kubernetes.k8s_csr_info": {"wait_timeout": 1}}
    variables = {"__certflow_execution_mode": mode}
    site = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task]}]
    (places["production"] / "site.yml").write_text(json.dumps(site))
    unset = dict.fromkeys(VARIABLES, "")
    done = play(places["staging"], Path("../production/site.yml"), **{**unset, variable: value})
    assert "staging.invalid" in done.output, done.output
    assert "production.invalid" not in done.output, done.output
