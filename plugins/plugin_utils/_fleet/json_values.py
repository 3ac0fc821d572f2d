# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read variables whose value is a list or a dictionary. On the command line and in a survey they are texts in JSON."""

from __future__ import annotations

import json
from typing import Any


def parsed(value: Any) -> Any:
    """Return a text in JSON as data, and any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
