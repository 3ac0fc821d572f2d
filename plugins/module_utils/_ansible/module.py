# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The execution mode ``module``: an ordinary Ansible module around an operation."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import argument_specs, redaction
from .operation import Operation, execute


class _Module(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule whose message about a value that is not a dictionary names the option."""

    def fail_json(self, msg: str, **values: Any) -> None:
        if "code" not in values:  # of the validation, not of the operation
            msg = argument_specs.find_fault(self.argument_spec, self.params) or msg
        super().fail_json(msg, **values)


def run_module(operation: Operation) -> None:
    """Validate the arguments, run the operation, and print its result."""
    module = _Module(
        argument_spec=dict(operation.argument_spec),
        supports_check_mode=True,
        no_log=True,  # keeps a kubeconfig given as a dictionary out of the target's syslog
        **operation.constraints,
    )
    redaction.protect(module.params, module.no_log_values)
    result = execute(operation, module.params, check_mode=module.check_mode)
    for text in result.pop("warnings", ()):
        module.warn(text)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)
