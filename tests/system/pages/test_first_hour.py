# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first hour of a user: run README.md from its first command to a webhook that the API server trusts.

The commands run as printed and in the order of the page, in a virtual environment that has only ansible-core. The
tables below list what is replaced, what is left out, and what the machine provides. The test prints them.
In the same way, the tutorial runs from an empty directory, and examples/infra-repo as a repository of its own.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.support import clusters
from tests.support.clusters import AdminApiError
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out
from tests.support.waiting import wait_for
from tests.support.webhooks.https_webhook import WebhookServer, deny
from tests.support.webhooks.snapshot_webhook import CONFIGURATIONS, NAME
from tests.system.pages.test_infra_repo import SECRET as AUDIT_SECRET
from tests.system.pages.test_infra_repo import webhook
from tools.ci import tree, venvs
from tools.ci.environments import CORES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

SERVICE = "/api/v1/namespaces/kube-system/services/snapshot-validation-service"
SECRET = "/api/v1/namespaces/kube-system/secrets/snapshot-validation-secret"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
OBJECTS = page_files.REPOSITORY / "examples" / "first-certificate" / "webhook.yml"


class Replacement(NamedTuple):
    """A part of the README's commands that the test replaces."""

    #: Regular expression for the part.
    printed: str
    #: Text instead, with the names of `Reader.places`.
    instead: str
    reason: str


REPLACED = (
    Replacement(r"^kind create cluster$", "true", "kind: a test cluster has kind's context in ~/.kube/config"),
    Replacement(r"https://raw\.githubusercontent\.com/certflow/certflow\.kubernetes/main", "{repository}", "GitHub: the file"),
    Replacement(r"(?<=collection install )certflow\.kubernetes", "{collection}", "Galaxy: the built file"),
)  # fmt: skip
#: Further replacements for the other pages. The files of a page are written when the reader would write them.
REPLACED_ELSEWHERE = (
    Replacement(r"^kind (?:create|delete) cluster .*$", "true", "kind: a test cluster"),
    Replacement(r"(?<=&& cd )first-certificate$", "first-certificate && cp {files}/* .", "an editor: the files of the page"),
    Replacement(r"-r collections/requirements\.yml$", "{collection} -p collections", "Galaxy: the built file"),
)  # fmt: skip
TUTORIAL = page_files.GUIDES / "tutorial_first_certificate.rst"
INFRA_REPO = page_files.REPOSITORY / "examples" / "infra-repo"
#: Commands that do not run here, and the test that runs them.
ELSEWHERE = {
    "git clone https://github.com/certflow/certflow.kubernetes.git && cd certflow.kubernetes": (
        "pages/test_demo.py::test_the_demo_completes"
    ),
    "make demo": "pages/test_demo.py::test_the_demo_completes",
    "make test": "../repository/test_gates.py::test_every_gate_runs_once",
}
#: Things that the README expects of the machine, with those that the test provides.
PROVIDED = {
    "ansible-core": "the version of the tests, in a new virtual environment",
    "versions of the libraries": "those of the lock file, as constraints of pip",
    "kubectl": "the one of the test clusters",
    "~/.kube/fleet.yml": "a context for each test cluster",
    "the pods of the webhook": "an HTTPS server on this machine with the Secret's certificate, which denies every object",
    "the CRD of VolumeSnapshots": "a CRD without a schema",
    "a webhook on the second cluster": "the same objects as on the first",
    "a stuck CSR on the second cluster": "the one that create-cert.sh leaves",
}


