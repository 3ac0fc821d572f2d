# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr_info: read requests, explain those that are not issued, and name the provider of the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import READING_OVERTIME_SECONDS, Operation
from .._base.errors import CertflowError
from .._base.result import Result
from .._base.times import format_time
from .._certificate.cluster_signer import AUTO, ProviderOptions, describe, find_provider, signer_of
from .._csr.request import csr_api
from .._csr.request.csr_content import Requester, certificate_of
from .._diagnosis import observation, pod_certificates
from .._diagnosis.causes import diagnose
from .._diagnosis.cluster_evidence import ClusterEvidence
from .._diagnosis.observation import GONE, STATES, STUCK, CsrObservation, Diagnosis
from .._kube.client import Client
from .._kube.cluster_facts import read_cluster_uid
from .._kube.errors import Forbidden, KubeError
from .._x509 import certificate_facts

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    **argument_specs.SELECTORS,
    "gather": {
        "type": "list",
        "elements": "str",
        "choices": ["csrs", "provider", "signer", "cluster", "pod_certificates"],
        "default": ["csrs", "provider"],
    },
    "only": {"type": "list", "elements": "str", "choices": list(STATES)},
    "provider": {"type": "str", "default": AUTO},
    "providers": {"type": "dict", "default": {}},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    """Return what the option gather names. Raises CertflowError."""
    gather = set(parameters["gather"])
    values: dict[str, Any] = {"cluster_uid": _read_uid(client)} if "cluster" in gather else {}
    if "pod_certificates" in gather:
        values["pod_certificates"] = _read_pod_certificates(client)
    if gather <= {"cluster", "pod_certificates"}:
        return Result(changed=False, values=values)
    options = ProviderOptions(parameters["provider"], parameters["providers"])
    verdict = find_provider(client, options)
    if "csrs" in gather:
        csrs = _select(client, parameters)
        is_all = not any(parameters.get(option) for option in ("name", *argument_specs.SELECTORS))
        evidence = ClusterEvidence(client, verdict, csrs if is_all else None)
        diagnoses = {csr["metadata"]["name"]: evidence.explain(csr) for csr in csrs}
        states = {
            csr["metadata"]["name"]: observation.state_of(
                csr, client.now(), diagnoses[csr["metadata"]["name"]]
            )
            for csr in csrs
        }
        only = parameters.get("only") or STATES
        values["csrs"] = [
            _entry(csr, diagnoses[csr["metadata"]["name"]])
            for csr in csrs
            if states[csr["metadata"]["name"]] in only
        ]
        signers = observation.group_by_signer(csrs)
        entries = (_signer_entry(signer, own, states) for signer, own in signers.items())
        values["signers"] = sorted(entries, key=lambda entry: (-entry["stuck"], entry["signer_name"]))
        if parameters.get("name") and not csrs:
            values["csrs"] = [_missing_entry(parameters["name"], client.now())]
    if "provider" in gather:
        values["provider"] = describe(verdict)
    if "signer" in gather:
        values["signer_name"] = signer_of(verdict, options)
    return Result(changed=False, values=values)


def _read_uid(client: Client) -> str:
    """Return the UID of namespace kube-system, or "" if this user may not read it."""
    try:
        return read_cluster_uid(client)
    except Forbidden:
        return ""


def _read_pod_certificates(client: Client) -> dict[str, Any]:
    """Return the PodCertificateRequests of the cluster. A list that cannot be read is no failure."""
    unreadable = ""
    try:
        version, requests = pod_certificates.read(client)
    except KubeError as error:
        version, requests, unreadable = "", [], error.cause
    off = None if version or unreadable else pod_certificates.NOT_SERVED.as_result()
    entries = [_pod_entry(obj, diagnosis) for obj, diagnosis in requests]
    return {"api_version": version, "requests": entries, "diagnosis": off, "unreadable": unreadable}


def _pod_entry(obj: Mapping[str, Any], diagnosis: Diagnosis | None) -> dict[str, Any]:
    return {
        "namespace": obj["metadata"]["namespace"],
        "name": obj["metadata"]["name"],
        "signer_name": obj["spec"]["signerName"],
        "pod": obj["spec"].get("podName", ""),
        "condition": pod_certificates.state_of(obj),
        "diagnosis": diagnosis.as_result() if diagnosis else None,
    }


def _select(client: Client, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    if parameters.get("name"):
        found = csr_api.find(client, parameters["name"])
        return [found] if found else []
    return csr_api.select(client, parameters.get("label_selectors"), parameters.get("field_selectors"))


def _signer_entry(
    signer: str, csrs: Sequence[Mapping[str, Any]], states: Mapping[str, str]
) -> dict[str, Any]:
    """Return the counts of a signer. states: name of a request -> its state."""
    counts = Counter(states[csr["metadata"]["name"]] for csr in csrs)
    stuck = [observation.approved_at(csr) for csr in csrs if states[csr["metadata"]["name"]] == STUCK]
    return {
        "signer_name": signer,
        **{state: counts[state] for state in STATES},
        "oldest_stuck": format_time(min(stuck)) if stuck else None,
    }


def _entry(csr: dict[str, Any], diagnosis: Diagnosis | None) -> dict[str, Any]:
    return {
        **csr_api.describe(csr),
        "created": csr["metadata"].get("creationTimestamp", ""),
        "certificate": _certificate(csr),
        "diagnosis": diagnosis.as_result() if diagnosis else None,
    }


def _missing_entry(name: str, now: datetime) -> dict[str, Any]:
    """Return the entry for a request that does not exist, or no longer exists."""
    diagnosis = diagnose(CsrObservation({"metadata": {"name": name}}, now, is_gone=True))
    empty = dict.fromkeys(("uid", "signer_name", "subject", "created"), "")
    return {
        **empty,
        "requester": Requester().as_result(),
        "name": name,
        "condition": GONE,
        "names": [],
        "certificate": None,
        "diagnosis": diagnosis.as_result() if diagnosis else None,
    }


def _certificate(csr: dict[str, Any]) -> dict[str, Any] | None:
    try:
        pem = certificate_of(csr)
        return certificate_facts.describe_pem(pem).as_result() if pem else None
    except CertflowError:
        return None


OPERATION = Operation(
    name="k8s_csr_info",
    overtime=READING_OVERTIME_SECONDS,
    argument_spec=SPEC,
    run=run,
    roles=lambda _parameters: ("explain",),
    constraints={"mutually_exclusive": [("name", "label_selectors"), ("name", "field_selectors")]},
)
