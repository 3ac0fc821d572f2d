# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A Lease (coordination.k8s.io/v1): one holder at a time; one that is not renewed any more ends by itself.

It keeps holders from doing the same work twice. It is no lock on the objects themselves: a holder that was stopped for
longer than its Lease lasts may go on writing, so each write guards itself by UID and resourceVersion besides.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ._client import Client
from ._errors import AlreadyExists, ApiError, Conflict, Forbidden, KubeError, NotFound

GROUP = "coordination.k8s.io"
# Longer than one request may take (_client.READ_SECONDS and the time to connect), or a slow server would end it.
SECONDS = 60
RENEW_SECONDS = 15.0
LOOK_SECONDS = 1.0
RELEASE_SECONDS = 5.0
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"  # metav1.MicroTime


class HeldByAnother(KubeError):
    """Another run holds the Lease, and did not give it back in time."""

    code = "lease-held"


@dataclass(frozen=True)
class Terms:
    """What a Lease object says. holder: "" where nobody holds it; since, until: UTC, None where it does not say."""

    holder: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def is_free(self, now: datetime) -> bool:
        """Whether anybody may take it. One that does not say how long it lasts keeps nobody out."""
        return not self.holder or self.until is None or self.until <= now


def terms(obj: Mapping[str, Any]) -> Terms:
    """Read a Lease object. Never raises for what it holds."""
    spec = obj.get("spec") or {}
    renewed, seconds = _time(spec.get("renewTime")), spec.get("leaseDurationSeconds")
    until = renewed + timedelta(seconds=seconds) if renewed and isinstance(seconds, int) else None
    return Terms(str(spec.get("holderIdentity") or ""), _time(spec.get("acquireTime")), until)


def spec_of(
    holder: str, since: datetime, now: datetime, transitions: int, seconds: int = SECONDS
) -> dict[str, Any]:
    """The spec of a Lease that is held from ``since`` on, and for ``seconds`` from ``now`` on. Both UTC."""
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": since.strftime(_STAMP),
        "renewTime": now.strftime(_STAMP),
        "leaseTransitions": transitions,
    }


