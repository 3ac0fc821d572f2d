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
    looks = sorted({EXPLAINED_SECONDS, *SECONDS_OF.values()})
    approved_at: float | None = None
    progress = progress_lines.start_progress(SILENT_SECONDS)
    while not (certificate_of(current) or is_over(current)):
        now = time.monotonic()
        if approved_at is None and condition_text(current) == "Approved":
            approved_at = now
        # An approval starts the wait for the signer. Before it, only the end of the wait asks for a diagnosis.
        waited = 0.0 if approved_at is None else now - approved_at
        awaited = "an approval" if approved_at is None else f"the signer {csr['spec']['signerName']}"
        progress.set_activity(f"CSR {current['metadata']['name']} waits for {awaited}")
        progress.repeat_if_due()

        is_last = now >= until
        is_look_due = approved_at is not None and looks != [] and waited >= looks[0]
        if is_last or is_look_due:
            evidence.forget()
            diagnosis = evidence.explain(current)
            if diagnosis and (is_last or _ends_wait(diagnosis, waited)):
                # The diagnosis takes a moment, in which the signer may have answered.
                latest = csr_api.find(client, current["metadata"]["name"])
                if latest is None or not _is_newer(latest, current):
                    raise _not_issued(subject, current, diagnosis)
                current = latest
                continue
            looks = [seconds for seconds in looks if seconds > waited]

        next_look = until if approved_at is None or not looks else approved_at + looks[0]
        seconds = min(until, next_look, now + LOOK_SECONDS) - now
        current, version = _watch_or_list(client, subject, current, version, seconds)
    return current


def _ends_wait(diagnosis: Diagnosis, waited: float) -> bool:
    """Return True if the cause is known, and was given the time to pass. waited: seconds since the approval."""
    if diagnosis.code in SECONDS_OF:
        return waited >= SECONDS_OF[diagnosis.code]
    # Several possible causes end no wait.
    return diagnosis.is_settled and waited >= EXPLAINED_SECONDS


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
    event = _first_event(client, {**fields, "resourceVersion": version}, seconds)
    if event is None:
        # A watch can end early: no permission, a proxy, an old version. It must not cause a flood of requests.
        shortest = min(seconds, SHORTEST_LOOK_SECONDS)
        time.sleep(max(0.0, shortest - (time.monotonic() - started)))
    elif event["type"] in ("ADDED", "MODIFIED") and event["object"]["metadata"]["uid"] == uid:
        return event["object"], event["object"]["metadata"]["resourceVersion"]
    # After another event the request was deleted or replaced. The list tells which.
    page = client.list_all(COLLECTION, fields)
    current = next((item for item in page["items"] if item["metadata"]["uid"] == uid), None)
    if current is None:
        raise _replaced(name) if page["items"] else _gone(client, csr, subject)
    return current, page["metadata"]["resourceVersion"]


def _first_event(client: Client, query: Mapping[str, str], seconds: float) -> dict[str, Any] | None:
    """Return the first event about an object, None if the watch ends without one. The watch is closed."""
    for event in client.watch(COLLECTION, query, seconds=seconds):
        if event.get("type") != "ERROR":
            return event
    return None


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
