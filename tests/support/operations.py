# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run an operation with options as a task has them. Unit tests on Python 3.9 use it too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator, ValidationResult
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation


def validate(operation: Operation, options: Mapping[str, Any]) -> ValidationResult:
    """Return what Ansible says about the options."""
    return ArgumentSpecValidator(dict(operation.argument_spec), **operation.constraints).validate(
        dict(options)
    )


def validated(operation: Operation, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an operation as Ansible passes them: checked, with defaults."""
    checked = validate(operation, options)
    assert not checked.error_messages, checked.error_messages
    parameters: dict[str, Any] = checked.validated_parameters
    return parameters


def operate(operation: Operation, options: Mapping[str, Any], *, check_mode: bool = False) -> dict[str, Any]:
    """Run an operation as both execution modes do, and return its result. It never holds a private key."""
    result = execute(operation, validated(operation, options), check_mode=check_mode)
    assert "PRIVATE KEY" not in json.dumps(result)
    assert result.get("code") != "defect", result
    return result