class Lease:
    """One Lease that this run wants. Once it is taken, the client renews it before its requests: who waits asks.

    purpose: what it is held for, in words. metadata: labels and annotations of the object.
    holder: whose it is, where several processes are one run; this process's own otherwise. seconds: how long it lasts.
    problem: why this identity goes on without it, "" where nothing is in the way.
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
    ) -> None:
        # As the controllers of Kubernetes name themselves: the object alone tells whose it is.
        self.holder = holder or f"{socket.gethostname()}_{uuid.uuid4()}"
        self._seconds = seconds
        self.problem = ""
        self.is_tried = False
        self._client, self._purpose, self._title = client, purpose, f"Lease {namespace}/{name}"
        self._collection = f"/apis/{GROUP}/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Lease",
            "metadata": {**metadata, "name": name, "namespace": namespace},
        }
        self._held: Mapping[str, Any] | None = None
        self._renewed = 0.0
        self._is_known = False
        self._seen = "", 0.0

    def acquire(self) -> None:
        """Take it; wait until it is free, at most until the client's deadline. Raises HeldByAnother, KubeError.

        Without the right to it, ``problem`` says so.
        """
        self.is_tried = True
        try:
            while (other := self._try()) is not None:
                if time.monotonic() >= self._client.deadline:
                    raise self._refused(other)
                time.sleep(LOOK_SECONDS)
        except ApiError as exc:
            self._go_on_without(exc)
        else:
            self._client.before_request = self._renew_in_time

    @property
    def is_held(self) -> bool:
        """Whether nobody else who takes this Lease is at work now."""
        return self._held is not None

    def release(self) -> None:
        """Give it back, if it is held. Where that fails it ends by itself."""
        held, self._held = self._held, None
        self._client.before_request = None
        if held is None:
            return
        self._client.deadline = time.monotonic() + RELEASE_SECONDS
        exactly = {key: held["metadata"][key] for key in ("uid", "resourceVersion")}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": exactly}
        try:
            self._client.send("DELETE", self._path, options)
        except Forbidden as exc:
            self._go_on_without(exc)
        except KubeError:
            pass  # it is gone, or another's by now, or nobody answers

    def _try(self) -> Terms | None:
        """Take it: None once it is ours, else what its holder's object says."""
        found = self._client.find(self._path) if self._is_known else None
        if found is None:
            now = self._client.now()
            try:
                body = {**self._body, "spec": spec_of(self.holder, now, now, 0, self._seconds)}
                self._take(self._client.send("POST", self._collection, body))
                return None
            except AlreadyExists:
                self._is_known = True
                found = self._client.find(self._path)
        return self._take_over(found) if found else Terms()

    def _take_over(self, found: Mapping[str, Any]) -> Terms | None:
        there, now = terms(found), self._client.now()
        if there.holder == self.holder:
            self._take(found)  # the answer to our own write was lost, or another process of this run took it
            self._renewed = -RENEW_SECONDS  # whoever took it may have done so long ago
            return None
        if not there.is_free(now) and not self._is_silent(found):
            return there
        changes = int((found.get("spec") or {}).get("leaseTransitions") or 0) + 1
        spec = spec_of(self.holder, now, now, changes, self._seconds)
        try:
            self._take(self._client.send("PUT", self._path, {**found, "spec": spec}))
        except (Conflict, NotFound):
            return Terms()  # somebody was faster
        return None

    def _take(self, obj: Mapping[str, Any]) -> None:
        self._held, self._renewed = obj, time.monotonic()

    def _is_silent(self, found: Mapping[str, Any]) -> bool:
        """Whether it was not renewed for as long as it lasts, by our own clock: the API servers' may differ."""
        version, now = found["metadata"]["resourceVersion"], time.monotonic()
        if version != self._seen[0]:
            self._seen = version, now
        return now - self._seen[1] >= float(found["spec"]["leaseDurationSeconds"])

    def _renew_in_time(self) -> None:
        """Raises HeldByAnother where this run was stopped for so long that another one took over."""
        held = self._held
        if held is None or time.monotonic() < self._renewed + RENEW_SECONDS:
            return
        now = self._client.now()
        since, changes = terms(held).since or now, held["spec"].get("leaseTransitions") or 0
        try:
            spec = spec_of(self.holder, since, now, changes, self._seconds)
            self._take(self._client.send("PUT", self._path, {**held, "spec": spec}))
        except (Conflict, NotFound):
            other = self._try()
            if other is not None:
                self._held = None
                raise self._refused(other) from None
        except ApiError as exc:
            self._go_on_without(exc)

    def _go_on_without(self, exc: ApiError) -> None:
        """What the API server refuses to this identity, or for reasons of its own, is no reason to stop."""
        if exc.status is None or exc.status >= 500:
            raise exc
        self._client.before_request = None
        if isinstance(exc, NotFound):
            return  # without its namespace nothing can be written, and the write itself says so better
        self.problem = (
            f"another run at the same time is not kept away from the {self._purpose}: {self._title} cannot be written "
            f"as it should be ({exc.message}); docs/rbac.md has the rights"
        )

    def _refused(self, other: Terms) -> HeldByAnother:
        since = f" since {other.since:%Y-%m-%d %H:%M:%S} UTC" if other.since else ""
        until = f" ends by itself at {other.until:%H:%M:%S} UTC" if other.until else " ends by itself"
        return HeldByAnother(
            f"another run works on the {self._purpose}: {other.holder or 'it'} holds {self._title}{since}",
            remedy=f"let it finish and run the task again, or give a longer wait_timeout; if that run is dead, its Lease{until}",
        )


def _time(text: Any) -> datetime | None:
    """A metav1.MicroTime. Not by strptime: it imports a module at its first use, in each fork anew."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(timezone.utc)
    except ValueError:
        return None
