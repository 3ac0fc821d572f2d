# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The values of variables as a survey of AWX gives them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import spec_of
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import read_variables
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import of_role

pytestmark = pytest.mark.quick

NAME = "snapshot_controller_accept"
LIMITED = {"helm": "Deployment/kube-system/x"}


class Templar:
    def template(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("argocd, helm", ["argocd", "helm"]),
        (" argocd ", ["argocd"]),
        ('["argocd", "helm"]', ["argocd", "helm"]),
        ('[{"helm": "Deployment/kube-system/x"}]', [LIMITED]),
        ('{"helm": "Deployment/kube-system/x"}', [LIMITED]),
        ("[]", []),
        ('["argocd"', ['["argocd"']),
        (["argocd", LIMITED], ["argocd", LIMITED]),
        ("", ""),
        (None, None),
    ],
)
def test_the_text_of_a_list_is_parsed(value: Any, items: Any) -> None:
    """The check and the options of the module get the same items."""
    for spec in (of_role("snapshot_controller"), spec_of("upgrade")):
        assert read_variables.of_spec(Templar(), spec, {NAME: value})[NAME] == items
    spec = of_role("snapshot_controller")
    assert read_variables.options_of_role(Templar(), spec, {NAME: value})[NAME] == items


def test_the_text_of_another_variable_is_kept() -> None:
    """A report is one path, and the code of a playbook parses its lists itself."""
    values = {"certflow_report": "a,b.json", "snapshot_controller_source": "a, b", "certflow_stages": "[]"}
    assert read_variables.of_spec(Templar(), spec_of("upgrade"), values) == values
    values = {"certflow_report": "a.html, b.json", "certflow_exceptions": "exceptions.yml"}
    assert read_variables.of_spec(Templar(), spec_of("audit"), values) == values


#: The variables that the role webhook_certificate needs.
REQUIRED = {
    "webhook_certificate_service": "a",
    "webhook_certificate_namespace": "b",
    "webhook_certificate_secret": {"name": "c"},
}


@pytest.mark.parametrize(
    ("own", "is_refused"), [("{{ certflow_context | default('') }}", True), ("prod", False)]
)
def test_a_name_near_a_default_of_the_role_is_misspelt(own: str, is_refused: bool) -> None:
    """The default takes certflow_context, so it has a value although no user set the role's own variable."""
    spec = of_role("webhook_certificate")
    variables = {
        **REQUIRED,
        "webhook_certificate_context": own,
        "webhook_certificate_contxt": "prod",
        "certflow_context": "dev",
    }
    values = {**read_variables.of_spec(Templar(), spec, variables), "webhook_certificate_context": "dev"}
    problem = read_variables.role_problem(None, spec, values, variables)
    assert ("Did you mean webhook_certificate_context?" in problem) is is_refused


@pytest.mark.parametrize(
    ("asked", "own", "extra", "is_refused"),
    [
        ("eks", "kind-kind", {"certflow_context"}, True),
        ("eks", "kind-kind", set(), False),  # the inventory sets it, and the play has its own
        ("eks", "eks", {"certflow_context"}, False),
        ("{{ chosen }}", "eks", {"certflow_context"}, False),
    ],
)
def test_a_context_of_the_command_line_that_the_play_does_not_use(
    monkeypatch: pytest.MonkeyPatch, asked: str, own: str, extra: set[str], is_refused: bool
) -> None:
    monkeypatch.setattr(read_variables, "extra_names", lambda _loader: extra)
    spec = of_role("webhook_certificate")
    variables = {**REQUIRED, "webhook_certificate_context": own, "certflow_context": asked}
    values = read_variables.of_spec(Templar(), spec, variables)
    problem = read_variables.role_problem(None, spec, values, variables)
    assert ("certflow_context of the command line is" in problem) is is_refused, problem
