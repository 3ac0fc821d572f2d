# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the events that AWX would store for a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: bench_events
type: aggregate
short_description: Count the events of a run
description: Writes their number to the file of the variable BENCH_EVENTS.
"""

#: The events of ansible-runner.
EVENTS = (
    "v2_playbook_on_start",
    "v2_playbook_on_play_start",
    "v2_playbook_on_task_start",
    "v2_playbook_on_handler_task_start",
    "v2_playbook_on_include",
    "v2_playbook_on_stats",
    "v2_runner_on_start",
    "v2_runner_on_ok",
    "v2_runner_on_failed",
    "v2_runner_on_skipped",
    "v2_runner_on_unreachable",
    "v2_runner_retry",
    "v2_runner_item_on_ok",
    "v2_runner_item_on_failed",
    "v2_runner_item_on_skipped",
)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def add(self) -> None:
        self.count += 1
        Path(os.environ["BENCH_EVENTS"]).write_text(str(self.count))


def _counted(name: str) -> Any:
    def event(self: CallbackModule, *_arguments: Any, **_named: Any) -> None:
        self.add()

    event.__name__ = name
    return event


for _name in EVENTS:
    setattr(CallbackModule, _name, _counted(_name))
