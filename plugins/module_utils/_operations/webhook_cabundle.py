# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Adds, sets or removes CA bundles on many objects: all are read and decided on before the first is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible.argument_specs import AUTH
from .._ansible.operation import Operation
from .._base import accept
from .._base.result import Result
from .._csr import trust_anchors
from .._kube.access_review import require
from .._kube.client import Client
from .._webhook import trust_removal
from .._webhook.bundles import bundle_content, bundle_patch, bundle_targets
from .._x509.errors import BundleError

# Mode -> what the objects that it changes had in common.
_REASONS = {
    "add": "lacked certificates of the bundle",
    "exactly": "held another bundle",
    "absent": "held certificates of the bundle",
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the module's documentation. Raises CertflowError."""
    source = parameters["cluster_trust_bundle"]
    ca_bundle = trust_anchors.read_bundle_source(client, **source) if source else parameters["ca_bundle"]
    wanted = _wanted(ca_bundle, check_mode)
    leaf = parameters["certificate"] or None
    if leaf:
        bundle_patch.check_leaf(leaf)
    service = parameters["service"]
    consent = accept.parse(parameters["accept"])

    def decide(target: bundle_targets.Target, obj: bundle_targets.Object) -> bundle_patch.TargetChange:
        return bundle_patch.plan(
            target,
            obj,
            wanted,
            mode=parameters["mode"],
            service=(service["namespace"], service["name"]) if service else None,
            consent=consent,
            leaf_pem=leaf,
            now=client.now(),  # after a read, so that it is the API server's time
            earlier=client.earlier(),
        )

    targets = bundle_targets.targets_from(parameters["targets"])
    changes = tuple(decide(target, bundle_targets.read(client, target)) for target in targets)
    warnings = (*trust_removal.check_removal(client, changes, consent), *client.clock_warnings())
    if wanted is not None:
        require(
            client,
            (bundle_targets.permission(change.target, "patch") for change in changes if change.changed),
            "write caBundles",
        )
        changes = bundle_patch.write_all(client, changes, decide, check_mode=check_mode)
    due = [change for change in changes if change.changed]
    reason = _reason(len(due), len(changes), parameters["mode"], known=wanted is not None)
    values = {"targets": [bundle_patch.report(change) for change in changes], "reason": reason}
    return Result(bool(due), values, bundle_patch.diff(due) if due else None, warnings)


def _wanted(ca_bundle: str | None, check_mode: bool) -> str | None:
    """Return the checked bundle, None where it comes from a certificate that only a real run will request."""
    # In check mode k8s_csr returns null before the first certificate; ansible-core before 2.19 makes "" of it.
    if ca_bundle is None or not ca_bundle.strip():
        if check_mode:
            return None
        raise BundleError(
            "the CA bundle is empty",
            code="bundle-broken",
            remedy="Set ca_bundle to PEM text. Only in check mode it may be empty, for a certificate that is not issued yet",
        )
    bundle_content.check(ca_bundle)
    return ca_bundle


def _reason(due: int, total: int, mode: str, *, known: bool) -> str:
    if not known:
        return "the bundle is not known before the certificate is issued"
    return f"{due} of {total} targets {_REASONS[mode]}" if due else "every target is as wanted already"


OPERATION = Operation(
    name="webhook_cabundle",
    roles=lambda _parameters: ("bundle",),
    argument_spec={
        **AUTH,
        "targets": {**bundle_targets.OPTION, "required": True},
        # Public, and yet hidden: a private key that was pasted by mistake must not be shown or logged.
        "ca_bundle": {"type": "str", "no_log": True},
        "cluster_trust_bundle": {
            "type": "dict",
            "options": {"name": {"type": "str"}, "signer_name": {"type": "str"}},
            "mutually_exclusive": [("name", "signer_name")],
            "required_one_of": [("name", "signer_name")],
        },
        "certificate": {"type": "str", "no_log": True},
        "mode": {"type": "str", "choices": list(bundle_content.MODES), "default": "add"},
        "service": {
            "type": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str", "required": True},
            },
        },
        "accept": accept.OPTION,
    },
    run=run,
    constraints={"mutually_exclusive": [("ca_bundle", "cluster_trust_bundle")]},
)
