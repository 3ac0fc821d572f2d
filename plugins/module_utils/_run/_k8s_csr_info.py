# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr_info: what became of requests, and why not more; which provider this cluster is. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._csr import _providers, _requests
from .._csr._content import certificate_of, condition, content_of
from .._csr._diagnose import Peers
from .._csr._providers import ProviderVerdict
from .._errors import CertflowError
from .._kube._client import Client
from .._kube._cluster import cluster_facts
from .._x509 import _certificate
from . import _report, _spec
from ._operation import Operation, Result

AUTO = "auto"
# Conditions of requests for which it matters what others got from their signer.
UNEXPLAINED = ("Pending", "Approved")

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    **_spec.SELECTORS,
    "gather": {
        "type": "list",
        "elements": "str",
        "choices": ["csrs", "provider", "signer"],
        "default": ["csrs", "provider"],
    },
    "provider": {"type": "str", "default": AUTO},
    "providers": {"type": "list", "elements": "dict", "default": []},
    "signers": {"type": "dict", "default": {}},
    **_spec.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    values: dict[str, Any] = {}
    verdict = _provider(client, parameters)
    if "csrs" in parameters["gather"]:
        csrs = _selected(client, parameters)
        signers = {csr["spec"]["signerName"] for csr in csrs if condition(csr) in UNEXPLAINED}
        peers = {signer: _requests.peers_of(client, signer) for signer in sorted(signers)}
        values["csrs"] = [_entry(csr, verdict, peers.get(csr["spec"]["signerName"])) for csr in csrs]
    if "provider" in parameters["gather"]:
        values["provider"] = {
            "name": verdict.name,
            "signer_name": verdict.signer,
            "evidence": list(verdict.evidence),
            "contradictions": list(verdict.contradictions),
            "ca": verdict.row.ca if verdict.row else "",
            "longest_lifetime_seconds": verdict.row.longest_lifetime_seconds if verdict.row else None,
        }
    if "signer" in parameters["gather"]:
        values["signer_name"] = _providers.signer_for(
            verdict, parameters["signers"].get(_providers.DEFAULT) or ""
        )
    return Result(changed=False, values=values)


def _provider(client: Client, parameters: Mapping[str, Any]) -> ProviderVerdict:
    signers = parameters["signers"]
    rows = [*parameters["providers"], *_providers.signer_rows(signers)]
    if parameters["provider"] != AUTO:
        return _providers.given(parameters["provider"], rows, required=not signers.get(_providers.DEFAULT))
    return _providers.detect(cluster_facts(client), rows)


def _selected(client: Client, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    if parameters.get("name"):
        found = _requests.find(client, parameters["name"])
        return [found] if found else []
    return _requests.select(client, parameters.get("label_selectors"), parameters.get("field_selectors"))


def _entry(csr: dict[str, Any], verdict: ProviderVerdict, peers: Peers | None) -> dict[str, Any]:
    diagnosis = _requests.explain(csr, verdict, peers)
    return {
        **_requests.summary(csr),
        **_asked(csr),
        "created": csr["metadata"].get("creationTimestamp", ""),
        "certificate": _issued(csr),
        "diagnosis": _requests.as_dict(diagnosis) if diagnosis else None,
    }


def _asked(csr: dict[str, Any]) -> dict[str, Any]:
    """Who asks for what; a request that does not parse is listed all the same."""
    try:
        content = content_of(csr)
    except CertflowError as exc:
        return {
            "requester": csr["spec"].get("username", ""),
            "subject": "",
            "names": [],
            "unreadable": exc.cause,
        }
    request = content.request
    return {
        "requester": content.requester,
        "subject": request.subject,
        "names": [*request.dns_names, *request.ip_addresses],
    }


def _issued(csr: dict[str, Any]) -> dict[str, Any] | None:
    try:
        pem = certificate_of(csr)
        return _report.certificate(_certificate.describe_pem(pem)) if pem else None
    except CertflowError:
        return None


OPERATION = Operation(
    name="k8s_csr_info",
    argument_spec=SPEC,
    run=run,
    constraints={"mutually_exclusive": [("name", "label_selectors"), ("name", "field_selectors")]},
)
