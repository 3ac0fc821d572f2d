# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep the objects that the steps of a plan change, in their state before the first step. They are for the way back.

The objects are kept in a file. They can also be kept in ConfigMaps of the cluster, because the files of an execution environment
are lost after the job. Secrets are not used: the backup has no secret data, and a permission on Secrets would reveal private keys.

Of a Secret it keeps only the certificates, so no private key ever gets into a backup. It does not keep objects that a
controller makes, such as a Deployment's ReplicaSets and pods.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._base import paths
from .._kube.access_review import Permission
from .._kube.errors import AlreadyExists, AnswerTooLarge, ApiError
from .._snapshot.errors import StepError
from .._snapshot.installed.installers import MANAGER
from .._snapshot.kinds import KINDS, Reference, reference
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
# The label of the ConfigMaps. Its value is the same for all parts of one backup, and for no other backup.
LABEL = "certflow.kubernetes/backup"
MANAGED_BY = "app.kubernetes.io/managed-by"
KEY = "backup.yaml.gz"
# The number of backups that are kept in a namespace. Each new backup removes older ones.
KEPT = 5
# The API server accepts 1 MiB in a ConfigMap, its README included. All six CRDs take about 40 kB.
PART_BYTES = 960 * 1024
MOST_PARTS = 4
_TIME = "%Y%m%dt%H%M%Sz"  # a name of a ConfigMap has no capitals
README = """\
# Objects that an upgrade of the snapshot controller changes or deletes, in their state of {when}.
# To read them, run
#   {command}
# The output begins with the instructions to restore an object.
"""


def read_originals(client: Client, touched: Iterable[Reference]) -> dict[Reference, dict[str, Any]]:
    """Return the objects that exist, with everything that they hold. Only the memory may have them. Raises KubeError."""
    kept = [target for target in dict.fromkeys(touched) if target.kind in KINDS and target.kind != "Pod"]
    found = [(target, client.find(target.path)) for target in kept]
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
    """Write the objects to a new file that only its owner can read. Raises StepError if that fails.

    Several clusters may have one address, behind different proxies. So the name ends in random digits.
    """
    place = re.sub(r"[^A-Za-z0-9.]+", "-", host.partition("://")[2]).strip("-")
    path = directory / f"{place}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.yaml"
    try:
        path = Path(paths.resolve(str(path)))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.write(str(path), _render(host, now, objects).encode(), 0o600)
    except OSError as exc:
        raise StepError(
            f"the backup cannot be written to {path}: {exc.strerror}",
            remedy="Set backup to a directory that the task can write",
        ) from exc
    return path


def _render(host: str, now: datetime, objects: Sequence[Object]) -> str:
    """Return the backup as YAML, with the instructions first. No private key is in it."""
    text = HOW_TO.format(host=host, when=_format_time(now))
    kept = [strip(reference(obj), obj) for obj in objects]
    return text + yaml.safe_dump_all(kept, sort_keys=False, explicit_start=True)


def _format_time(now: datetime) -> str:
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def permissions(namespace: str) -> list[Permission]:
    """Return the permissions of ``store_in_cluster``. ``list`` and ``delete`` are optional. Without them old backups are kept."""
    return [Permission(verb, "", "configmaps", namespace) for verb in ("create", "list", "delete")]


def store_in_cluster(
    client: Client, namespace: str, name: str, objects: Sequence[Object], now: datetime
) -> str:
    """Keep the objects in the cluster, and remove backups of that name beyond the newest ``KEPT``.

    name: the beginning of the ConfigMaps' names. The time follows it, and from the second part on a number.
    now: in UTC. Return "ConfigMap NAMESPACE/NAME" of the first part.

    Raises StepError if the backup is too large, AlreadyExists if another ConfigMap has its name, KubeError.
    """
    made = _make_config_maps(client.host, namespace, name, objects, now)
    for body in reversed(made):  # the first part last: if it exists, the backup is complete
        _create(client, namespace, body)
    with contextlib.suppress(
        ApiError, AnswerTooLarge
    ):  # the backup exists, and an old one too many is no reason to stop
        _prune(client, namespace, name)
    return f"ConfigMap {namespace}/{made[0]['metadata']['name']}"


def _make_config_maps(
    host: str, namespace: str, name: str, objects: Sequence[Object], now: datetime
) -> list[dict[str, Any]]:
    """Return the ConfigMaps of one backup, in the order of their parts."""
    packed = gzip.compress(_render(host, now, objects).encode(), mtime=0)
    parts = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
    if len(parts) > MOST_PARTS:
        raise StepError(
            f"the backup is too large for ConfigMaps of the cluster: it has {len(packed)} bytes, and the maximum is "
            f"{MOST_PARTS * PART_BYTES}",
            code="backup-too-large",
            remedy="Set backup to a directory that outlives the job",
        )
    names = [_part_name(f"{name}-{now:{_TIME}}", number) for number in range(1, len(parts) + 1)]
    readme = README.format(when=_format_time(now), command=restore_command(namespace, names))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": part_name,
                "namespace": namespace,
                "labels": {MANAGED_BY: MANAGER, LABEL: f"{now:{_TIME}}"},
            },
            "immutable": True,
            "data": {"README": readme},
            "binaryData": {KEY: base64.b64encode(part).decode()},
        }
        for part_name, part in zip(names, parts)
    ]


def _part_name(base: str, number: int) -> str:
    return base if number == 1 else f"{base}-{number}"


def restore_command(namespace: str, names: Sequence[str]) -> str:
    """Return the shell command that prints a backup from its ConfigMaps, which are given in the order of their parts."""
    path = KEY.replace(".", "\\.")
    get = f"kubectl --namespace {namespace} get configmap $name --output=jsonpath='{{.binaryData.{path}}}'"
    return f"for name in {' '.join(names)}; do {get} | base64 --decode; done | gunzip"


def _collection(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def _create(client: Client, namespace: str, body: Object) -> None:
    """Create a ConfigMap. If the answer was lost and the ConfigMap exists with the same content, accept it."""
    try:
        client.create(_collection(namespace), body, idempotent=True)
    except AlreadyExists:
        live = {obj["metadata"]["name"]: obj for obj in _list_backups(client, namespace)}
        if (live.get(body["metadata"]["name"]) or {}).get("binaryData") != body["binaryData"]:
            raise


def _list_backups(client: Client, namespace: str) -> list[dict[str, Any]]:
    """Return the ConfigMaps that carry this collection's labels for backups."""
    selector = f"{LABEL},{MANAGED_BY}={MANAGER}"
    items = client.list_all(_collection(namespace), {"labelSelector": selector})["items"]
    return [obj for obj in items if (obj["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER]


def _prune(client: Client, namespace: str, name: str) -> None:
    """Delete the parts of every backup of that name beyond the newest ones, each as it was read."""
    pattern = re.compile(rf"{re.escape(name)}-(\d{{8}}t\d{{6}}z)(-\d+)?")
    found = [
        (match[1], obj["metadata"])
        for obj in _list_backups(client, namespace)
        if (match := pattern.fullmatch(obj["metadata"]["name"]))
        if obj["metadata"]["labels"].get(LABEL) == match[1]
    ]
    kept = sorted({time for time, _metadata in found})[-KEPT:]
    for metadata in (metadata for time, metadata in found if time not in kept):
        path = f"{_collection(namespace)}/{metadata['name']}"
        client.delete(path, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
