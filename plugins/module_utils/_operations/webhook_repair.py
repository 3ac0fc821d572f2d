# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""webhook_repair: repair the findings of an audit, each by one conditional write and its proof."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._audit.checks import rotation_checks
from .._base import accept
from .._base.errors import CertflowError
from .._base.result import Result, make_left
from .._csr import ca_rotation
from .._kube import approved_plan
from .._kube.client import Client
from .._repair import kinds
from .._repair.engine import repair
from .._repair.repair_model import (
    BAD_STATES,
    REFUSED,
    WAITING,
    Repair,
    RepairOptions,
    RotationOptions,
)
from .._webhook.bundles import bundle_content

SPEC: dict[str, Any] = {
    "findings": {"type": "list", "elements": "raw"},
    "kinds": {"type": "list", "elements": "str", "choices": list(kinds.KINDS), "default": [kinds.ADD_CA]},
    "accept": accept.OPTION,
    "proof_after": {"type": "int", "default": 60},
    "probe_urls": {"type": "bool", "default": False},
    "cluster_ca": {
        "type": "dict",
        "options": {
            "successor": {"type": "str", "default": ""},
            "certificate_authorities": {"type": "dict"},
            "confirmed": {"type": "bool", "default": False},
            "outgoing": {"type": "list", "elements": "str", "default": []},
        },
    },
    **approved_plan.OPTION,
    **argument_specs.AUTH,
}


_SHA256 = re.compile("[0-9a-f]{64}")


class RepairFailed(CertflowError):
    """A write did not have its effect."""

    code = "repair-failed"

    def __init__(self, bad: Sequence[Repair], values: Mapping[str, Any]) -> None:
        first = bad[0]
        super().__init__(
            f"{len(bad)} of {len(values['repairs'])} repairs did not have their effect. {first.kind} of {first.object['kind']} "
            f"{first.object['name']}: {first.reason}",
            evidence=[f"{entry.object['kind']} {entry.object['name']}: {entry.state}" for entry in bad],
            remedy=first.remedy,
        )
        self.values = values


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Repair the findings. Raises RepairFailed if a written repair is not proven, and CertflowError."""
    options = parse_options(parameters, check_mode)
    guard = approved_plan.begin(client, parameters, SPEC, check_mode=check_mode)
    repairs, data = repair(client, options, guard)
    left = [entry for entry in repairs if entry.is_left]
    values = {
        "repairs": [entry.as_result() for entry in repairs],
        "left": make_left(len(left), left[0].as_result() if left else {}),
        "certificate_authority_data": rotation_checks.certificate_authority_data(data),
        "ca_state": data.ca.cas.state if data.ca else ca_rotation.UNKNOWN,
        **guard.as_result(),
    }
    bad = [entry for entry in repairs if entry.state in BAD_STATES]
    if bad:
        raise RepairFailed(bad, values)
    return Result(any(entry.action and entry.state not in (REFUSED, WAITING) for entry in repairs), values)


def parse_options(parameters: Mapping[str, Any], check_mode: bool) -> RepairOptions:
    """Return the options of the task. Raises CertflowError for a value that is not valid."""
    proof_after = parameters["proof_after"]
    if proof_after < 0:
        raise CertflowError(
            f"the option proof_after has the value {proof_after}",
            remedy="Set proof_after to 0 or more seconds",
        )
    if not parameters["kinds"]:
        raise CertflowError("the option kinds is an empty list", remedy="Set it to one kind or more")
    if kinds.REMOVE_OUTGOING in parameters["kinds"] and len(parameters["kinds"]) > 1:
        raise CertflowError(
            f"the option kinds has {kinds.REMOVE_OUTGOING} and another kind",
            remedy=f"Run the kind {kinds.REMOVE_OUTGOING} in a task of its own, after the other kinds",
        )
    listed = parameters["findings"]
    return RepairOptions(
        tuple(parameters["kinds"]),
        None if listed is None else dict(map(_parse_finding, listed)),
        accept.parse(parameters["accept"]),
        parameters["wait_timeout"],
        proof_after,
        parameters["probe_urls"],
        check_mode,
        _parse_rotation(parameters["cluster_ca"] or {}),
    )


def _parse_rotation(option: Mapping[str, Any]) -> RotationOptions:
    successor = option.get("successor") or ""
    if successor:
        bundle_content.check(successor)
    authorities = tuple(ca_rotation.parse_eks_cas(option.get("certificate_authorities") or {}))
    outgoing = frozenset(name for text in option.get("outgoing") or () for name in _fingerprints(text))
    return RotationOptions(successor, authorities, bool(option.get("confirmed")), outgoing)


def _fingerprints(text: str) -> list[str]:
    """Return the fingerprints of the certificates of a PEM text, or the fingerprint that the text is."""
    if "-----BEGIN" in text:
        bundle_content.check(text)
        return [entry.fingerprint for entry in bundle_content.certificates(text)]
    name = text.replace(":", "").strip().lower()
    if not _SHA256.fullmatch(name):
        raise CertflowError(
            f"outgoing in the option cluster_ca has {text!r}, which is neither PEM text nor a SHA-256 fingerprint",
            remedy="Set outgoing to the certificates of the CAs, or to their fingerprints as a report shows them",
        )
    return [name]


def _parse_finding(item: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(item, str):
        return item, {}
    name = item.get("fingerprint") if isinstance(item, Mapping) else None
    if not isinstance(name, str) or not name:
        raise CertflowError(
            "an item of the option findings is neither a fingerprint nor a finding with a fingerprint",
            remedy="Set findings to the findings of audit_info, or to their fingerprints",
        )
    known = item.get("object")
    return name, {**item, "object": known if isinstance(known, Mapping) else {}}


OPERATION = Operation(
    name="webhook_repair",
    argument_spec=SPEC,
    run=run,
    roles=lambda _parameters: ("audit", "repair"),
    waits={"wait_timeout": 4, "proof_after": 1},
    is_timed=True,
)
