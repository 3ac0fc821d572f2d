# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The settings of the functions that carry out actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..._consent import NOTHING, Consent
from ..._snapshot.kinds import Reference
from ..._snapshot.release.release_source import ReleaseSource
from ..._snapshot.release.settings import ReleaseSettings

if TYPE_CHECKING:
    from ..._kube.client import Client


@dataclass(frozen=True)
class ActionContext:
    """The settings of every action.

    client: the connection to the cluster.
    source: the place of the release's manifests.
    settings: the content of the Deployments.
    namespace: the namespace of a step that does not name one.
    consent: the managers whose objects are written too.
    check_mode: True to try by dry runs only.
    pending: in check mode, True if earlier steps would have changed the cluster, so that not every step can be tried.
    originals: the objects before the hop, for an undo.
    """

    client: Client
    source: ReleaseSource = field(default_factory=ReleaseSource)
    settings: ReleaseSettings = field(default_factory=ReleaseSettings)
    namespace: str = ""
    consent: Consent = NOTHING
    check_mode: bool = False
    pending: bool = False
    originals: Mapping[Reference, Mapping[str, Any]] = field(default_factory=dict)
