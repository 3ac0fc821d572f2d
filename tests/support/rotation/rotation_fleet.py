# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two control planes in one inventory whose CAs rotate, with the same rows of programs, and what the playbooks say about each program."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.fleet.fleet_files import kubeconfig
from tests.support.permissions import rbac
from tests.support.playbooks import playbook
from tests.support.rig import encoded
from tests.support.rotation.rotation_rig import RotationRig, with_ca
from tests.support.waiting import wait_for
from tests.support.world import Shape, shapes

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.clusters import Fleet
    from tests.support.clusters.pki import KeyPair
    from tests.support.world import Caller, Program

# What becomes of a program.
#: The phase prepare writes its caBundle with default options.
PREPARED = "prepared"
#: The same. No call reaches it.
IDLE = "idle"
#: The same as PREPARED. Its certificate is renewed only after the first run of the phase finish.
LATE = "late"
#: Another program owns the caBundle, and the user accepts that.
ACCEPTED = "accepted"
#: Another program owns the caBundle, and the user does not accept that. Its calls fail after the switch.
FOREIGN = "foreign"
#: Another CA signs its certificate, so no phase is about it.
UNAFFECTED = "unaffected"


@dataclass(frozen=True)
class Row:
    """A shape, and what becomes of its programs."""

    shape: Shape
    fate: str = PREPARED
    copies: int = 1
    #: The word that accepts the owner.
    word: str = ""


def _of(name: str, owner: shapes.Owner, fate: str, word: str = "", **fields: Any) -> Row:
    return Row(Shape(name, owner=owner, **fields), fate, word=word)


READY, NOT_READY, TERMINATING = shapes.READY, shapes.NOT_READY, shapes.TERMINATING
ROWS = (
    Row(Shape("own", certificate=shapes.OURS, bundle=None)),
    Row(Shape("own-api", shapes.AGGREGATED, certificate=shapes.OURS, bundle=None)),
    Row(Shape("pods")),
    Row(Shape("mutating", shapes.MUTATING)),
    Row(Shape("conversion", shapes.CONVERSION)),
    Row(Shape("api", shapes.AGGREGATED)),
    Row(Shape("skipped", failure_policy="Ignore")),
    Row(Shape("renewed-late"), LATE),
    Row(Shape("three-pods", endpoints=(READY, READY, NOT_READY))),
    Row(Shape("ending", endpoints=(READY, TERMINATING))),
    Row(Shape("slice", reached=shapes.BY_SLICE)),
    Row(Shape("url", reached=shapes.BY_URL)),
    Row(Shape("url-skipped", shapes.MUTATING, reached=shapes.BY_URL, failure_policy="Ignore")),
    Row(Shape("external", reached=shapes.BY_NAME)),
    Row(Shape("helm-label", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}})),
    Row(Shape("nowhere", reached=shapes.NOWHERE), IDLE, copies=40),
    Row(Shape("unready", endpoints=(NOT_READY,)), IDLE),
    Row(Shape("unreachable", endpoints=(shapes.UNREACHABLE,)), IDLE),
    Row(Shape("scaled", endpoints=()), IDLE),
    _of("helm-yes", shapes.HELM, ACCEPTED, "helm"),
    _of("argo-yes", shapes.ARGO_CD, ACCEPTED, "argocd", kind=shapes.MUTATING),
    _of("operator-yes", shapes.OPERATOR, ACCEPTED, "manager:pilot-discovery", kind=shapes.AGGREGATED),
    _of("helm", shapes.HELM, FOREIGN),
    _of("helm-applied", shapes.HELM_APPLIED, FOREIGN),
    _of("kubectl", shapes.KUBECTL, FOREIGN),
    _of("argo-cd", shapes.ARGO_CD, FOREIGN),
    _of("eks", shapes.EKS, FOREIGN),
    _of("operator", shapes.OPERATOR, FOREIGN),
    _of("other-api", shapes.OPERATOR, FOREIGN, kind=shapes.AGGREGATED),
    _of("other-conversion", shapes.OPERATOR, FOREIGN, kind=shapes.CONVERSION),
    _of("other-url", shapes.OPERATOR, FOREIGN, reached=shapes.BY_URL, failure_policy="Ignore"),
    Row(Shape("namesake", certificate=shapes.issued("kubernetes"), bundle=("kubernetes",)), UNAFFECTED),
)  # fmt: skip
#: The roles of an identity that issues certificates.
CERTIFICATES = ("request", "approve", "bundle", "rotate")


#: The successors of the clusters.
_SUCCESSORS: dict[str, dict[str, Any]] = {"eu": {"key_identifiers": False}, "us": {"subject": "other-ca"}}


