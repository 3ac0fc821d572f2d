# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the report of an audit on the controller. The action does all of the work, and no module runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ..module_utils._ansible import argument_specs, redaction
from ..module_utils._ansible.operation import failed_result
from ..module_utils._base.errors import CertflowError, as_error
from ..plugin_utils._report import audit_report


class ActionModule(ActionBase):  # type: ignore[misc]
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = _plain(self._task.args)
        try:
            parameters = _validated(arguments)
            results = self._results(parameters, task_vars or {})
            answer = audit_report.run(parameters, results, check_mode=bool(self._task.check_mode))
        except Exception as error:  # every error becomes one line
            answer = failed_result(as_error(error))
        return {**result, **redaction.clean(answer)}

    def _results(self, parameters: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what each host registered, None for a host without a result.

        The values are read from Ansible's memory, so text of clusters never passes through a template.
        """
        name = parameters["registered"]
        hosts = parameters["hosts"] or list(variables.get("ansible_play_hosts_all") or ())
        hostvars = variables["hostvars"]
        unknown = [host for host in hosts if host not in hostvars]
        if unknown:
            raise CertflowError(
                f"the option hosts has {', '.join(unknown)}, which is not in the inventory",
                remedy="Remove it",
            )
        return {host: _plain(hostvars.raw_get(host).get(name)) for host in hosts}


def _validated(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the options with their defaults. Raises CertflowError, which quotes no value."""
    fault = argument_specs.find_fault(audit_report.SPEC, arguments)
    if fault:
        raise CertflowError(fault)
    validation = ArgumentSpecValidator(audit_report.SPEC).validate(arguments)
    if validation.error_messages:
        raise CertflowError(validation.errors.msg)
    return dict(validation.validated_parameters)


def _plain(value: Any) -> Any:
    """Return the value as plain data, without the types by which Ansible marks it."""
    return json.loads(json.dumps(value, default=str))
