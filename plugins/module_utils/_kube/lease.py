# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A Lease (coordination.k8s.io/v1) has one holder at a time. It expires if its holder no longer renews it.

It prevents two runs from doing the same work. It does not lock the objects: a holder that was stopped for longer than its
Lease lasts may still have a write on its way. So each write also guards itself by UID and resourceVersion.

A thread renews the Lease while it is held, so a long request or pause does not end it. Before each request of the main thread
the client checks that the Lease is held. If it is not certain any more, the main thread renews the Lease itself, or stops.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any, Callable

from .._base.errors import CertflowError
from .._base.text import PERMISSIONS_PAGE
from .._base.times import elapsed
from .client import CONNECT_SECONDS, READ_SECONDS, Client
from .errors import AlreadyExists, ApiError, Conflict, Forbidden, KubeError, NotFound
from .lease_state import GROUP, SECONDS, LeaseState, lease_spec, read_lease, read_metadata, read_token

REQUEST_SECONDS = CONNECT_SECONDS + READ_SECONDS
RENEW_SECONDS = 15.0
RENEW_TRIES = 5
RETRY_SECONDS = 2.0
# The longest time of a renewal by the thread.
KEEP_SECONDS = 10.0
LOOK_SECONDS = 1.0
# The longest time of a release, a renewal by the thread included. It is shorter than the time that a task's timeout leaves after
# the end of the operation.
RELEASE_SECONDS = 4.0
TOO_MANY_REQUESTS = 429
# Answers that refuse the content of an object: bad request, too large, unprocessable.
CONTENT_REFUSED = (400, 413, 422)
_MOST_LETTERS = 100
# The answer of an attempt that another run made impossible. It names no holder, and the next attempt comes at once.
_MISSED = LeaseState()


class LeaseHeldError(KubeError):
    """Another run holds the Lease, and did not release it in time."""

    code = "lease-held"


class LeaseLostError(CertflowError):
    """This run does not hold the Lease that it needs. It is not a KubeError, so no handler of failed requests catches it.

    path: the path of that Lease.
    """

    code = "lease-lost"
    path = ""


