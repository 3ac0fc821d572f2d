# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A Lease (coordination.k8s.io/v1) has one holder at a time. It expires if its holder no longer renews it.

It prevents two runs from doing the same work. It does not lock the objects: a holder that was stopped for longer than its
Lease lasts may still have a write on its way. So each write also guards itself by UID and resourceVersion.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from .._errors import CertflowError
from ._client import CONNECT_SECONDS, READ_SECONDS, Client
from ._errors import AlreadyExists, ApiError, Conflict, Forbidden, KubeError, NotFound

GROUP = "coordination.k8s.io"
# Long enough for a renewal, and then for one request with its time-out.
SECONDS = 60
REQUEST_SECONDS = CONNECT_SECONDS + READ_SECONDS
RENEW_SECONDS = 15.0
RENEW_TRIES = 5
LOOK_SECONDS = 1.0
RELEASE_SECONDS = 5.0
TOO_MANY_REQUESTS = 429
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"  # metav1.MicroTime
_MOST = 2**31 - 1  # of an int32
_MOST_LETTERS = 100


class HeldByAnother(KubeError):
    """Another run holds the Lease, and did not give it back in time."""

    code = "lease-held"


class LeaseLostError(CertflowError):
    """This run does not hold the Lease that it needs. It is not a KubeError, so no handler of failed requests catches it."""

    code = "lease-lost"


@dataclass(frozen=True)
class Terms:
    """The content of a Lease object.

    holder: the holder's name, "" if there is no holder.
    since: the time of the acquisition, UTC, None if the field is missing.
    renewed: the time of the last renewal, UTC, None if the field is missing.
    seconds: the duration after a renewal, 0 if the field is missing.
    transitions: the number of changes of the holder.
    """

    holder: str = ""
    since: datetime | None = None
    renewed: datetime | None = None
    seconds: int = 0
    transitions: int = 0

    @property
    def until(self) -> datetime | None:
        """Return the time at which it expires according to its fields, None if they are missing."""
        try:
            return self.renewed + timedelta(seconds=self.seconds) if self.renewed and self.seconds else None
        except OverflowError:
            return None

    def is_free(self, now: datetime, unchanged: float, default: int) -> bool:
        """Return True if another run may take it over.

        now: the time by the API server's clock. The holder's clock may differ, so this decides only if the last renewal is
          older than twice the duration.
        unchanged: seconds by our own clock for which the resourceVersion has stayed the same.
        default: the duration of a Lease without one.
        """
        if not self.holder:
            return True
        seconds = self.seconds or default
        return unchanged >= seconds or (
            self.renewed is not None and (now - self.renewed).total_seconds() >= 2 * seconds
        )


@dataclass(frozen=True)
class LeaseToken:
    """The identity of one holder's time with a Lease, from the acquisition to the end. It is not a secret.

    uid: the UID of the object, which a release deletes.
    transitions: the object's count, which a takeover increases.
    """

    holder: str
    uid: str
    transitions: int


def terms(obj: Mapping[str, Any]) -> Terms:
    """Return the content of a Lease object. A field of the wrong type counts as missing."""
    spec = obj.get("spec")
    if not isinstance(spec, Mapping):
        return Terms()
    return Terms(
        _text(spec.get("holderIdentity")),
        _time(spec.get("acquireTime")),
        _time(spec.get("renewTime")),
        _number(spec.get("leaseDurationSeconds")),
        _number(spec.get("leaseTransitions")),
    )


def token_of(obj: Mapping[str, Any]) -> LeaseToken:
    """Return the token of the run that holds the Lease."""
    there = terms(obj)
    return LeaseToken(there.holder, _metadata(obj, "uid"), there.transitions)


def spec_of(
    holder: str, since: datetime, now: datetime, transitions: int, seconds: int = SECONDS
) -> dict[str, Any]:
    """Return the spec of a Lease held since ``since`` and for ``seconds`` from ``now`` on. Both are UTC."""
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": since.strftime(_STAMP),
        "renewTime": now.strftime(_STAMP),
        "leaseTransitions": transitions,
    }


