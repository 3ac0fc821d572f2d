# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start each playbook and module without any permission, and do only what the messages say until it works.

An administrator runs the commands of the message on both clusters, and replaces only the word SUBJECT. The identity of one cluster
is a ServiceAccount. That of the other one is an IAM role of EKS: its user name has the session, which differs in each round, and
the access entry gives it a group.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller

from tests.support import clusters
from tests.support.certificates.csr_rig import KUBELET_SERVING, CsrRig
from tests.support.fleet.fleet_files import kubeconfig
from tests.support.operations import operate
from tests.support.pages import guide_commands, page_files
from tests.support.permissions import rbac
from tests.support.playbooks import playbook
from tests.support.upgrade.snapshot_plans import install
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.webhooks import snapshot_webhook
from tests.system.permissions import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet

GUIDE = page_files.GUIDES / "guide_permissions.rst"
SUBJECTS = {"onprem": "--serviceaccount=automation:certflow", "eks": "--group=certflow-operators"}
SIGNERS = {"onprem": KUBELET_SERVING, "eks": clusters.APP_SERVING}
#: The commands of a message.
COMMANDS = re.compile(r"in the directory of the collection, run (kubectl apply .*? SUBJECT)\. SUBJECT is ")
FILE = re.compile(r"-f docs/rbac/([a-z-]+)\.yaml")
SECRET = "/api/v1/namespaces/kube-system/secrets/snapshot-validation-secret"
ROUNDS = 3
MOST_FILES = 2
PLAYBOOKS = ("audit", "certificates", "cluster_ca", "repair", "upgrade")
MODULES = {
    "audit_info": calls.an_audit,
    "k8s_csr": calls.a_new_one,
    "k8s_csr_approve": calls.a_decision,
    "k8s_csr_info": calls.of_all,
    "k8s_signer_probe": calls.throw_away(KUBELET_SERVING),
    "snapshot_controller": calls.upgrade("8.7.0"),
    "snapshot_controller_info": calls.a_plan,
    "webhook_cabundle": calls.bundles,
    "webhook_probe": calls.an_admission,
    "webhook_repair": calls.a_repair,
}
#: What make test runs. make test-all runs all.
DAILY = ("audit", "certificates", "k8s_csr", "k8s_csr_info", "webhook_repair", "snapshot_controller")


def recipe(name: str) -> set[str]:
    """Return the files of the first table of the page of permissions for a playbook or a module."""
    rows = re.findall(
        r'^   "(.*?)","(.*)"$', GUIDE.read_text().partition("How to grant the roles\n")[0], re.MULTILINE
    )
    (files,) = [cell for what, cell in rows if f"``{name}``" in what]
    return set(re.findall(r"([a-z-]+)\.yaml", files))


