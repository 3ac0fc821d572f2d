# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the requests of an API server from its audit log."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# One line for each answered request, metadata only, so that the log contains no Secret.
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def requests(
    log: Path, *, since: datetime.datetime | None = None, user: str | None = None, start: int = 0
) -> list[dict[str, Any]]:
    """Return the audit events of answered requests, in the order of the log.

    `since` (with a time zone) is compared with the time at which the server received the request. Lines before the position
    `start` are left out.
    """
    return [event for event in _events(log, user or "", start) if _wanted(event, since, user)]


def received(event: dict[str, Any]) -> datetime.datetime:
    """Return the time at which the server received the request."""
    return datetime.datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))


def _wanted(event: dict[str, Any], since: datetime.datetime | None, user: str | None) -> bool:
    return (
        event["stage"] == "ResponseComplete"
        and (since is None or received(event) >= since)
        and (user is None or event["user"].get("username") == user)
    )


def _events(log: Path, text: str, start: int) -> list[dict[str, Any]]:
    """Return the complete lines from a position on that contain a text. The server may be writing the last one.

    Only these lines are parsed, because the log of a long session has a hundred thousand.
    """
    with log.open("rb") as lines:
        lines.seek(start)
        return [json.loads(line) for line in lines if line.endswith(b"\n") and text.encode() in line]


def contains(log: Path, text: str, start: int) -> bool:
    """Return True if the log contains a text at or after this position."""
    with log.open("rb") as file:
        file.seek(start)
        return text.encode() in file.read()