class Lease:
    """A Lease for this run. While the run holds it, the client renews it before its requests.

    purpose: the work that the Lease protects, in words.
    metadata: labels and annotations of the object.
    holder: the run's name if the run has several processes, otherwise a name of this process.
    seconds: the duration.
    is_optional: True if the run goes on when the API server refuses the Lease.
    problem: the reason why an optional Lease is not held, "" if it is held.
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
    ) -> None:
        # As the controllers of Kubernetes name themselves: the object alone tells whose it is.
        self.holder = holder or f"{socket.gethostname()}_{uuid.uuid4()}"
        self._seconds = seconds
        self._is_optional = is_optional
        self.problem = ""
        self.is_tried = False
        self._client, self._purpose, self._title = client, purpose, f"Lease {namespace}/{name}"
        self._removal = f"kubectl --namespace {namespace} delete lease {name}"
        self._collection = f"/apis/{GROUP}/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Lease",
            "metadata": {**metadata, "name": name, "namespace": namespace},
        }
        self._held: Mapping[str, Any] | None = None
        self._renewed = 0.0
        self._refusal: LeaseLostError | None = None
        self._is_known = False
        self._seen = "", 0.0

    def acquire(self) -> None:
        """Wait until the Lease is free, at most until the client's deadline, and acquire it.

        Raises HeldByAnother, KubeError. If the API server refuses an optional Lease, ``problem`` has the reason.
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
            self._add_hook()

    @property
    def is_held(self) -> bool:
        """Return True if no other run can take this Lease before a request that is sent now has ended."""
        return self._held is not None and time.monotonic() < self._renewed + self._seconds - REQUEST_SECONDS

    def release(self) -> None:
        """Release the Lease if it is held. If that fails, the Lease expires. The client sends requests again after a loss."""
        held, self._held, self._refusal = self._held, None, None
        self._remove_hook()
        if held is not None:
            self._delete(held)

    def _add_hook(self) -> None:
        if self._check not in self._client.hooks:
            self._client.hooks.append(self._check)

    def _remove_hook(self) -> None:
        if self._check in self._client.hooks:
            self._client.hooks.remove(self._check)

    def _delete(self, held: Mapping[str, Any]) -> None:
        """Delete the object at the version that this run knows, also if another Lease of the client is lost."""
        exactly = {key: _metadata(held, key) for key in ("uid", "resourceVersion")}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": exactly}
        deadline, self._client.deadline = self._client.deadline, time.monotonic() + RELEASE_SECONDS
        try:
            with self._client.without_hooks():
                self._client.send("DELETE", self._path, options)
        except Forbidden as exc:
            self.problem = self.problem or self._warning(exc)
        except KubeError:
            pass  # it no longer exists, another run holds it, or the API server does not answer
        finally:
            self._client.deadline = deadline

    def _try(self) -> Terms | None:
        """Try to acquire it. Return None on success, else the content of the other run's Lease."""
        found = self._client.find(self._path) if self._is_known else None
        if found is None:
            now, begun = self._client.now(), time.monotonic()
            try:
                body = {**self._body, "spec": spec_of(self.holder, now, now, 0, self._seconds)}
                self._take(self._client.send("POST", self._collection, body), begun)
                return None
            except AlreadyExists:
                self._is_known = True
                found = self._client.find(self._path)
        return self._take_over(found) if found else Terms()

    def _take_over(self, found: Mapping[str, Any]) -> Terms | None:
        there, now, begun = terms(found), self._client.now(), time.monotonic()
        if there.holder == self.holder:
            self._take(found, begun)  # the answer to this run's own write was lost
            self._renewed -= self._seconds  # the time of that write is not known
            return None
        if not there.is_free(now, self._unchanged(found), self._seconds):
            return there
        changes = min(there.transitions + 1, _MOST)
        spec = spec_of(self.holder, now, now, changes, self._seconds)
        try:
            self._take(self._client.send("PUT", self._path, {**found, "spec": spec}), begun)
        except (Conflict, NotFound):
            return Terms()  # another run was faster
        return None

    def _take(self, obj: Mapping[str, Any], begun: float) -> None:
        """Record the held Lease. ``begun`` is the time of the request, from which other runs may count."""
        self._held, self._renewed = obj, begun

    def _unchanged(self, found: Mapping[str, Any]) -> float:
        """Return the seconds by our own clock for which this run has seen the Lease unchanged."""
        version, now = _metadata(found, "resourceVersion"), time.monotonic()
        if version != self._seen[0]:
            self._seen = version, now
        return now - self._seen[1]

    def _check(self) -> None:
        """Renew the Lease if it is due. Raises LeaseLostError if this run lost the Lease."""
        if self._refusal is not None:
            raise self._refusal
        if self._held is not None and time.monotonic() >= self._renewed + RENEW_SECONDS:
            self._renew()

    def _renew(self) -> None:
        """Write the Lease at the version that this run knows. Success proves that no other run held it in between."""
        for _try in range(RENEW_TRIES):
            held = self._held or {}
            there, now, begun = terms(held), self._client.now(), time.monotonic()
            spec = spec_of(self.holder, there.since or now, now, there.transitions, self._seconds)
            try:
                self._take(self._client.send("PUT", self._path, {**held, "spec": spec}), begun)
            except Conflict:
                self._held = self._still_held(held)
            except NotFound:
                raise self._lost(None) from None
            except ApiError as exc:
                self._go_on_without(exc)
                return
            else:
                return
        raise self._lost(self._held)

    def _still_held(self, held: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the Lease again after a conflict. Its labels may have changed, or the answer to a renewal was lost."""
        found = self._client.find(self._path)
        if found is None or token_of(found) != token_of(held):
            raise self._lost(found)
        return found

    def _go_on_without(self, exc: ApiError) -> None:
        """Raise the error, unless the Lease is optional and the API server refuses it to this identity."""
        is_refused = exc.status is not None and 400 <= exc.status < 500
        if is_refused and not self._is_optional:
            raise self._denied(exc) from exc
        if not is_refused or exc.status == TOO_MANY_REQUESTS:
            raise exc
        self._remove_hook()
        # If the namespace does not exist, the write itself fails with a better message.
        if not isinstance(exc, NotFound):
            self.problem = self._warning(exc)

    def _warning(self, exc: KubeError) -> str:
        return (
            f"another run may work on the {self._purpose} at the same time, because {self._title} cannot be written: "
            f"{exc.message or exc.cause}. Grant the permissions of docs/rbac.md to prevent that"
        )

    def _denied(self, exc: KubeError) -> LeaseLostError:
        return self._stop(
            LeaseLostError(
                f"the {self._title}, which prevents other runs on the {self._purpose}, cannot be held: "
                f"{exc.message or exc.cause}",
                code=exc.code,
                evidence=exc.evidence,
                remedy="Grant this identity the permissions of docs/rbac.md, and run again",
            )
        )

    def _lost(self, found: Mapping[str, Any] | None) -> LeaseLostError:
        self._held = None
        holder = terms(found or {}).holder
        if holder in ("", self.holder):
            cause = f"this run lost the {self._title}: another run held it in between, or it was deleted"
        else:
            cause = f"this run lost the {self._title}: another run, {_short(holder)}, holds it now"
        remedy = f"Run again. The next run continues from the current state of the {self._purpose}"
        return self._stop(LeaseLostError(cause, remedy=remedy))

    def _stop(self, error: LeaseLostError) -> LeaseLostError:
        """Return the error, which every request of the client raises from now on, until ``release``."""
        self._refusal = error
        self._add_hook()
        return error

    def _refused(self, other: Terms) -> HeldByAnother:
        since = f" since {other.since:%Y-%m-%d %H:%M:%S} UTC" if other.since else ""
        lasts = f" {other.seconds or self._seconds} seconds after its last renewal"
        until = f" ({other.until:%Y-%m-%d %H:%M:%S} UTC)" if other.until else ""
        return HeldByAnother(
            f"another run works on the {self._purpose}: {_short(other.holder) or 'it'} holds {self._title}{since}",
            remedy="Wait until it ends and run the task again, or set a longer wait_timeout. If that run was killed, its Lease "
            f"expires{lasts}{until}. To delete the Lease now: {self._removal}",
        )


def _metadata(obj: Mapping[str, Any], key: str) -> str:
    metadata = obj.get("metadata")
    return _text(metadata.get(key)) if isinstance(metadata, Mapping) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _number(value: Any) -> int:
    """Return a positive int32, 0 for any other value. A larger number counts as the largest int32."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return min(value, _MOST) if is_number and value > 0 else 0


def _time(value: Any) -> datetime | None:
    """Parse a metav1.MicroTime, without strptime, which imports a module at its first use in each fork."""
    try:
        found = datetime.fromisoformat(_text(value).replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (OverflowError, ValueError):
        return None
