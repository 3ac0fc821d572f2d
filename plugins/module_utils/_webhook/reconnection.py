# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make API servers reconnect to a webhook, by a line break at the end of its caBundle.

An API server keeps one client with open connections for each client configuration. The bytes of the bundle are part of the
configuration (k8s.io/apiserver pkg/util/webhook/client.go; client-go transport/cache.go for aggregated APIs). With other bytes
it makes another client. With bytes that it knows it uses the old client and perhaps an old connection. So the number of line
breaks counts up and starts again, instead of toggling.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._kube import access_review
from . import bundle_patch, bundle_targets
from .bundle_patch import BundleChange, TargetChange

if TYPE_CHECKING:
    from .._consent import Consent
    from .._kube.client import Client
    from .bundle_targets import Object, Target

# Far more changes than in the 90 s after which an unused connection is closed (client-go, IdleConnTimeout).
MOST_BREAKS = 32
# The time for every API server to see a change. Its watch needs milliseconds.
SETTLE_SECONDS = 1.0


def with_other_line_breaks(bundle: str) -> str:
    """Return a bundle with the same certificates and other bytes."""
    text = bundle.rstrip("\n")
    return text + "\n" * ((len(bundle) - len(text)) % MOST_BREAKS + 1)


def plan(client: Client, target: Target, obj: Object, *, consent: Consent) -> TargetChange:
    """Plan the change of one webhook's bundle without writing it.

    Raises OwnedTargetError if another manager owns the object, MissingPermissions, TargetError.
    """
    change = _decided(target, obj, consent)
    access_review.require(
        client, [bundle_targets.permission(target, "patch")], f"renew the connections to {target}"
    )
    return change


def write(client: Client, change: TargetChange, *, consent: Consent) -> str:
    """Write the change, give the API servers time to see it, and return the new bundle."""

    def replan(fresh: dict[str, Any]) -> TargetChange:
        return _decided(change.target, fresh, consent)

    written = bundle_patch.write(client, change, replan)
    time.sleep(SETTLE_SECONDS)
    return written.bundles[0].after or ""


def _decided(target: Target, obj: Object, consent: Consent) -> TargetChange:
    bundle_targets.check_managers(target, obj, consent=consent)
    (config,) = bundle_targets.client_configs(target, obj)
    after = with_other_line_breaks(config.ca_bundle)
    return TargetChange(target, obj["metadata"]["resourceVersion"], (BundleChange(config, after),))


def is_bundle_unchanged(client: Client, target: Target, bundle: str) -> bool:
    """Return True if the object still has this bundle. With the old bundle the API servers use old connections again."""
    (config,) = bundle_targets.client_configs(target, bundle_targets.read(client, target))
    return config.ca_bundle == bundle
