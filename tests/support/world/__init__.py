# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One world to test in: shapes of webhooks as rows, calls without end, a journal, and clocks that jump. See docs/clusters.md."""

from __future__ import annotations

from tests.support.world import forecasts, shapes
from tests.support.world.caller import Caller
from tests.support.world.journal import Journal
from tests.support.world.programs import ACCEPTED, NOT_CALLED, Program
from tests.support.world.shapes import Owner, Shape
from tests.support.world.world import World

__all__ = [
    "ACCEPTED",
    "NOT_CALLED",
    "Caller",
    "Journal",
    "Owner",
    "Program",
    "Shape",
    "World",
    "forecasts",
    "shapes",
]
