# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make API servers dial a webhook anew, by a line break at the end of its caBundle.

An API server keeps one client, with its open connections, for each client configuration, the bundle's bytes included
(k8s.io/apiserver pkg/util/webhook/client.go; client-go transport/cache.go for aggregated APIs). Other bytes, another
client. Bytes that were there before bring the old client back, and with it a connection that may still be open: so the
number of line breaks goes round, and does not toggle.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._kube import access_review
from . import bundle_patch, bundle_targets
from .bundle_patch import BundleChange, TargetChange

if TYPE_CHECKING:
    from .._kube.client import Client
    from .bundle_targets import Object, Target

# Far more than are written in the 90 s after which an unused connection is closed (client-go, IdleConnTimeout).
MOST_BREAKS = 32
# The moment that each API server needs to see a change: its watch brings it within milliseconds.
SETTLE_SECONDS = 1.0


def with_other_line_breaks(bundle: str) -> str:
    """The same bundle for whoever reads certificates, and another one for whoever compares bytes."""
    text = bundle.rstrip("\n")
    return text + "\n" * ((len(bundle) - len(text)) % MOST_BREAKS + 1)


def plan(client: Client, target: Target, obj: Object, *, take_over: bool) -> TargetChange:
    """Decide on the change of one webhook's bundle, which writes nothing.

    Raises OwnedTargetError where another writer would be overruled, MissingPermissions, TargetError.
    """
    change = _decided(target, obj, take_over)
    access_review.require(
        client, [bundle_targets.permission(target, "patch")], f"renew the connections to {target}"
    )
    return change


def write(client: Client, change: TargetChange, *, take_over: bool) -> str:
    """Write the change, give API servers time to see it, and return the bundle that stands there now."""

    def replan(fresh: dict[str, Any]) -> TargetChange:
        return _decided(change.target, fresh, take_over)

    written = bundle_patch.write(client, change, replan)
    time.sleep(SETTLE_SECONDS)
    return written.bundles[0].after or ""


def _decided(target: Target, obj: Object, take_over: bool) -> TargetChange:
    bundle_targets.check_managers(target, obj, take_over=take_over)
    (config,) = bundle_targets.client_configs(target, obj)
    after = with_other_line_breaks(config.ca_bundle)
    return TargetChange(target, obj["metadata"]["resourceVersion"], (BundleChange(config, after),))


def is_bundle_unchanged(client: Client, target: Target, bundle: str) -> bool:
    """Whether these bytes are still there: whoever sets the old ones brings the old connections back."""
    (config,) = bundle_targets.client_configs(target, bundle_targets.read(client, target))
    return config.ca_bundle == bundle
