# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the removal of the outgoing CA waits for, and the outcome of such a cluster in a fleet run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import EksCa
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import kinds, rotation_repairs
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import RotationOptions
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import outcome_of_result
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import OPERATIONS
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.outcome_of_result import OperationRun

from tests.support.certificates.authority import DAY, NOW, Issued, authority, issue, key_usage
from tests.support.failures import fails
from tests.unit.plugins.module_utils._audit.checks.test_rotation_checks import BOTH, NEW, OLD, rotating
from tests.unit.plugins.module_utils._audit.world import config, point

pytestmark = pytest.mark.quick

SWITCHED: dict[str, Any] = {"served_by": NEW, "api": NEW, "servers": {"10.0.0.1:6443": NEW}}
HOUR = timedelta(hours=1)
STRANGER = authority("kubernetes", not_before=NOW - 5 * DAY)
NO_SIGNER = (key_usage("digital_signature"), True)


def signed(ca: Issued, age: timedelta) -> dict[str, str]:
    return {"csr": issue("leaf", ca, not_before=NOW - age).pem}


@pytest.mark.parametrize(
    ("options", "issued", "known", "code"),
    [
        ({}, {}, {}, "not-switched"),
        ({"api": NEW}, {}, {}, "not-switched"),
        ({**SWITCHED, "servers": {"a": NEW, "b": OLD}}, {}, {"is_confirmed": True}, "not-switched"),
        (SWITCHED, {}, {"eks_cas": (EksCa("00", has_rollback=True),)}, "rollback-available"),
        ({**SWITCHED, "servers": {}}, {}, {}, "api-server-unseen"),
        ({**SWITCHED, "servers": {"a": NEW, "b": None}}, {}, {}, "api-server-unseen"),
        ({**SWITCHED, "servers": {}}, {}, {"is_confirmed": True}, ""),
        (SWITCHED, {}, {}, ""),
        (SWITCHED, signed(OLD, 23 * HOUR), {}, "not-settled"),
        (SWITCHED, signed(OLD, 25 * HOUR), {}, ""),
        (SWITCHED, signed(NEW, HOUR), {}, ""),
    ],
)
def test_what_the_whole_cluster_waits_for(options: Any, issued: Any, known: Any, code: str) -> None:
    data = replace(rotating(point(config(BOTH)), **options), issued=issued)
    refusal = rotation_repairs.find_wait(data, RotationOptions(**known))
    assert (refusal.code if refusal else "") == code


@pytest.mark.parametrize(
    ("served_by", "issued", "since"),
    [
        (NEW, {}, "served"),
        (NEW, signed(NEW, 30 * HOUR), "served"),
        (NEW, signed(OLD, HOUR), "issued"),
        (OLD, signed(NEW, HOUR), "issued"),
    ],
)
def test_the_time_since_which_only_the_successor_signs(
    served_by: Issued, issued: dict[str, str], since: str
) -> None:
    """The first certificate of the successor, or a later one of the outgoing CA."""
    data = replace(rotating(point(config(BOTH)), served_by=served_by, api=NEW), issued=issued)
    assert data.ca
    pem = issued["csr"] if since == "issued" else next(iter(data.backends.values())).chains[0].chain_pem
    begin = certificate_facts.load_leaf_and_chain(pem)[0].not_before
    assert rotation_repairs.switched_since(data, data.ca.cas) == begin


@pytest.mark.parametrize(
    ("servers", "words"), [({}, "reach each API server"), ({"b": None}, "reach each of these addresses")]
)
def test_a_remedy_refers_to_addresses_that_it_names(servers: dict[str, None], words: str) -> None:
    data = rotating(point(config(BOTH)), **{**SWITCHED, "servers": servers})
    refusal = rotation_repairs.find_wait(data, RotationOptions())
    assert refusal is not None
    assert words in refusal.remedy


def test_without_the_outgoing_ca_in_a_bundle_nothing_waits_after_the_switch() -> None:
    data = rotating(point(config(NEW.pem)), **{**SWITCHED, "servers": {}})
    assert rotation_repairs.find_wait(data, RotationOptions()) is None


