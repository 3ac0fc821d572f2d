# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do a step of a fleet run on the controller. The action does all of the work, and no module runs."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils._ansible.operation import failed_result
from ..module_utils._base.errors import CertflowError
from ..plugin_utils._fleet.run_steps import Step


class ActionModule(ActionBase):  # type: ignore[misc]
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            answer = Step(self._task, self._loader, self._templar, task_vars or {}).run()
        except CertflowError as error:
            answer = failed_result(error)
        return {**result, "changed": False, **answer}
