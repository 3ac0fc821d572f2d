# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the steps of a plan will touch, as it is before the first of them: for the way back, and kept in a file.

Of a Secret only the certificates are kept, so that no private key ever gets into the file. What a controller makes of
another object, such as a Deployment's ReplicaSets and pods, is not kept.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._changes import meaning
from ._errors import StepError
from ._kinds import KINDS, Reference

with contextlib.suppress(ImportError):  # it comes with the kubernetes package: reported by _run
    import yaml

if TYPE_CHECKING:
    from .._kube._client import Client

Object = Mapping[str, Any]
CERTIFICATES = ("tls.crt", "ca.crt", "cert.pem")
_ONLY_CERTIFICATES = re.compile(
    r"(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+"
)
HOW_TO = """\
# What an upgrade of the snapshot controller was going to touch on {host}, as it was on {when}.
# Of a Secret only its certificates are here: no private key is kept, so the role makes a new one.
# To put one of these objects back, save its document as FILE and run
#   kubectl apply --server-side --force-conflicts --field-manager=certflow.kubernetes -f FILE
# - A Deployment whose selector has changed since has to be deleted first: kubectl delete deployment NAME --cascade=orphan
# - Put the webhook's Deployment and its Service back before a ValidatingWebhookConfiguration that calls it.
# - Leave CustomResourceDefinitions and rights as they are: older controllers work with newer ones, and an older
#   CustomResourceDefinition may not be able to read what was stored since.
"""


def originals(client: Client, touched: Iterable[Reference]) -> list[dict[str, Any]]:
    """Return the objects that exist, without what the API server adds to them. Raises KubeError."""
    kept = [one for one in dict.fromkeys(touched) if one.kind in KINDS and one.kind != "Pod"]
    found = [(one, client.find(one.path)) for one in kept]
    return [_kept(one, obj) for one, obj in found if obj is not None and not _is_made(obj)]


def _is_made(obj: Object) -> bool:
    """Return True if another object's controller made it, and would make it again."""
    return any(owner.get("controller") for owner in obj["metadata"].get("ownerReferences") or ())


def _kept(place: Reference, obj: Object) -> dict[str, Any]:
    """Return what may be written to a file. A Secret's annotations may hold the key too (kubectl's last-applied)."""
    if place.kind != "Secret":
        return meaning(obj)
    data = obj.get("data") or {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            key: obj["metadata"][key] for key in ("name", "namespace", "labels") if key in obj["metadata"]
        },
        "type": obj.get("type", "Opaque"),
        "data": {key: value for key, value in data.items() if _is_public(key, value)},
    }


def _is_public(key: str, value: str) -> bool:
    """Return True for certificates in PEM and nothing else, under a key that is theirs."""
    try:
        text = base64.b64decode(value).decode("ascii")
    except ValueError:
        return False
    return key in CERTIFICATES and bool(_ONLY_CERTIFICATES.fullmatch(text.strip()))


def write(directory: Path, host: str, now: datetime, objects: Sequence[Object]) -> Path:
    """Keep the objects in a file of their own, readable by its owner alone. Raises StepError where that fails."""
    place = re.sub(r"[^A-Za-z0-9.]+", "-", host.partition("://")[2]).strip("-")
    path = directory / f"{place}-{now:%Y%m%dT%H%M%SZ}.yaml"
    text = HOW_TO.format(host=host, when=f"{now:%Y-%m-%d %H:%M:%S} UTC")
    text += yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            os.fsync(file.fileno())
    except OSError as exc:
        raise StepError(
            f"the backup cannot be written to {path}: {exc.strerror}", remedy="Give another directory for it"
        ) from exc
    return path