YOUNG = NOW - 5 * DAY
SUCCESSORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "published": (NEW.pem, {}, ""),
    "signed as a twin by a published CA": (authority("next", OLD, not_before=YOUNG).pem, {}, ""),
    "named by Amazon EKS beside the CA in use": (STRANGER.pem, {"eks_cas": (EksCa(STRANGER.fingerprint), EksCa(OLD.fingerprint))}, ""),
    "named by Amazon EKS as a CA of another cluster": (STRANGER.pem, {"eks_cas": (EksCa(STRANGER.fingerprint),)}, "does not name it"),
    "of another cluster": (STRANGER.pem, {}, "no published CA signed a twin"),
    "the CA in use": (OLD.pem, {}, "it is the CA in use"),
    "a leaf": (issue("leaf", OLD, not_before=YOUNG).pem, {}, "is not a CA"),
    "without the usage of a CA": (authority("next", OLD, not_before=YOUNG, extensions=[NO_SIGNER]).pem, {}, "is not a CA"),
    "expired": (authority("next", OLD, not_before=YOUNG, not_after=NOW - DAY).pem, {}, "is valid from"),
    "not yet valid": (authority("next", OLD, not_before=NOW + DAY).pem, {}, "is valid from"),
    "older": (authority("next", OLD, not_before=NOW - 950 * DAY).pem, {}, "it is older"),
    "one good and one bad": (NEW.pem + STRANGER.pem, {}, "no published CA signed a twin"),
}  # fmt: skip


@pytest.mark.parametrize("name", SUCCESSORS)
def test_the_successor_of_the_user_belongs_to_the_cluster(name: str) -> None:
    pem, known, reason = SUCCESSORS[name]
    data = rotating(point(config(BOTH)))
    options = RotationOptions(pem, **known)
    if not reason:
        rotation_repairs.check_options(data, options)
        return
    with fails("invalid-input") as caught:
        rotation_repairs.check_options(data, options)
    assert reason in caught.value.cause


def test_after_the_switch_the_same_successor_is_no_error() -> None:
    rotation_repairs.check_options(rotating(point(config(BOTH)), **SWITCHED), RotationOptions(NEW.pem))


def test_a_ca_that_the_cluster_needs_cannot_be_named_as_outgoing() -> None:
    data = rotating(point(config(BOTH)))
    for ca in (OLD, NEW):
        with fails("invalid-input"):
            rotation_repairs.check_options(data, RotationOptions(outgoing=frozenset({ca.fingerprint})))
    rotation_repairs.check_options(data, RotationOptions(outgoing=frozenset({STRANGER.fingerprint})))


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ({}, "rollback-unknown"),
        ({"is_confirmed": True}, ""),
        ({"eks_cas": (EksCa(OLD.fingerprint, is_in_use=True),)}, "rollback-unknown"),
        ({"eks_cas": (EksCa(NEW.fingerprint),)}, "rollback-unknown"),
        ({"eks_cas": (EksCa(NEW.fingerprint, is_in_use=True),)}, ""),
        ({"eks_cas": (EksCa(NEW.fingerprint, is_in_use=True, has_rollback=True),)}, "rollback-available"),
    ],
)
def test_amazon_eks_may_return_to_the_outgoing_ca(known: Any, code: str) -> None:
    data = replace(rotating(point(config(BOTH)), **SWITCHED), version="v1.34.1-eks-3025e55")
    refusal = rotation_repairs.find_wait(data, RotationOptions(**known))
    assert (refusal.code if refusal else "") == code


def test_an_appended_ca_removes_no_expired_one() -> None:
    expired = authority("gone", not_after=NOW - DAY)
    merged = bundle_content.merge(expired.pem, NEW.pem, mode="append", now=NOW)
    assert len(bundle_content.certificates(merged)) == 2


@pytest.mark.parametrize(
    ("phase", "kind"),
    [({}, kinds.ADD_SUCCESSOR), ({"certflow_ca_phase": "finish"}, kinds.REMOVE_OUTGOING)],
)
def test_a_phase_is_a_kind_of_repair(phase: dict[str, str], kind: str) -> None:
    assert OPERATIONS["cluster_ca"].option_values(phase)["kinds"] == [kind]


@pytest.mark.parametrize(
    ("states", "is_changed", "is_planned", "status"),
    [
        ([], False, False, "ok"),
        ([], False, True, "planned"),
        (["waiting"], False, False, "waiting"),
        (["waiting"], False, True, "waiting"),
        (["repaired", "waiting"], True, False, "changed"),
        (["refused"], False, False, "ok"),
    ],
)
def test_a_phase_that_is_not_due_waits(
    states: list[str], is_changed: bool, is_planned: bool, status: str
) -> None:
    place = {"kind": "ConfigMap", "namespace": "kube-system", "name": "kube-root-ca.crt"}
    repairs = [
        {"state": state, "kind": "add-successor", "code": "", "reason": "why", "remedy": "", "object": place}
        for state in states
    ]
    run = OperationRun({"repairs": repairs}, is_changed, is_planned)
    outcome = outcome_of_result.outcome(OPERATIONS["cluster_ca"].describe, run)
    assert outcome["status"] == status
