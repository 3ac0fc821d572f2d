# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The execution mode ``module``: an ordinary Ansible module around an operation."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from . import redaction
from .operation import Operation, execute


def run_module(operation: Operation) -> None:
    """Validate the arguments, run the operation, and print its result."""
    module = AnsibleModule(
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