class Reader:
    """A reader with a home, a new virtual environment, and the README's files in a directory of their own."""

    def __init__(self, home: Path, fleet: Fleet) -> None:
        self.home = home
        self.directory = home / "project"
        self.directory.mkdir(parents=True)
        self.venv = home / "venv"
        self.places = {"repository": str(page_files.REPOSITORY), "collection": "", "files": ""}
        self._write_kubeconfigs(fleet)

    def _write_kubeconfigs(self, fleet: Fleet) -> None:
        """Write the file of the reader, with kind's context for the first cluster, and the file of the fleet."""
        folder = self.home / ".kube"
        folder.mkdir()
        shutil.copy(fleet.merged_kubeconfig, folder / "fleet.yml")
        kind = yaml.safe_load(fleet["onprem"].kubeconfig.read_text())
        kind["contexts"][0]["name"] = kind["current-context"] = "kind-kind"
        other = yaml.safe_load(fleet["eks"].kubeconfig.read_text())
        for section in ("clusters", "users", "contexts"):
            kind[section] += other[section]
        (folder / "config").write_text(yaml.safe_dump(kind))

    def prepare(self) -> None:
        """Create the environment with ansible-core, build the collection, and write the README's files."""
        subprocess.run([sys.executable, "-m", "venv", str(self.venv)], check=True)
        core = importlib.metadata.version("ansible-core")
        self.run(f"python3 -m pip install --quiet ansible-core=={core}")
        copy = tree.copy("first-hour")
        self.run(f"ansible-galaxy collection build {shlex.quote(str(copy))} --output-path {self.home}")
        (built,) = self.home.glob("certflow-kubernetes-*.tar.gz")
        self.places["collection"] = str(built)
        for name, text in page_files.files(page_files.README).items():
            (self.directory / name).write_text(text)

    def run_page(self, page: Path) -> str:
        """Run all commands of a page in one shell, which keeps its directory and its environment, and return the output."""
        blocks = [text for kind, text in page_files.blocks(page) if kind in ("console", "shell")]
        lines = [line for text in blocks for line in text.splitlines()]
        return self.run("\n".join(["set -eux", *map(self.replaced, lines)]))

    def run(self, command: str) -> str:
        """Run a command in bash and return its output. It must succeed."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return variables that lead to no file of the repository, of the user or of another environment."""
        core = ".".join(importlib.metadata.version("ansible-core").split(".")[:2])
        (lock,) = (venvs.lock_file(env) for env in CORES if env.name == f"core-{core}")
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "LANG", "LC_"))}
        path = [str(self.venv / "bin"), str(clusters.programs()), "/usr/local/bin", "/usr/bin", "/bin"]
        # Only pip uses the proxy of this machine.
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        return (
            ({"PIP_PROXY": proxy} if proxy else {})
            | kept
            | {
                "HOME": str(self.home),
                "PATH": os.pathsep.join(path),
                "PIP_CACHE_DIR": pip_cache(),
                "PIP_CONSTRAINT": str(lock),
                "PIP_NO_COMPILE": "1",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            }
        )

    def replaced(self, command: str) -> str:
        """Return a command of a page with the replacements."""
        for row in (*REPLACED, *REPLACED_ELSEWHERE):
            instead = row.instead.format(**self.places) if "{" in row.instead else row.instead
            command = re.sub(row.printed, instead, command)
        return command


def pip_cache() -> str:
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def recap(output: str, word: str) -> int:
    """Return the sum over all hosts of a number in the recap, such as "changed"."""
    tail = output.rpartition("PLAY RECAP")[2]
    return sum(int(number) for number in re.findall(rf"\b{word}=(\d+)", tail))


@pytest.fixture
def reader(fleet: Fleet, tmp_path: Path) -> Iterator[Reader]:
    yield Reader(tmp_path / "home", fleet)
    for cluster in fleet.values():
        for path in (
            SERVICE,
            SECRET,
            f"{CONFIGURATIONS}/{NAME}",
            f"{DEFINITIONS}/volumesnapshots.snapshot.storage.k8s.io",
        ):
            remove(cluster, path)


def remove(cluster: Cluster, path: str) -> None:
    try:
        cluster.api("DELETE", path)
    except AdminApiError as error:
        assert error.status == 404, error


def without_comment(command: str) -> str:
    return command.partition(" #")[0]


def test_every_command_has_its_place() -> None:
    """A replacement or an exception that no command of the README needs is wrong."""
    printed = page_files.commands(page_files.README)
    assert set(ELSEWHERE) <= set(map(without_comment, printed))
    for row in REPLACED:
        assert any(re.search(row.printed, command) for command in printed), row
    others = [
        text for page in (TUTORIAL, INFRA_REPO / "README.md") for _kind, text in page_files.blocks(page)
    ]
    for row in REPLACED_ELSEWHERE:
        assert any(re.search(row.printed, line) for text in others for line in text.splitlines()), row
    for name in ELSEWHERE.values():
        file, _, function = name.partition("::")
        assert f"def {function}(" in (page_files.REPOSITORY / "tests" / "system" / file).read_text()