class RotatingFleet:
    """The clusters eu and us, or one of them, and the inventory of the guide. us is one of Amazon EKS, whose audit may not forward ports.

    The runs have only the documented permissions.
    """

    def __init__(self, fleet: Fleet, directory: Path, rows: Sequence[Row] = ROWS) -> None:
        self.directory, self.rows = directory, rows
        self.rigs = {host: RotationRig(cluster, **_SUCCESSORS[host]) for host, cluster in fleet.items()}
        #: The CAs that the kubeconfigs of the runs have, by their clusters.
        self.trusted: dict[str, tuple[KeyPair, ...]] = {host: (rig.old,) for host, rig in self.rigs.items()}
        #: What each host needs beside the variables of the guide.
        self.variables: dict[str, dict[str, Any]] = {host: {} for host in self.rigs}
        #: Host and object -> what the last run said about it, and when an audit and a run named it first.
        self.states: dict[tuple[str, str], str] = {}
        self.named: dict[tuple[str, str, str], datetime.datetime] = {}
        self.calls: dict[str, Caller] = {}
        self._number, self._began = 0, time.monotonic()
        self.report = ""
        for rig in self.rigs.values():
            self._sign_in(rig)
        self.programs = {host: self._create(rig) for host, rig in self.rigs.items()}
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (directory / "fleet.yml").write_text(yaml.safe_dump(inventory))

    def close(self) -> None:
        for rig in self.rigs.values():
            rig.close()

    def _create(self, rig: RotationRig) -> list[tuple[Row, Program]]:
        made = [(row, program) for row in self.rows for program in rig.create(row.shape, row.copies)]
        for row, program in made:
            if row.fate != IDLE:
                wait_for(program.is_called, evidence=program.call)
        return made

    def _sign_in(self, rig: RotationRig) -> None:
        """Give the runs identities with the documented roles."""
        rig.become(*CERTIFICATES)
        rig.connection = {"kubeconfig": rig.trust()}
        audit = rbac.documented("audit")
        if rig is self.rigs.get("us"):
            audit["rules"] = [
                rule for rule in audit["rules"] if "pods/portforward" not in rule.get("resources", ())
            ]
        rig.user = f"rotating-{rig.id}"
        rig.made += rbac.grant(rig.cluster, rig.user, audit, rbac.documented("repair"))
        rig.kubeconfig = rig.cluster.kubeconfig_for(rig.user)

    def of(self, *fates: str) -> Iterator[tuple[str, Program]]:
        """Yield host and program of each row with one of these fates."""
        for host, programs in self.programs.items():
            yield from ((host, program) for row, program in programs if row.fate in fates)

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Call every program all the time."""
        with contextlib.ExitStack() as stack:
            for host, rig in self.rigs.items():
                called = [program for row, program in self.programs[host] if row.fate != IDLE]
                self.calls[host] = stack.enter_context(rig.calling(*called))
            yield

    def wait_for_calls(self) -> None:
        for calls in self.calls.values():
            calls.wait_for_more()

    def trust(self, *names: str) -> None:
        """Write the CAs old, new and third into the kubeconfigs of the runs, those with these names."""
        self.trusted = {host: tuple(getattr(rig, name) for name in names) for host, rig in self.rigs.items()}
        for host, rig in self.rigs.items():
            data = encoded("".join(ca.certificate_pem.decode() for ca in self.trusted[host]))
            rig.connection["kubeconfig"]["clusters"][0]["cluster"]["certificate-authority-data"] = data

    def describe_eks(self, status: str, name: str = "new", *, has_rollback: bool = False) -> None:
        """Store what the aws CLI shows of a CA of us, as the loop of the guide does."""
        if "us" in self.rigs:
            data = encoded(getattr(self.rigs["us"], name).certificate_pem.decode())
            ca = {"data": data, "signingStatus": status, "rollbackAvailable": has_rollback}
            described = {"certificate_authorities": {"certificateAuthority": ca}}
            self.variables["us"]["certflow_cluster_ca"] = described

    def confirm(self) -> None:
        """Confirm that each API server uses the successor. No program listens at the address that these API servers publish."""
        for variables in self.variables.values():
            variables.setdefault("certflow_cluster_ca", {})["confirmed"] = True

    def accept_owners(self, *, confirms: bool = False) -> None:
        """Accept the owners of rows with a word. confirms: also confirm each object whose endpoints an audit does not see."""
        for host, programs in self.programs.items():
            places = [(row, f"{program.kind}/{program.full_name}") for row, program in programs]
            accept = [{row.word: [place]} for row, place in places if row.word]
            accept += (
                [{"unseen": [place for row, place in places if row.fate != FOREIGN]}] if confirms else []
            )
            self.variables[host]["certflow_repair_accept"] = accept

    def is_unseen(self, host: str, program: Program) -> bool:
        """Return True if an audit with the documented role does not see what each endpoint serves."""
        shape = program.shape
        is_seen = (
            shape.reached == shapes.BY_PODS and shape.endpoints and shapes.UNREACHABLE not in shape.endpoints
        )
        return host == "us" or not is_seen

    def issue(self, name: str, *fates: str) -> None:
        """Let programs serve a certificate of a CA, and those of this collection renew theirs. fates: those of the rows."""
        for host, program in self.of(*fates):
            rig = self.rigs[host]
            if program.is_ours:
                rig.renew(program, renew_before="400d")
            elif program.reach.endpoints:
                program.issue(getattr(rig, name))

    # Runs

    def play(self, *arguments: str, name: str = "cluster_ca", **variables: Any) -> dict[str, dict[str, Any]]:
        """Run a playbook. Return the part of each cluster of its report."""
        self.states.clear()
        report = self.prepare_files()
        run = playbook.play(self.directory, *_arguments(name, report, variables), *arguments)
        print(run.output.partition("TASK [Show the summary of the run]")[2].partition("PLAY RECAP")[0])
        rows = json.loads((self.directory / report).read_text())["clusters"]
        for row in rows:
            self._note(row["name"], row)
        self.report = report
        return {row["name"]: row for row in rows}

    def play_killed(self, done: Callable[[], object], **variables: Any) -> None:
        """Run the playbook, and kill it as soon as a condition is true."""
        playbook.play_killed(
            self.directory, *_arguments("cluster_ca", self.prepare_files(), variables), done=done
        )

    def prepare_files(self) -> str:
        """Write the kubeconfig and the variables of the hosts. Return the name of the next report."""
        parts = {}
        for host, rig in self.rigs.items():
            parts[host] = self.directory / f"kubeconfig-{host}"
            parts[host].write_text(yaml.safe_dump(with_ca(rig, *self.trusted[host])))
            place = self.directory / "host_vars" / host / "variables.yml"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(yaml.safe_dump(self.variables[host]))
        (self.directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
        self._number += 1
        return f"report-{self._number}.json"

    def _note(self, host: str, row: dict[str, Any]) -> None:
        now = self.rigs[host].cluster.now()
        findings = [
            entry for entry in row.get("findings") or () if entry["check"] == "bundle-without-successor"
        ]
        for entry in findings:
            if entry["status"] == "fail":
                self.named.setdefault((host, entry["object"]["name"], "audit"), now)
        for entry in row.get("repairs") or ():
            name = entry["object"]["name"]
            self.states[host, name] = " ".join(filter(None, (entry["state"], entry["code"])))
            if entry["state"] in ("refused", "waiting"):
                self.named.setdefault((host, name, "run"), now)

    def state(self, host: str, program: Program) -> str:
        return self.states.get((host, program.full_name), "")

    # The table

    def show(self, phase: str) -> None:
        """Print a line for each row and cluster: what was called so far, and what the last runs said."""
        seconds = time.monotonic() - self._began
        print(
            f"\n{phase} ({seconds:.0f} s)\n{'cluster':8}{'shape':15}{'owner':22}{'calls':>7}{'failures':>9}  state by the run"
        )
        for host, programs in self.programs.items():
            lines: dict[tuple[str, str, str], list[int]] = {}
            for row, program in programs:
                answers = self.calls[host].answers.get(program.name, [])
                line = lines.setdefault(
                    (row.shape.name, row.shape.owner.name, self.state(host, program)), [0, 0, 0]
                )
                for place, number in enumerate((1, len(answers), sum(entry.is_failure for entry in answers))):
                    line[place] += number
            for (name, owner, state), (count, calls, fails) in lines.items():
                words = f"{name} x{count}" if count > 1 else name
                print(f"{host:8}{words:15}{owner:22}{calls:7}{fails:9}  {state or '-'}")

    def failures(self) -> dict[str, set[str]]:
        """Return the programs of each cluster of which a call failed. Print the first answers."""
        for host, calls in self.calls.items():
            for name, answers in calls.answers.items():
                fails = [str(entry) for entry in answers if entry.is_failure]
                if fails:
                    print(host, name, *fails[:2], sep="\n  ")
        return {host: {*calls.failures} for host, calls in self.calls.items()}

    def unnamed(self) -> list[str]:
        """Return the programs whose calls failed before an audit and a run had named their objects."""
        late = []
        for host, program in self.of(PREPARED, ACCEPTED, FOREIGN, UNAFFECTED):
            times = [entry.time for entry in self.calls[host].answers[program.name] if entry.is_failure]
            named = [self.named.get((host, program.full_name, by)) for by in ("audit", "run")]
            if times and not all(moment and moment.timestamp() < times[0] for moment in named):
                late.append(f"{host} {program.name}: failed at {times[0]}, named at {named}")
        return late


def _arguments(name: str, report: str, variables: dict[str, Any]) -> tuple[Path, str, str, str, str]:
    extra = json.dumps({"certflow_report": report, **variables})
    return Path(f"certflow.kubernetes.{name}"), "-i", "fleet.yml", "-e", extra
