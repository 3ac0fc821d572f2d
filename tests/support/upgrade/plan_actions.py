# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read an action from its name and parameters, as results carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import (
    Action,
    Place,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    DeletedObject,
    DeleteObjects,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.webhook_actions import (
    CalledService,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.actions import ACTIONS

CLASSES: dict[str, Callable[..., Action]] = {row.action_name: row for row in ACTIONS}


def parse_action(name: str, parameters: Mapping[str, Any]) -> Action:
    """Return the action. Raises KeyError for an unknown name, TypeError for unknown and missing parameters."""
    values = dict(parameters)
    row = DeletedObject if CLASSES[name] is DeleteObjects else Reference
    for key, kind in {"objects": row, "targets": Reference, "reconnect": Reference}.items():
        if key in values:
            values[key] = [kind(**entry) for entry in values[key]]
    for key, single in {"service": CalledService, "secret": Place}.items():
        if isinstance(values.get(key), Mapping):
            values[key] = single(**values[key])
    return CLASSES[name](**values)
