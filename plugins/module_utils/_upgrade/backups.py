# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep the objects that the steps of a plan change, in their state before the first step. They are for the undo.

The objects are kept in a file. Where the files of a job are lost, as in an execution environment of AWX, the result has each
deleted object and the earlier value of each changed field.

Of a Secret it keeps only the certificates, so no private key ever gets into a backup. It does not keep objects that a
controller makes, such as a Deployment's ReplicaSets and pods.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._base import paths
from .._snapshot.errors import StepError
from .._snapshot.kinds import KINDS, Reference, reference
from .._x509 import private_keys
from .._x509.errors import CertificateError
from .steps.object_changes import meaning

with contextlib.suppress(
    ImportError
):  # it comes with the kubernetes package: _ansible/libraries.py reports that
    import yaml

if TYPE_CHECKING:
    from .._kube.client import Client

Object = Mapping[str, Any]
CERTIFICATES = ("tls.crt", "ca.crt", "cert.pem")
_ONLY_CERTIFICATES = re.compile(
    r"(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+"
)
HOW_TO = """\
# Objects that an upgrade of the snapshot controller changes or deletes on {host}, in their state of {when}.
# This file has only the certificates of a Secret and no private key. The role creates a new key and certificate.
# To restore one of these objects, save its document as FILE and run
#   kubectl apply --server-side --force-conflicts --field-manager=certflow.kubernetes -f FILE
# - If the selector of a Deployment has changed since, delete the Deployment first: kubectl delete deployment NAME --cascade=orphan
# - Restore the webhook's Deployment and its Service before a ValidatingWebhookConfiguration that calls it.
# - Do not restore CustomResourceDefinitions and RBAC objects. Older controllers work with the newer ones, and an older
#   CustomResourceDefinition may not be able to read objects that were stored since.
"""


def read_originals(client: Client, touched: Iterable[Reference]) -> dict[Reference, dict[str, Any]]:
    """Return the objects that exist, with everything that they hold. Only the memory may have them. Raises KubeError."""
    kept = [target for target in dict.fromkeys(touched) if target.kind in KINDS and target.kind != "Pod"]
    found = [(target, client.find(target.path)) for target in kept]
    held = [(obj or {}).get("data") or {} for target, obj in found if target.kind == "Secret"]
    for value in (value for data in held for value in data.values()):
        with contextlib.suppress(ValueError, CertificateError):
            private_keys.load(base64.b64decode(value).decode())  # no message of an undo shows a part of it
    return {target: obj for target, obj in found if obj is not None and not is_generated(obj)}


def is_generated(obj: Object) -> bool:
    """Return True if a controller made the object and would make it again."""
    return any(owner.get("controller") for owner in obj["metadata"].get("ownerReferences") or ())


def strip(place: Reference, obj: Object) -> dict[str, Any]:
    """Return the object for a backup. A Secret loses its annotations, which may hold the key (kubectl's last-applied)."""
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
    """Return True if the entry holds only PEM certificates under a name for certificates."""
    try:
        text = base64.b64decode(value).decode("ascii")
    except ValueError:
        return False
    return key in CERTIFICATES and bool(_ONLY_CERTIFICATES.fullmatch(text.strip()))


def write_file(directory: Path, host: str, now: datetime, objects: Sequence[Object]) -> Path:
    """Write the objects as YAML to a new file that only its owner can read, with instructions and no private key. Raises StepError if that fails.

    Several clusters may have one address, behind different proxies. So the name ends in random digits.
    """
    place = re.sub(r"[^A-Za-z0-9.]+", "-", host.partition("://")[2]).strip("-")
    path = directory / f"{place}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.yaml"
    try:
        path = Path(paths.resolve(str(path)))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = HOW_TO.format(host=host, when=f"{now:%Y-%m-%d %H:%M:%S} UTC")
        kept = [strip(reference(obj), obj) for obj in objects]
        text += yaml.safe_dump_all(kept, sort_keys=False, explicit_start=True)
        paths.write(str(path), text.encode(), 0o600)
    except OSError as exc:
        raise StepError(
            f"the backup cannot be written to {path}: {exc.strerror}",
            remedy="Set backup to a directory that the task can write",
        ) from exc
    return path
