# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Wait for the certificate of a request, and explain why it does not come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from .._csr.errors import IssueError
from .._csr.request import csr_api
from .._csr.request.csr_api import is_over
from .._csr.request.csr_content import COLLECTION, certificate_of, condition_text
from .._kube.client import Client
from .._process import progress_lines
from .causes import diagnose
from .cluster_evidence import ClusterEvidence
from .observation import CsrObservation, Diagnosis

# Seconds after the approval from which a known cause ends the wait.
EXPLAINED_SECONDS = 4.0
# Code of a cause -> its own such time. Waiting does not change the first three. The signer of an unknown provider may be slow. A control
# plane that starts takes over the Lease of its controller manager within half a minute.
SECONDS_OF = {
    "signer-not-served": 1.0,
    "no-such-signer": 1.0,
    "signer-switched-off": 1.0,
    "signer-depends-on-provider": 20.0,
    "controller-manager-stopped": 45.0,
}
# Seconds without an answer after which a line shows for whom the operation waits.
SILENT_SECONDS = 20.0
# The longest watch, in seconds. A list follows each watch.
LOOK_SECONDS = 10.0
# The shortest time between two watches, in seconds.
SHORTEST_LOOK_SECONDS = 1.0


def wait(client: Client, subject: object, csr: Mapping[str, Any], *, until: float) -> dict[str, Any]:
    """Wait until the request is issued, denied or failed, and return it.

    subject: the certificate that is waited for, as the messages name it.
    until: the end of the wait, as time.monotonic() counts.

    Raises IssueError with a diagnosis. It comes at once if the request was deleted or replaced, after one second if this
    cluster does not serve the signer, after four seconds for another cause that is known, after 20 seconds if the cause
    depends on the provider and that is not known, after 45 seconds if no kube-controller-manager has renewed the Lease, and at ``until``
    in any case.
    """
    current, version = dict(csr), csr["metadata"]["resourceVersion"]
    evidence = ClusterEvidence(client)
    due, approved_at = sorted({EXPLAINED_SECONDS, *SECONDS_OF.values()}), float("inf")
    progress = progress_lines.start_progress(SILENT_SECONDS)
    while not (certificate_of(current) or is_over(current)):
        now = time.monotonic()
        if condition_text(current) == "Approved":
            approved_at = min(approved_at, now)
        is_last, elapsed = now >= until, now - approved_at
        awaited = f"the signer {csr['spec']['signerName']}" if elapsed >= 0 else "an approval"
        progress.set_activity(f"CSR {current['metadata']['name']} waits for {awaited}")
        progress.repeat_if_due()
        if is_last or (due and elapsed >= due[0]):
            evidence.forget()
            diagnosis = evidence.explain(current)
            # Several possible causes end no wait.
            if diagnosis and (
                is_last
                or elapsed
                >= SECONDS_OF.get(diagnosis.code, EXPLAINED_SECONDS if diagnosis.is_settled else float("inf"))
            ):
                # The diagnosis takes a moment, in which the signer may have answered.
                latest = csr_api.find(client, current["metadata"]["name"])
                if latest is None or not _is_newer(latest, current):
                    raise _not_issued(subject, current, diagnosis)
                current = latest
                continue
            due = [seconds for seconds in due if seconds > elapsed]
        next_look = approved_at + due[0] if due else until
        seconds = min(until, next_look, now + LOOK_SECONDS) - now
        current, version = _watch_or_list(client, subject, current, version, seconds)
    return current


def require_issued(client: Client, subject: object, csr: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request if it is issued. Raise IssueError with the diagnosis if it was denied or failed.

    A denied or failed request with a certificate is an error too: the API server accepts such a certificate.
    """
    if is_over(csr):
        status = {key: value for key, value in csr["status"].items() if key != "certificate"}
        diagnosis = ClusterEvidence(client).explain({**csr, "status": status})
        # A rule always explains these two states.
        raise _not_issued(subject, csr, cast("Diagnosis", diagnosis))
    return dict(csr)


def _is_newer(latest: Mapping[str, Any], csr: Mapping[str, Any]) -> bool:
    """Return True if it is the same object in another version."""
    newest, known = latest["metadata"], csr["metadata"]
    return bool(newest["uid"] == known["uid"] and newest["resourceVersion"] != known["resourceVersion"])


def _watch_or_list(
    client: Client, subject: object, csr: Mapping[str, Any], version: str, seconds: float
) -> tuple[dict[str, Any], str]:
    """Return the request when it changes, or after ``seconds``, and the version from which the next watch starts."""
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]
    started = time.monotonic()
    fields = {"fieldSelector": csr_api.selector_of(name)}
    for event in client.watch(COLLECTION, {**fields, "resourceVersion": version}, seconds=seconds):
        csr_of_event = event.get("object") or {}
        if event.get("type") in ("ADDED", "MODIFIED") and csr_of_event["metadata"]["uid"] == uid:
            return csr_of_event, csr_of_event["metadata"]["resourceVersion"]
        if event.get("type") != "ERROR":
            break  # It was deleted or replaced. The list below tells which.
    else:
        # A watch can end early: no permission, a proxy, an old version. It must not cause a flood of requests.
        time.sleep(max(0.0, min(seconds, SHORTEST_LOOK_SECONDS) - (time.monotonic() - started)))
    page = client.list_all(COLLECTION, fields)
    current = next((item for item in page["items"] if item["metadata"]["uid"] == uid), None)
    if current is None:
        raise _replaced(name) if page["items"] else _gone(client, csr, subject)
    return current, page["metadata"]["resourceVersion"]


def _replaced(name: str) -> IssueError:
    return IssueError(
        f"CSR {name} was replaced by another object of its name before its certificate was fetched",
        code="request-replaced",
        remedy="Run the task again. The audit log of the API server names the user who replaced it",
    )


def _gone(client: Client, csr: Mapping[str, Any], subject: object) -> IssueError:
    diagnosis = diagnose(CsrObservation(csr, client.now(), is_gone=True))
    # A rule always explains a request that is gone.
    return _not_issued(subject, csr, cast("Diagnosis", diagnosis))


def _not_issued(subject: object, csr: Mapping[str, Any], diagnosis: Diagnosis) -> IssueError:
    error = IssueError(
        f"{subject}: {diagnosis.cause}",
        evidence=(f"condition {condition_text(csr)}, certainty {diagnosis.certainty}", *diagnosis.evidence),
        remedy=diagnosis.remedy,
    )
    error.values = {"diagnosis": diagnosis.as_result(), "csr": csr_api.summarize(csr)}
    return error
