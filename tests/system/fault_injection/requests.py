# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests in words that are the same in every run."""

from __future__ import annotations

from urllib.parse import urlsplit

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def in_words(method: str, url: str) -> str:
    """Return verb and resource as RBAC names them, for example "update certificatesigningrequests/approval"."""
    parts = urlsplit(url)
    _root, *rest = parts.path.strip("/").split("/")
    if len(rest) < 2:  # a path such as /version, which is not a resource
        return f"{_VERBS[method]} {parts.path}"
    _group, *rest = rest
    place = rest if parts.path.startswith("/api/") else rest[1:]
    if place[0] == "namespaces" and len(place) > 2:
        place = place[2:]
    resource = "/".join(place[::2])
    verb = _VERBS[method]
    if verb == "get" and len(place) == 1:
        verb = "watch" if "watch=true" in parts.query else "list"
    kind = " (pending)" if parts.path.endswith("-pending") else ""
    return f"{'dry run of ' if 'dryRun=' in parts.query else ''}{verb} {resource}{kind}"


def writes(words: str) -> bool:
    """Return True if the request changes an object."""
    return not words.startswith(("get ", "list ", "watch ", "dry run ", "create selfsubjectaccessreviews"))
