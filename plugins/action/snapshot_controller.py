# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run snapshot_controller inside Ansible's own process if possible. See plugin_utils/_action/operation_action.py."""

from __future__ import annotations

from ..module_utils._operations.snapshot_controller import OPERATION
from ..plugin_utils._action.operation_action import OperationAction


class ActionModule(OperationAction):
    operation = OPERATION
