# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the steps of a plan will touch, as it is before the first of them: for the way back, and kept in a file.

Secrets are no part of it, so that no private key ever is; neither is what controllers make of other objects.
"""

from __future__ import annotations

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
HOW_TO = """\
# What an upgrade of the snapshot controller was going to touch on {host}, as it was on {when}.
# Without Secrets: what was in them is not here. To put one of these objects back, save its document as FILE and run
#   kubectl apply --server-side --force-conflicts --field-manager=certflow.kubernetes -f FILE
# - A Deployment whose selector has changed since has to be deleted first: kubectl delete deployment NAME --cascade=orphan
# - Put the webhook's Deployment and its Service back before a ValidatingWebhookConfiguration that calls it.
# - Leave CustomResourceDefinitions and rights as they are: older controllers work with newer ones, and an older
#   CustomResourceDefinition may not be able to read what was stored since.
"""


def originals(client: Client, touched: Iterable[Reference]) -> list[dict[str, Any]]:
    """The objects that are there, without what the API server adds to them. Raises KubeError."""
    kept = [one for one in dict.fromkeys(touched) if one.kind in KINDS and KINDS[one.kind].applied]
    found = [client.find(one.path) for one in kept]
    return [meaning(one) for one in found if one is not None]


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
