# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each run imports. The processes of `playbook_process` are forks of one that has it, as runs of AWX are not. Results are the same."""

from __future__ import annotations

from ansible.cli import playbook
from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()  # finds the collection as ansible-playbook does

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (  # noqa: E402
    audit_info,
    k8s_csr,
    webhook_repair,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._action import operation_action  # noqa: E402

__all__ = ["audit_info", "k8s_csr", "operation_action", "playbook", "webhook_repair"]