def test_the_first_hour(fleet: Fleet, reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    outputs: dict[str, str] = {}
    for cluster in fleet.values():
        remove_what_the_audit_would_find(cluster)
        # Without it, the API server calls no webhook for VolumeSnapshots, and the audit finds no error.
        add_definition(cluster)
    add_second_cluster(fleet["eks"])
    leave_stuck_request(fleet["eks"], reader.home)
    with capsys.disabled():
        show_tables()
        timed("a new environment and the built collection", reader.prepare)
        for command in page_files.commands(page_files.README):
            if without_comment(command) in ELSEWHERE:
                continue
            outputs[command] = timed(command, lambda command=command: reader.run(reader.replaced(command)))
    check_shown(outputs)
    check_first_certificate(outputs)
    check_fleet(outputs, reader)
    check_audit(reader)
    for cluster in fleet.values():
        assert_the_api_server_calls(cluster)


def remove_what_the_audit_would_find(cluster: Cluster) -> None:
    """Remove webhooks, definitions and requests that other tests left, because the README shows the number of findings."""
    mutating = CONFIGURATIONS.replace("validating", "mutating")
    for path in (CONFIGURATIONS, mutating, DEFINITIONS, REQUESTS):
        cluster.api("DELETE", path)


@pytest.mark.full
def test_the_tutorial_in_a_clean_environment(fleet: Fleet, reader: Reader, tmp_path: Path) -> None:
    """test_guides.py compares the objects after each command."""
    reader.prepare()
    files = tmp_path / "files"
    files.mkdir()
    lay_out(TUTORIAL, files)
    reader.places["files"] = str(files)
    keep_first_context(reader.home / ".kube" / "config")
    output = reader.run_page(TUTORIAL)
    assert [recap(part, "failed") for part in output.split("+ ansible-playbook ")[1:]] == [0] * 5, output


@pytest.mark.full
def test_the_example_repository_in_a_clean_environment(fleet: Fleet, reader: Reader) -> None:
    """test_infra_repo.py compares the objects."""
    reader.prepare()
    for line in page_files.commands(page_files.README)[:1]:
        reader.run(line)
    shutil.copytree(INFRA_REPO, reader.directory, dirs_exist_ok=True)
    rename_contexts(reader.home / ".kube" / "config", {"kind-kind": "build", "eks": "shop"})
    with contextlib.ExitStack() as stack:
        for cluster in fleet.values():
            cluster.api("POST", CONFIGURATIONS, webhook())
            for path in (f"{CONFIGURATIONS}/audit-webhook", AUDIT_SECRET):
                stack.callback(remove, cluster, path)
        output = reader.run_page(INFRA_REPO / "README.md")
    first, second = output.split("+ ansible-playbook ")[1:]
    assert (recap(first, "changed"), recap(second, "changed")) == (2, 0), output


def keep_first_context(kubeconfig: Path) -> None:
    """Leave one context, as the new cluster of the tutorial has. With more of them, a role needs a name."""
    content = yaml.safe_load(kubeconfig.read_text())
    del content["contexts"][1:]
    kubeconfig.write_text(yaml.safe_dump(content))


def rename_contexts(kubeconfig: Path, names: dict[str, str]) -> None:
    content = yaml.safe_load(kubeconfig.read_text())
    for context in content["contexts"]:
        context["name"] = names[context["name"]]
    content["current-context"] = names[content["current-context"]]
    kubeconfig.write_text(yaml.safe_dump(content))


def show_tables() -> None:
    print("\nReplaced:")
    for row in REPLACED:
        print(f"  {row.printed}: {row.reason}")
    print("Run by another test:", *(f"  {command}: {test}" for command, test in ELSEWHERE.items()), sep="\n")
    print("Provided:", *(f"  {name}: {what}" for name, what in PROVIDED.items()), sep="\n")


def timed(title: str, action: Any) -> Any:
    start = time.monotonic()
    result = action()
    print(f"  {time.monotonic() - start:5.1f} s  {title}")
    return result


def add_second_cluster(cluster: Cluster) -> None:
    """Create the webhook's objects on the second cluster."""
    service, configuration = yaml.safe_load_all(OBJECTS.read_text())
    cluster.api("POST", SERVICE.rpartition("/")[0], service)
    cluster.api("POST", CONFIGURATIONS, configuration)


def leave_stuck_request(cluster: Cluster, home: Path) -> None:
    """Run create-cert.sh of external-snapshotter. It fails, and leaves a request that is approved and never issued."""
    script = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example" / "create-cert.sh"
    words = [
        "--service",
        "snapshot-validation-service",
        "--namespace",
        "kube-system",
        "--secret",
        "not-created",
    ]
    path = f"{clusters.programs()}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig), "TMPDIR": str(home)}
    done = subprocess.run(["bash", script, *words], env=environment, capture_output=True, check=False)
    assert done.returncode != 0


def check_shown(outputs: dict[str, str]) -> None:
    """Each line of output that the page shows is in the output of its command."""
    for command, lines in page_files.outputs(page_files.README).items():
        assert [line for line in lines if line not in outputs[command]] == [], outputs[command]


def check_first_certificate(outputs: dict[str, str]) -> None:
    check, write = (outputs[name] for name in outputs if name.startswith("ansible-playbook certificates.yml"))
    assert (recap(check, "changed"), recap(write, "changed")) == (1, 1), write
    assert "PRIVATE KEY" not in check + write


def check_fleet(outputs: dict[str, str], reader: Reader) -> None:
    """The first cluster has its certificate already, and the second one gets it."""
    graph, _audit, _cluster_ca, check, write, _repair = (
        output for name, output in outputs.items() if "-i fleet.yml" in name
    )
    assert "|--onprem" in graph, graph
    assert recap(check, "failed") == recap(write, "failed") == 0
    assert (recap(check, "changed"), recap(write, "changed")) == (1, 1), write
    report = json.loads((reader.directory / "report.json").read_text())
    assert {cluster["name"]: cluster["status"] for cluster in report["clusters"]} == {
        "eks": "changed",
        "onprem": "ok",
    }


def check_audit(reader: Reader) -> None:
    """The audit reads both clusters, and finds the webhook, which has no pods here."""
    report = json.loads((reader.directory / "audit.json").read_text())
    found = {
        cluster["name"]: {row["object"]["name"] for row in cluster["findings"]}
        for cluster in report["clusters"]
    }
    assert NAME in found["eks"], found
    assert {cluster["status"] for cluster in report["clusters"]} == {"ok"}
    assert "no-endpoints" in (reader.directory / "audit.html").read_text()


def assert_the_api_server_calls(cluster: Cluster) -> None:
    """Create an object that the webhook denies. The API server shows the webhook's reason only if it trusts it."""
    data = cluster.api("GET", SECRET)["data"]
    server = WebhookServer(deny)
    server.present(Pair(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"])))
    server.serve()
    try:
        lead_to_this_machine(cluster, server.port)
        wait_for(lambda: is_denied(cluster, server), 30, evidence=lambda: server.calls)
    finally:
        server.close()


class Pair(NamedTuple):
    """A certificate and its key, PEM."""

    certificate_pem: bytes
    key_pem: bytes


def lead_to_this_machine(cluster: Cluster, port: int) -> None:
    """Let the Service name this machine, because the cluster has no pods. The CA bundle stays."""
    service = cluster.api("GET", SERVICE)
    service["spec"] = {"type": "ExternalName", "externalName": "localhost"}
    cluster.api("PUT", SERVICE, service)
    configuration = cluster.api("GET", f"{CONFIGURATIONS}/{NAME}")
    configuration["webhooks"][0]["clientConfig"]["service"]["port"] = port
    cluster.api("PUT", f"{CONFIGURATIONS}/{NAME}", configuration)


def add_definition(cluster: Cluster) -> None:
    names = {
        "plural": "volumesnapshots",
        "singular": "volumesnapshot",
        "kind": "VolumeSnapshot",
        "listKind": "VolumeSnapshotList",
    }
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    cluster.api(
        "POST",
        DEFINITIONS,
        {
            "metadata": {
                "name": "volumesnapshots.snapshot.storage.k8s.io",
                "annotations": {
                    "api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter"
                },
            },
            "spec": {
                "group": "snapshot.storage.k8s.io",
                "names": names,
                "scope": "Namespaced",
                "versions": [version],
            },
        },
    )


def is_denied(cluster: Cluster, server: WebhookServer) -> bool:
    """Return True if the webhook denied a new object. Until the API server serves the kind, it answers 404."""
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"generateName": "first-"},
    }
    try:
        cluster.api("POST", f"{SNAPSHOTS}?dryRun=All", body)
    except AdminApiError as error:
        return error.status != 404 and NAME in error.message and bool(server.calls)
    return False
