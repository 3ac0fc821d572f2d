# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Signs of calls that failed: the API server's counters, and Events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from .._errors import check_shape
from .._times import find_time
from .checks.cluster_checks import CONVERSIONS
from .facts.cluster_data import FailedCall

#: Controllers write this Event if they cannot create a pod.
SELECTOR = "type=Warning,reason=FailedCreate"
_REJECTIONS = "apiserver_admission_webhook_rejection_count"
_IGNORED = "apiserver_admission_webhook_fail_open_count"
_CONVERSION = "apiserver_conversion_webhook_request_total"
# The marks of webhooks from files (KEP-5793, k8s.io/apiserver pkg/admission/plugin/manifest). Only the names of their
# configurations need the suffix, and the counters have the names of webhooks.
_FILES = "apiserver_manifest_admission_config_controller_last_config_info"
_CALLS = "apiserver_admission_webhook_request_total"
#: The metrics that are read here. An API server has some megabytes of others.
FAMILIES = (_REJECTIONS, _IGNORED, _CONVERSION, _FILES, _CALLS)
_PLUGINS, _IN_FILE = "AdmissionWebhook", ".static.k8s.io"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"(\w+)\{(.*)\} ([0-9.eE+]+)")
# k8s.io/apiserver pkg/admission/plugin/webhook/errors: failed calling webhook "NAME": ...
_FAILED_CALL = re.compile(r'failed calling webhook "([^"]{1,300})"')


def read_counters(text: str) -> dict[str, float]:
    """Return webhook -> the number of its failed calls, and the number of failed conversions, from the metrics of an API server.

    A counter that the API server does not have yet is 0. Raises MalformedObject.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith((_REJECTIONS, _IGNORED, _CONVERSION)):
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        labels = dict(_LABEL.findall(match[2]))
        name = _counted(match[1], labels)
        if name:
            with check_shape("a counter of the API server"):
                found[name] = found.get(name, 0.0) + float(match[3])
    return found


def find_file_webhooks(text: str) -> tuple[str, ...]:
    """Return what the metrics of an API server name of webhooks that it reads from files: admission plugins and webhooks."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        match = _LINE.match(line) if line.startswith((_FILES, _CALLS)) else None
        labels = dict(_LABEL.findall(match[2])) if match else {}
        if labels.get("plugin", "").endswith(_PLUGINS) or labels.get("name", "").endswith(_IN_FILE):
            found[labels.get("plugin") or labels["name"]] = None
    return tuple(found)


def _counted(metric: str, labels: Mapping[str, str]) -> str:
    """Return the counter to which a line belongs, "" for other lines."""
    if metric == _REJECTIONS and labels.get("error_type") == "calling_webhook_error":
        return labels.get("name", "")
    if metric == _IGNORED:
        return labels.get("name", "")
    return CONVERSIONS if metric == _CONVERSION and labels.get("result") == "failure" else ""


def find_failed_calls(events: Iterable[Mapping[str, Any]], oldest: datetime) -> Iterator[FailedCall]:
    """Yield the failed calls that Events since a time tell of, the oldest first."""
    found = []
    for event in events:
        series = event.get("series") or {}
        times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
        seen = next((moment for moment in map(find_time, times) if moment), None)
        message = str(event.get("message", ""))
        match = _FAILED_CALL.search(message)
        if match and seen and seen >= oldest:
            regarding = event.get("involvedObject") or {}
            name = "/".join(str(regarding.get(key, "")) for key in ("namespace", "name"))
            found.append(FailedCall(match[1], f"{regarding.get('kind', '')} {name}", message, seen))
    yield from sorted(found, key=lambda call: call.seen)
