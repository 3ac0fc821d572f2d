# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The actions of steps with their parameters: a plan gives them, and the upgrade expects them."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.step_types import Step

#: For each action, its required and its optional parameters.
ACTIONS: dict[str, tuple[set[str], set[str]]] = {
    "apply": (
        {"release", "parts"},
        {"namespace", "arguments", "secret", "failure_policies", "nodes", "keep_unserved"},
    ),
    "certificate": ({"namespace", "service", "secret", "targets"}, set()),
    "conversion_none": ({"crd"}, set()),
    "conversion_webhook": ({"crd", "service", "secret"}, set()),
    "delete": ({"objects"}, set()),
    "failure_policy": ({"names", "policy"}, set()),
    "migrate_storage": ({"crd", "version"}, {"settle_seconds"}),
    "narrow_rules": ({"name", "rules"}, set()),
    "orphan": ({"namespace", "name"}, set()),
    "reconnect": ({"targets"}, set()),
    "restore": ({"objects"}, {"labels", "ignoring"}),
    "switch_service": ({"namespace", "name", "selector"}, {"target_port"}),
    "verify": (
        {"subject"},
        {"namespace", "name", "release", "check", "version", "timeout", "pods_of"},
    ),
    "wait_available": ({"namespace", "name"}, {"reconnect"}),
    "watch_pods": ({"namespace", "name", "seconds"}, set()),
}


def find_faults(step: Step) -> list[str]:
    """Return the errors in the form of a step, [] if it can be carried out."""
    if step.action not in ACTIONS:
        return [f"{step.id}: no action {step.action}"]
    required, optional = ACTIONS[step.action]
    given = set(step.parameters)
    return [
        *(
            f"{step.id}: {step.action} has no parameter {name}"
            for name in sorted(given - required - optional)
        ),
        *(f"{step.id}: {step.action} needs {name}" for name in sorted(required - given)),
    ]
