# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A population of shapes and owners goes through a rotation of its cluster's CA by the playbooks, while everything is called.

Each call has a handshake of its own. The identities have the documented roles only. No call of a prepared program fails, and each
program of which one fails was named before, by an audit and by a run.
"""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.rotation_checks import (
    ROTATION_ROWS,
)

from tests.support import clusters
from tests.support.clusters import pki
from tests.support.rotation.rotation_fleet import (
    ACCEPTED,
    FOREIGN,
    IDLE,
    LATE,
    PREPARED,
    ROWS,
    UNAFFECTED,
    RotatingFleet,
)
from tests.support.waiting import now, wait_for
from tests.support.world import Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.rotation.rotation_fleet import Row
    from tests.support.world import Program

#: The time after which a switch counts as settled, with a margin.
DAY = datetime.timedelta(hours=25)
REFUSED = "refused owned-by-another"
BY_DEFAULT = (PREPARED, IDLE, LATE)
WRITABLE = (*BY_DEFAULT, ACCEPTED)
#: Those with a new certificate at the switch.
RENEWED = (PREPARED, IDLE, ACCEPTED, FOREIGN)
FINISH: dict[str, Any] = {
    "certflow_ca_phase": "finish",
    "certflow_repair_options": {"probe_urls": True, "proof_after": 1},
}
PROFILES = {"eu": "local-services", "us": "eks-local-services"}


@contextlib.contextmanager
def rotating(directory: Path, rows: Sequence[Row], *hosts: str) -> Iterator[RotatingFleet]:
    with clusters.running({host: PROFILES[host] for host in hosts or PROFILES}) as running:
        fleet = RotatingFleet(running, directory, rows)
        try:
            with fleet.calling():
                yield fleet
        finally:
            fleet.close()


def failed(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for row in rows.values() for entry in row["findings"] if entry["status"] == "fail"]


def states(fleet: RotatingFleet, *fates: str) -> set[str]:
    return {fleet.state(host, program) for host, program in fleet.of(*fates)}


def left(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {host: (row["status"], row["left"]["count"]) for host, row in rows.items()}


def codes(rows: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    return {host: {repair["code"] for repair in row["repairs"]} for host, row in rows.items()}


def number(fleet: RotatingFleet, *fates: str) -> int:
    return sum(row.copies for row in fleet.rows if row.fate in fates)


# The phases


def before(fleet: RotatingFleet) -> None:
    """Nothing is published. The audit finds no rotation, and the phase says so."""
    audit = fleet.play(name="audit", certflow_fail_on="never")
    assert not any("successor" in entry["check"] for entry in failed(audit))
    assert {row["before"] for row in fleet.play().values()} == {"no-successor"}


def publish(fleet: RotatingFleet) -> None:
    """The audit names each object with a certificate of the cluster, and what the kubeconfigs lack."""
    for rig in fleet.rigs.values():
        rig.rotation.publish()
    findings = failed(fleet.play(name="audit", certflow_fail_on="never"))
    assert {entry["check"] for entry in findings} >= {"cluster-ca-rotation", "kubeconfig-without-successor"}
    named = [entry["object"]["name"] for entry in findings if entry["check"] == "bundle-without-successor"]
    fleet.show("the successor is published: audit")
    assert sorted(named) == sorted(program.full_name for _host, program in fleet.of(*WRITABLE, FOREIGN))
    fleet.trust("old", "new")


def prepare(fleet: RotatingFleet) -> None:
    """With default options, the phase writes what it planned, and names each other owner."""
    fleet.play("--check")
    plan = fleet.report
    assert states(fleet, *BY_DEFAULT) == {"planned"}
    rows = fleet.play(certflow_plan=plan)
    fleet.show("prepare with default options")
    assert states(fleet, *BY_DEFAULT) == {"repaired"}
    assert states(fleet, ACCEPTED, FOREIGN) == {REFUSED}
    assert states(fleet, UNAFFECTED) <= {""}
    assert left(rows) == dict.fromkeys(fleet.rigs, ("left", number(fleet, ACCEPTED, FOREIGN)))


def accept_owners(fleet: RotatingFleet) -> None:
    fleet.accept_owners()
    rows = fleet.play()
    fleet.show("prepare with accepted owners")
    assert states(fleet, ACCEPTED) == {"repaired"}
    assert states(fleet, FOREIGN) == {REFUSED}
    assert left(rows) == dict.fromkeys(fleet.rigs, ("left", number(fleet, FOREIGN)))
    assert_trust(fleet, old=True, new=True)
    fleet.wait_for_calls()
    assert fleet.failures() == {host: set() for host in fleet.rigs}


def assert_trust(fleet: RotatingFleet, **expected: bool) -> None:
    """Compare what the written caBundles have of the CAs with these names. A renewal by k8s_csr may have removed the outgoing CA."""
    for host, program in fleet.of(*WRITABLE):
        rig = fleet.rigs[host]
        held = {name: program.trusts(getattr(rig, name)) for name in expected}
        assert held == expected or (program.is_ours and held.get("new")), program.name


def switch(fleet: RotatingFleet) -> None:
    """Each program gets a certificate of the successor. Those that were not prepared fail."""
    for rig in fleet.rigs.values():
        rig.rotation.switch()
    fleet.issue("new", *RENEWED)
    for _host, program in fleet.of(FOREIGN):
        wait_for(lambda: not program.is_called())  # noqa: B023
    fleet.wait_for_calls()


def prepare_again(fleet: RotatingFleet) -> None:
    """A program that comes late is cured by the phase prepare, and stays cured."""
    late = [rig.one(Shape("late", reached=shapes.BY_URL)) for rig in fleet.rigs.values()]
    for program, rig in zip(late, fleet.rigs.values(), strict=True):
        program.issue(rig.new)
        assert not program.is_called()
    fleet.play()
    shown = [fleet.state(host, program) for host, program in zip(fleet.rigs, late, strict=True)]
    assert shown == ["repaired"] * len(late)
    assert states(fleet, FOREIGN) == {REFUSED}
    fleet.wait_for_calls()
    fleet.show("after the switch: prepare again")
    for program in late:
        wait_for(program.is_called, evidence=program.call)


def finish_early(fleet: RotatingFleet) -> None:
    """Nothing is removed before each API server was seen, Amazon EKS cannot roll back, and a day has passed."""
    fleet.describe_eks("IN_USE", has_rollback=True)
    waits = codes(fleet.play(certflow_ca_phase="finish"))
    assert waits == {"eu": {"api-server-unseen"}, "us": {"rollback-available"}}
    fleet.describe_eks("IN_USE")
    fleet.confirm()
    assert codes(fleet.play(**FINISH)) == {host: {"not-settled"} for host in fleet.rigs}
    fleet.show("after the switch: finish")
    assert_trust(fleet, old=True, new=True)


def finish(fleet: RotatingFleet) -> None:
    """A day later, the phase removes the outgoing CA where each endpoint shows its certificate. The user confirms the other objects."""
    fleet.confirm()
    for rig in fleet.rigs.values():
        rig.jump(DAY)
    fleet.play(**FINISH)
    # k8s_csr has removed it from its own.
    others = [entry for entry in fleet.of(*WRITABLE) if not entry[1].is_ours]
    shown = {(host, program.name): fleet.state(host, program) for host, program in others}
    expected = {(host, program.name): "repaired" for host, program in others}
    expected |= {(host, program.name): "waiting outgoing-served" for host, program in fleet.of(LATE)}
    unseen = [entry for entry in others if fleet.is_unseen(*entry)]
    expected |= {(host, program.name): "waiting endpoint-unseen" for host, program in unseen}
    assert shown == expected
    assert "repaired" not in states(fleet, FOREIGN)
    fleet.wait_for_calls()
    fleet.show("a day later: finish")
    fleet.accept_owners(confirms=True)
    fleet.issue("new", LATE)
    fleet.play(**FINISH)
    fleet.wait_for_calls()
    fleet.show("a day later: finish with what the user confirms")
    assert_trust(fleet, old=False, new=True)


def remove(fleet: RotatingFleet) -> None:
    """The cluster publishes only the successor. The audit finds no rotation, and no trust that is left."""
    for rig in fleet.rigs.values():
        rig.rotation.drop_outgoing()
        rig.kubeconfig = rig.cluster.kubeconfig_for(rig.user)
    fleet.trust("new")
    fleet.wait_for_calls()
    findings = failed(fleet.play(name="audit", certflow_fail_on="never"))
    fleet.show("the outgoing CA is removed: audit")
    assert {entry["check"] for entry in findings}.isdisjoint(row.id for row in ROTATION_ROWS)


def assert_only_foreign_failed(fleet: RotatingFleet) -> None:
    foreign = {row.shape.name for row in fleet.rows if row.fate == FOREIGN}
    assert fleet.failures() == dict.fromkeys(fleet.rigs, foreign)
    assert fleet.unnamed() == []


# The lives


@pytest.mark.full
def test_a_rotation_of_a_population(tmp_path: Path) -> None:
    with rotating(tmp_path, ROWS) as fleet:
        before(fleet)
        publish(fleet)
        prepare(fleet)
        accept_owners(fleet)
        switch(fleet)
        prepare_again(fleet)
        finish_early(fleet)
        finish(fleet)
        remove(fleet)
        assert_only_foreign_failed(fleet)


#: One row of each kind, way and fate.
SHORT = (
    *("own", "pods", "mutating", "conversion", "api", "url", "external", "slice", "renewed-late"),
    *("nowhere", "unready", "unreachable", "scaled", "helm-yes", "helm", "other-api", "namesake"),
)


def test_a_rotation_in_short(tmp_path: Path) -> None:
    with rotating(tmp_path, [row for row in ROWS if row.shape.name in SHORT], "eu") as fleet:
        publish(fleet)
        prepare(fleet)
        accept_owners(fleet)
        switch(fleet)
        prepare_again(fleet)
        finish(fleet)
        assert_only_foreign_failed(fleet)


#: The same for a rotation that does not go as planned.
UNSTEADY = (*SHORT, "url-skipped", "operator-yes")


@pytest.mark.full
def test_a_rotation_that_is_killed_rolled_back_and_abandoned_and_a_second_one_of_three_cas(
    tmp_path: Path,
) -> None:
    with rotating(tmp_path, [row for row in ROWS if row.shape.name in UNSTEADY]) as fleet:
        for rig in fleet.rigs.values():
            rig.rotation.publish()
        fleet.trust("old", "new")
        fleet.accept_owners()
        fleet.play(name="audit", certflow_fail_on="never")
        kill_and_repeat(fleet, "new", is_there=True)
        for _time in range(2):
            switch(fleet)
            roll_back(fleet)
        abandon(fleet)
        three_cas(fleet)
        assert_only_foreign_failed(fleet)


def kill_and_repeat(fleet: RotatingFleet, name: str, *, is_there: bool, **variables: Any) -> None:
    """Kill the phase after its first write. The next run completes it, and a third one has nothing to do."""

    def is_done(host: str, program: Program) -> bool:
        return program.trusts(getattr(fleet.rigs[host], name)) is is_there

    fleet.play_killed(lambda: any(is_done(*entry) for entry in fleet.of(*WRITABLE)), **variables)
    done = sum(is_done(*entry) for entry in fleet.of(*WRITABLE))
    fleet.play(**variables)
    print(f"killed after {done} writes")
    assert all(is_done(*entry) for entry in fleet.of(*WRITABLE))
    fleet.wait_for_calls()
    fleet.show("killed and repeated")
    fleet.play(**variables)
    assert "repaired" not in states(fleet, *WRITABLE)


def roll_back(fleet: RotatingFleet) -> None:
    for rig in fleet.rigs.values():
        rig.rotation.roll_back()
    assert codes(fleet.play(**FINISH)) == {host: {"not-switched"} for host in fleet.rigs}
    fleet.issue("old", *RENEWED)
    fleet.wait_for_calls()
    fleet.show("rolled back")
    assert_trust(fleet, old=True, new=True)


def abandon(fleet: RotatingFleet) -> None:
    """The successor is withdrawn. The audit finds the trust that is left, and the phase finish removes it."""
    for rig in fleet.rigs.values():
        rig.rotation.withdraw_successor()
    findings = failed(
        fleet.play(name="audit", certflow_fail_on="never", certflow_audit_options={"probe_urls": True})
    )
    named = {entry["object"]["name"] for entry in findings if entry["check"] == "ca-left"}
    called = fleet.of(PREPARED, ACCEPTED, LATE)
    assert named >= {program.full_name for host, program in called if not fleet.is_unseen(host, program)}
    for host, rig in fleet.rigs.items():
        outgoing = [rig.new.certificate_pem.decode()]
        fleet.variables[host]["certflow_cluster_ca"] = {"outgoing": outgoing, "confirmed": True}
    fleet.accept_owners(confirms=True)
    kill_and_repeat(fleet, "new", is_there=False, **FINISH)
    for host in fleet.rigs:
        del fleet.variables[host]["certflow_cluster_ca"]
    fleet.accept_owners()


def three_cas(fleet: RotatingFleet) -> None:
    """Two successors are published. The cluster switches to the first one, and then to the second one."""
    for rig in fleet.rigs.values():
        rig.rotation = rig.cluster.rotation()
        # A CA that begins in the same second as another one is not younger, and stays.
        later = now() + datetime.timedelta(minutes=1)
        rig.new, rig.third = rig.rotation.successor, pki.make_ca("kubernetes", now=later)
        rig.rotation.further = (rig.third,)
        rig.rotation.publish()
    fleet.trust("old", "new", "third")
    fleet.play()
    fleet.show("three CAs: prepare")
    assert_trust(fleet, old=True, new=True, third=True)
    switch(fleet)
    for rig in fleet.rigs.values():
        first, rig.rotation = rig.old, rig.cluster.rotation()
        rig.rotation.successor, rig.rotation.further = rig.third, (first,)
        rig.rotation.switch()
    fleet.issue("third", *RENEWED, LATE)
    fleet.wait_for_calls()
    fleet.play()
    fleet.show("three CAs: prepare after the second switch")
    assert_trust(fleet, third=True)
    fleet.describe_eks("IN_USE", "third")
    fleet.confirm()
    fleet.accept_owners(confirms=True)
    for rig in fleet.rigs.values():
        rig.jump(DAY)
    fleet.play(**FINISH)
    fleet.wait_for_calls()
    fleet.show("three CAs: finish")
    assert_trust(fleet, old=False, new=False, third=True)