class Lease:
    """A Lease for this run. From ``acquire`` to ``release`` it is held, or each request of the client raises LeaseLostError.

    A daemon thread with a connection of its own renews it every RENEW_SECONDS. It starts after the acquisition, in the
    process that acquires. It ends with the release or the loss. Only the acquiring thread may call the methods.

    purpose: the work that the Lease protects, in words.
    metadata: labels and annotations of the object.
    holder: the name of the run, by default a name of this process.
    seconds: the duration.
    is_optional: True if the run continues when the API server refuses the Lease.
    on_wait: called every LOOK_SECONDS with the content of the Lease while another run holds it.
    problem: the reason why an optional Lease is not held, "" if it is held.
    previous: the object of the run from which this run took over the Lease because that run no longer renewed it, else None.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        *,
        purpose: str,
        metadata: Mapping[str, Any],
        holder: str = "",
        seconds: int = SECONDS,
        is_optional: bool = True,
        on_wait: Callable[[LeaseState], None] | None = None,
    ) -> None:
        # The controllers of Kubernetes use such names too. The name identifies the run.
        self.holder = holder or f"{socket.gethostname()}_{uuid.uuid4()}"
        self._seconds = seconds
        self._is_optional = is_optional
        self._on_wait = on_wait
        self.problem = ""
        self.previous: Mapping[str, Any] | None = None
        self.is_tried = False
        self._client = client
        self._purpose = purpose
        self._title = f"Lease {namespace}/{name}"
        self._removal = f"kubectl --namespace {namespace} delete lease {name}"
        self._collection = f"/apis/{GROUP}/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._body: dict[str, Any] = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Lease",
            "metadata": {**metadata, "name": name, "namespace": namespace},
        }
        self._annotations: Mapping[str, str] = {}
        # Held for a renewal, its requests included. The thread and the main thread never renew at the same time.
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._held: Mapping[str, Any] | None = None
        self._renewed = 0.0
        self._refusal: LeaseLostError | None = None
        self._is_released = False
        self._is_doubtful = False
        self._is_known = False
        self._is_sent = False
        self._version_seen = "", 0.0

    def acquire(self) -> None:
        """Wait until the Lease is free, at most until the client's deadline, and acquire it.

        Raises LeaseHeldError, LeaseLostError, KubeError. If the API server refuses an optional Lease, ``problem`` has the reason.
        """
        self.is_tried = True
        self._is_released = False
        try:
            while (other := self._try_to_acquire()) is not None:
                if other.holder and self._on_wait is not None:
                    self._on_wait(other)
                if time.monotonic() >= self._client.deadline:
                    raise self._held_error(other)
                time.sleep(LOOK_SECONDS)
        except ApiError as exc:
            self._go_on_without(exc)
        else:
            self._add_hook()
            self._start_thread()

    @property
    def is_held(self) -> bool:
        """Return True if no other run can take this Lease before a request that is sent now has ended."""
        return self._held is not None and elapsed() < self._renewed + self._seconds - REQUEST_SECONDS

    def annotate(self, name: str, value: str) -> None:
        """Write an annotation on the held Lease now. The next renewals keep it.

        Do nothing if an optional Lease is not held. Raises LeaseLostError, KubeError.
        """
        self._client.prepare()
        with self._lock:
            if self._held is None:
                return
            before = self._annotations
            self._annotations = {**before, name: value}
            try:
                self._renew(self._client)
            except ApiError as exc:
                self._annotations = before
                if exc.status in CONTENT_REFUSED:
                    raise
                self._go_on_without(exc)

    def release(self) -> None:
        """Release the Lease if it is held. If that fails, the Lease expires. The client sends requests again after a loss.

        It takes at most RELEASE_SECONDS. If a renewal by the thread takes longer, the Lease is not deleted.
        """
        end = time.monotonic() + RELEASE_SECONDS
        self._is_released = True
        self._ended.set()
        is_locked = self._lock.acquire(timeout=RELEASE_SECONDS)
        try:
            held = self._held
            self._held = None
            self._refusal = None
            self._remove_hook()
            if is_locked and (held is not None or self._is_sent):
                self._delete(held, end)
        finally:
            if is_locked:
                self._lock.release()
        thread = self._thread
        self._thread = None
        if thread is not None:
            thread.join(max(0.0, end - time.monotonic()))

    def _start_thread(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._renew_in_thread,
            args=(self._client.for_thread(), self._ended),
            name=self._title,
            daemon=True,
        )
        self._thread.start()

    def _renew_in_thread(self, client: Client, ended: threading.Event) -> None:
        """Renew the Lease until it is released or lost. Leave every other failure to the main thread, which sees it in time."""
        pause = RENEW_SECONDS
        while not ended.wait(pause):
            client.deadline = time.monotonic() + KEEP_SECONDS
            pause = RETRY_SECONDS
            with self._lock:
                if ended.is_set():
                    break
                try:
                    self._renew(client)
                    pause = RENEW_SECONDS
                except KubeError as exc:
                    self._is_doubtful = exc.status is not None and 400 <= exc.status < 500
                except CertflowError:
                    pass  # a lost Lease, or an answer that the next try may bring in order
        client.close()

    def _add_hook(self) -> None:
        if self._check_held not in self._client.hooks:
            self._client.hooks.append(self._check_held)

    def _remove_hook(self) -> None:
        if self._check_held in self._client.hooks:
            self._client.hooks.remove(self._check_held)

    def _delete(self, held: Mapping[str, Any] | None, end: float) -> None:
        """Delete the object if it is still this run's, also if another Lease of the client is lost.

        held: the object as this run knows it, None if the answer to the acquisition did not arrive.
        end: the time of time.monotonic() at which the last request has ended.
        """
        deadline = self._client.deadline
        self._client.deadline = end
        try:
            with self._client.without_hooks():
                try:
                    self._delete_at(held)
                except Conflict:  # the answer to a renewal did not arrive, or another client wrote a label
                    self._delete_at(None)
        except Forbidden as exc:
            self.problem = self.problem or self._warning(exc)
        except KubeError:
            pass  # it no longer exists, another run holds it, or the API server does not answer
        finally:
            self._client.deadline = deadline

    def _delete_at(self, held: Mapping[str, Any] | None) -> None:
        """Delete the object at the known version, or else at its current version if this run holds it."""
        lease = held or self._client.find(self._path)
        if lease is None or read_lease(lease).holder != self.holder:
            return
        exactly = {key: read_metadata(lease, key) for key in ("uid", "resourceVersion")}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": exactly}
        self._client.send("DELETE", self._path, options)
        self._is_sent = False

    def _try_to_acquire(self) -> LeaseState | None:
        """Try to acquire it. Return None on success, _MISSED if another run was faster, else the content of its Lease."""
        lease = self._client.find(self._path) if self._is_known else None
        if lease is None:
            now = self._client.now()
            begun = elapsed()
            try:
                body = {**self._body, "spec": lease_spec(self.holder, now, now, 0, self._seconds)}
                self._is_sent = True
                self._record_held(self._client.send("POST", self._collection, body), begun)
                return None
            except AlreadyExists:
                self._is_known = True
                lease = self._client.find(self._path)
        return self._take_over(lease) if lease else _MISSED

    def _take_over(self, lease: Mapping[str, Any]) -> LeaseState | None:
        state = read_lease(lease)
        now = self._client.now()
        begun = elapsed()
        if state.holder == self.holder:
            self._record_held(lease, begun)  # the answer to this run's own write was lost
            self._renewed -= self._seconds  # the time of that write is not known
            return None
        self._is_sent = False
        if not state.is_free(now, self._seconds_unchanged(lease), self._seconds):
            return state
        spec = lease_spec(self.holder, now, now, state.transitions + 1, self._seconds)
        # The annotations of the other run would be taken for those of this run later.
        own: Mapping[str, Any] = self._body["metadata"]
        metadata = {**(lease.get("metadata") or {}), "annotations": {}, **own}
        try:
            self._is_sent = True
            self._record_held(
                self._client.send("PUT", self._path, {**lease, "metadata": metadata, "spec": spec}), begun
            )
        except (Conflict, NotFound):
            return _MISSED
        self.previous = lease if state.holder else None
        return None

    def _record_held(self, obj: Mapping[str, Any], begun: float) -> None:
        """Record the held Lease. ``begun`` is the time of the request, from which other runs may count."""
        self._held = obj
        self._renewed = begun
        self._is_sent = False
        self._is_doubtful = False

    def _seconds_unchanged(self, lease: Mapping[str, Any]) -> float:
        """Return the seconds by our own clock for which this run has seen the Lease unchanged."""
        version = read_metadata(lease, "resourceVersion")
        now = elapsed()
        if version != self._version_seen[0]:
            self._version_seen = version, now
        return now - self._version_seen[1]

    def _check_held(self) -> None:
        """Renew the Lease if it is not certain that it is held. Raises LeaseLostError if this run lost it, KubeError."""
        if self._is_certain():
            return
        with self._lock:
            if self._is_certain():  # The thread renewed it during the request.
                return
            try:
                self._renew(self._client)
            except ApiError as exc:
                self._go_on_without(exc)

    def _is_certain(self) -> bool:
        """Return True if nothing is due. Raises LeaseLostError."""
        if self._refusal is not None:
            raise self._refusal
        return self._held is None or (self.is_held and not self._is_doubtful)

    def _renew(self, client: Client) -> None:
        """Write the Lease at the version that this run knows. Success proves that no other run held it in between.

        Raises LeaseLostError, KubeError.
        """
        for _attempt in range(RENEW_TRIES):
            held = self._held or {}
            state, now, begun = read_lease(held), client.now(), elapsed()
            spec = lease_spec(self.holder, state.since or now, now, state.transitions, self._seconds)
            try:
                self._record_held(
                    client.send("PUT", self._path, {**self._annotated(held), "spec": spec}), begun
                )
            except Conflict:
                self._held = self._still_held(client, held)
            except NotFound:
                raise self._lost_error(None) from None
            else:
                return
        raise self._lost_error(self._held)

    def _annotated(self, held: Mapping[str, Any]) -> dict[str, Any]:
        metadata = held.get("metadata") or {}
        annotations = {**(metadata.get("annotations") or {}), **self._annotations}
        return {**held, "metadata": {**metadata, "annotations": annotations}}

    def _still_held(self, client: Client, held: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the Lease again after a conflict. Its labels may have changed, or the answer to a renewal was lost."""
        lease = client.find(self._path)
        if lease is None or read_token(lease) != read_token(held):
            raise self._lost_error(lease)
        return lease

    def _go_on_without(self, exc: ApiError) -> None:
        """Raise the error, unless the Lease is optional and the API server refuses it to this identity."""
        is_refused = exc.status is not None and 400 <= exc.status < 500
        if is_refused and not self._is_optional:
            raise self._denied_error(exc) from exc
        if not is_refused or exc.status == TOO_MANY_REQUESTS:
            raise exc
        self._is_sent = False
        self._ended.set()
        self._remove_hook()
        # If the namespace does not exist, the write itself fails with a better message.
        if not isinstance(exc, NotFound):
            self.problem = self._warning(exc)

    def _warning(self, exc: KubeError) -> str:
        return (
            f"another run may work on the {self._purpose} at the same time, because {self._title} cannot be written: "
            f"{exc.message or exc.cause}. Grant the permissions of {PERMISSIONS_PAGE} to prevent that"
        )

    def _denied_error(self, exc: KubeError) -> LeaseLostError:
        return self._stop_client(
            LeaseLostError(
                f"{self._title}, which prevents other runs on the {self._purpose}, cannot be held: "
                f"{exc.message or exc.cause}",
                code=exc.code,
                evidence=exc.evidence,
                remedy=f"Grant this identity the permissions of {PERMISSIONS_PAGE} and run the task again",
            )
        )

    def _lost_error(self, lease: Mapping[str, Any] | None) -> LeaseLostError:
        self._held = None
        holder = read_lease(lease or {}).holder
        reason = (
            "another run held the Lease in the meantime, or it was deleted"
            if holder in ("", self.holder)
            else f"another run, {_short(holder)}, holds the Lease now"
        )
        cause = f"this run lost {self._title}: {reason}"
        remedy = f"Run the task again. The next run continues from the current state of the {self._purpose}"
        return self._stop_client(LeaseLostError(cause, remedy=remedy))

    def _stop_client(self, error: LeaseLostError) -> LeaseLostError:
        """Return the error, which every request of the client raises from now on, until ``release``."""
        self._ended.set()
        error.path = self._path
        if self._is_released:  # a renewal by the thread ended after the release
            return error
        self._refusal = error
        self._add_hook()
        return error

    def _held_error(self, other: LeaseState) -> LeaseHeldError:
        since = f" since {other.since:%Y-%m-%d %H:%M:%S} UTC" if other.since else ""
        lasts = f" {other.seconds or self._seconds} seconds after its last renewal"
        until = f" ({other.until:%Y-%m-%d %H:%M:%S} UTC)" if other.until else ""
        return LeaseHeldError(
            f"another run works on the {self._purpose}: {_short(other.holder) or 'it'} holds {self._title}{since}",
            remedy="Wait until the other run ends and run the task again, or set a longer wait_timeout. If that run was killed, its Lease "
            f"expires{lasts}{until}. To delete the Lease now: {self._removal}",
        )


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