class Newcomer:
    """An identity on each cluster, without permissions at first, and an administrator who grants them."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet, self.directory, self.round = fleet, directory, 0
        self.granted: list[str] = []
        (directory / "docs").symlink_to(page_files.REPOSITORY / "docs")

    def kubeconfig(self, name: str) -> Path:
        """Return the login of this round on a cluster."""
        if name == "onprem":
            return self.fleet[name].token_kubeconfig("certflow", "automation")
        return self.fleet[name].kubeconfig_for(
            f"arn:aws:sts::111122223333:assumed-role/certflow/session-{self.round}", ["certflow-operators"]
        )

    def follow(self, name: str, run: Callable[[], tuple[bool, str]]) -> None:
        """Run, and carry out what the message says, until it works.

        name: what runs, as the page of permissions names it.
        run: returns whether it worked, and its message.
        """
        for self.round in range(ROUNDS):
            works, message = run()
            commands = dict.fromkeys(COMMANDS.findall(message))
            if not commands:
                assert works, message
                assert len(self.granted) <= MOST_FILES, self.granted
                assert set(self.granted) <= recipe(name), "the page names other files"
                return
            for command in commands:
                self.granted += [name for name in FILE.findall(command) if name not in self.granted]
                self.carry_out(command)
        pytest.fail(f"it does not work after {ROUNDS} rounds with {self.granted}: {message}")

    def carry_out(self, command: str) -> None:
        """Run the commands of a message on each cluster, in the directory of the collection."""
        for name, cluster in self.fleet.items():
            said = command.replace("SUBJECT", SUBJECTS[name])
            guide_commands.shell(cluster.kubeconfig, self.directory, said)

    def take_back(self) -> None:
        """Delete the roles and bindings."""
        for cluster in self.fleet.values():
            for place in ("", "/namespaces/kube-system"):
                for kind in ("roles", "rolebindings") if place else ("clusterroles", "clusterrolebindings"):
                    for entry in cluster.api("GET", f"{rbac.RBAC}{place}/{kind}")["items"]:
                        if entry["metadata"]["name"].startswith("certflow-"):
                            cluster.api("DELETE", f"{rbac.RBAC}{place}/{kind}/{entry['metadata']['name']}")


@pytest.fixture(scope="module")
def installed(fleet: Fleet) -> Fleet:
    """The clusters, with the namespace of the ServiceAccount."""
    fleet["onprem"].api("POST", "/api/v1/namespaces", {"metadata": {"name": "automation"}})
    return fleet


@pytest.fixture
def newcomer(installed: Fleet, tmp_path: Path) -> Iterator[Newcomer]:
    identity = Newcomer(installed, tmp_path)
    try:
        yield identity
    finally:
        identity.take_back()
        for cluster in installed.values():
            with contextlib.suppress(clusters.AdminApiError):  # Only one test creates it.
                cluster.api("DELETE", SECRET)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DAILY else pytest.mark.full) for name in PLAYBOOKS]
)
def test_a_playbook_works_after_its_messages(newcomer: Newcomer, name: str) -> None:
    directory = newcomer.directory
    inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
    (directory / "fleet.yml").write_text(yaml.safe_dump(inventory))
    readme = page_files.files(page_files.README)["snapshot-webhook.yml"]
    (directory / "snapshot-webhook.yml").write_text(readme)
    with contextlib.ExitStack() as stack:
        if name != "upgrade":  # it would not know who wrote the webhook configuration
            stack.enter_context(snapshot_webhook.present(*newcomer.fleet.values()))
        variables: dict[str, Any] = {
            "certflow_stages": [{"name": "all", "hosts": "all"}],
            "certflow_max_failures": 2,
        }
        if name == "audit":
            variables = {"certflow_fail_on": "error"}
        if name == "upgrade":
            source = stack.enter_context(release_server("8.7.0"))
            cache = str(directory / "cache")
            variables |= {
                "snapshot_controller_version": "8.7.0",
                "snapshot_controller_source": source,
                "snapshot_controller_cache_directory": cache,
            }
        if name == "repair":
            variables["certflow_findings"] = "audit.json"

        def run() -> tuple[bool, str]:
            parts = {cluster: newcomer.kubeconfig(cluster) for cluster in newcomer.fleet}
            if name == "repair" and newcomer.round == 0:
                administrators = {key: cluster.kubeconfig for key, cluster in newcomer.fleet.items()}
                (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(administrators)))
                play("audit", certflow_report="audit.json", certflow_fail_on="never")
            (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
            done = play(
                name, "-e", "@snapshot-webhook.yml", *(["--check"] if name == "upgrade" else []), **variables
            )
            print(done.output)
            # The webhook of the README has no pods here, so no CA can be proven.
            is_repaired = name == "repair" and "endpoints-unread" in done.output
            return done.status == 0 or is_repaired, done.output

        def play(playbook_name: str, *arguments: str, **extra: Any) -> playbook.PlaybookRun:
            path = Path(f"certflow.kubernetes.{playbook_name}")
            return playbook.play(directory, path, "-i", "fleet.yml", *arguments, "-e", json.dumps(extra))

        newcomer.follow(name, run)


@pytest.mark.parametrize("cluster_name", SUBJECTS)
@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=() if name in DAILY else pytest.mark.full) for name in MODULES]
)
def test_a_module_works_after_its_messages(newcomer: Newcomer, module: str, cluster_name: str) -> None:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server("8.7.0"))
        releases = {"source": source, "cache_directory": str(newcomer.directory / "cache")}
        place = calls.Place(newcomer.fleet[cluster_name], releases, stack)
        place.rig = stack.enter_context(contextlib.closing(CsrRig(place.cluster, SIGNERS[cluster_name])))
        call = MODULES[module](place)

        def run() -> tuple[bool, str]:
            result = call(kubeconfig=str(newcomer.kubeconfig(cluster_name)))
            print(json.dumps(result, indent=1)[:6000])
            # The explanation of a waiting request names the file of its approver.
            is_explained = module == "k8s_csr_info" and not result.get("failed")
            return not result.get("failed"), "" if is_explained else json.dumps(result)

        newcomer.follow(module, run)


@pytest.mark.full
def test_an_upgrade_with_a_webhook_works_after_its_messages(tmp_path: Path) -> None:
    """The upgrade also issues the certificate of the webhook."""
    with clusters.running({"onprem": "onprem"}) as fleet, release_server("8.1.0") as source:
        fleet["onprem"].api("POST", "/api/v1/namespaces", {"metadata": {"name": "automation"}})
        install(fleet["onprem"], "7.0.2")
        identity = Newcomer(fleet, tmp_path)
        options = {
            "version": "8.1.0",
            "accept": ["kubectl"],
            "source": source,
            "cache_directory": str(tmp_path / "cache"),
        }

        def run() -> tuple[bool, str]:
            result = operate(
                snapshot_controller.OPERATION,
                {**options, "kubeconfig": str(identity.kubeconfig("onprem"))},
                check_mode=True,
            )
            print(json.dumps(result, indent=1)[:6000])
            return not result.get("failed"), json.dumps(result)

        identity.follow("snapshot_controller", run)
