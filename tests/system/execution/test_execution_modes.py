# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both execution modes of an operation: in Ansible's own process, and as an ordinary module. Keywords mean the same in both.

One playbook runs each row as a module, and once without a forced mode, which is in Ansible's own process for most rows. `make test`
runs the rows of SIMILAR only there, because each start of a module costs a second of CPU time. The variable __certflow_execution_mode
forces a mode. The line that the action prints at -vv names the mode of the task.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.clusters import pki
from tests.support.failures import absent, has_failed
from tests.support.pages import page_files
from tests.support.playbooks import playbook
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet

OPERATIONS = page_files.operations()
MODE_VARIABLE = "__certflow_execution_mode"
MODES = ("in_process", "module")
LINE = re.compile(r"certflow\.kubernetes (\w+): execution mode (in_process|module): (.*)")
INFO = "certflow.kubernetes.k8s_csr_info"
BUNDLE = "certflow.kubernetes.webhook_cabundle"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
# Keys in which the two modes may differ: ansible-core 2.22 says whether a module's output was parsed, cores before 2.19
# add the arguments to a module's result, and the duration of each task differs.
MAY_DIFFER = {"ansible_parsed", "invocation", "start", "end", "delta"}
# Data of the API that must not be evaluated as a template.
HOSTILE = "{{ 6007 * 7 }}"
EVALUATED = "42049"
VAULT_PASSWORD = "not a secret at all"


@dataclass(frozen=True)
class ModeRow:
    """A task of the table."""

    task: dict[str, Any]
    host: str = "localhost"
    #: The mode of the task without a forced mode.
    auto: str = "in_process"
    #: The modes that are forced.
    forced: tuple[str, ...] = ("module",)
    #: Whether the play names the cluster by module_defaults of the action group.
    defaults: bool = True
    play: dict[str, Any] = field(default_factory=dict)
    fails: bool = False


class ModesRig:
    """A user of these tests' own, a webhook configuration, a request, and the files that rows name."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.name = f"modes-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = fleet["onprem"].kubeconfig_for(self.name, ["system:masters"])
        self.content = yaml.safe_load(self.kubeconfig.read_text())
        self.ca = pki.make_ca(self.name).certificate_pem.decode()
        (directory / "files").mkdir()
        (directory / "files" / "plain").write_text(self.kubeconfig.read_text())
        secret = VaultSecret(VAULT_PASSWORD.encode())
        vault = VaultLib([(DEFAULT_VAULT_ID_MATCH, secret)])
        (directory / "files" / "encrypted").write_bytes(
            vault.encrypt(self.kubeconfig.read_text(), secret=secret)
        )
        (directory / "vault-password").write_text(VAULT_PASSWORD)
        (directory / "home" / ".kube").mkdir(parents=True)
        (directory / "home" / ".kube" / "config").write_text(self.kubeconfig.read_text())
        self.python = self._wrapper()
        self._stand_in_for_kubernetes_core()
        self._create()

    def _wrapper(self) -> str:
        """The same Python under another path."""
        path = self.directory / "python"
        path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def _stand_in_for_kubernetes_core(self) -> None:
        """A module in kubernetes.core's action group that returns its arguments."""
        collection = self.directory / "collections" / "ansible_collections" / "kubernetes" / "core"
        (collection / "meta").mkdir(parents=True)
        (collection / "meta" / "runtime.yml").write_text("action_groups:\n  k8s:\n    - k8s_info\n")
        (collection / "plugins" / "modules").mkdir(parents=True)
        (collection / "plugins" / "modules" / "k8s_info.py").write_text(
            "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\n"
            "module = AnsibleModule({'kubeconfig': {}, 'context': {}, 'api_version': {}})\n"
            "module.exit_json(given={k: v for k, v in module.params.items() if v})\n"
        )

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTILE)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        pem = request.public_bytes(serialization.Encoding.PEM)
        spec = {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        onprem = self.fleet["onprem"]
        onprem.api("POST", REQUESTS, {"metadata": {"name": self.name}, "spec": spec})
        config = called_objects.service("default", self.name)
        webhook = called_objects.webhook("hook.certflow.test", config)
        onprem.api("POST", HOOKS, called_objects.configuration(self.name, webhook))

    def close(self) -> None:
        self.fleet["onprem"].api("DELETE", f"{REQUESTS}/{self.name}")
        self.fleet["onprem"].api("DELETE", f"{HOOKS}/{self.name}")

    def play(self, plays: list[dict[str, Any]], *arguments: str, **environment: str) -> playbook.PlaybookRun:
        inventory = self.directory / "inventory.yml"
        local = {"ansible_connection": "local"}
        hosts = {
            "remote": {"ansible_host": "host.invalid"},
            "local": {**local, "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "other_python": {**local, "ansible_python_interpreter": self.python},
            "unset_python": local,
        }
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        path = os.pathsep.join([os.environ["ANSIBLE_COLLECTIONS_PATH"], str(self.directory / "collections")])
        more = [
            "-i",
            str(inventory),
            "--vault-password-file",
            str(self.directory / "vault-password"),
            *arguments,
        ]
        kept = {"ANSIBLE_COLLECTIONS_PATH": path, "ANSIBLE_PIPELINING": "true", **environment}
        return playbook.play(self.directory, plays, *more, **kept)


@pytest.fixture(scope="module")
def rig(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModesRig]:
    made = ModesRig(fleet, tmp_path_factory.mktemp("modes"))
    yield made
    made.close()


def rows(rig: ModesRig, silent_port: int, seconds: int) -> dict[str, ModeRow]:
    """The table of keywords. seconds: of the row "timeout"."""
    kubeconfig = str(rig.kubeconfig)
    named = {INFO: {"name": rig.name, "gather": ["csrs"]}}
    target = {"kind": "ValidatingWebhookConfiguration", "name": rig.name}
    bundle = {BUNDLE: {"ca_bundle": rig.ca, "targets": [target]}}
    given = {"name": rig.name, "gather": ["csrs"]}
    away = {"HOME": str(rig.directory)}
    return {
        "plain": ModeRow(named, forced=MODES),
        "check and diff": ModeRow({**bundle, "check_mode": True, "diff": True}),
        "defaults of the module": ModeRow({**named, "module_defaults": {INFO: {"kubeconfig": kubeconfig}}}, defaults=False, forced=()),
        "environment of play and task": ModeRow(
            {INFO: given, "environment": {"K8S_AUTH_CONTEXT": "onprem"}},
            defaults=False,
            play={"environment": {"K8S_AUTH_KUBECONFIG": kubeconfig}},
        ),
        "home of the task": ModeRow({INFO: given, "environment": {"HOME": str(rig.directory / "home")}}, defaults=False),
        "tilde": ModeRow({INFO: {**given, "kubeconfig": "~/.kube/config"}, "environment": {"HOME": str(rig.directory / "home")}}, defaults=False),
        "tilde in a list": ModeRow(
            {INFO: given, "environment": {"KUBECONFIG": "/absent:~/config", "HOME": str(rig.directory / "home/.kube")}},
            defaults=False,
        ),
        "nothing names a cluster": ModeRow({INFO: given, "environment": away}, defaults=False, fails=True),
        "a mixture": ModeRow({**named, "environment": {"K8S_AUTH_HOST": "https://h.invalid"}}, fails=True),
        "no_log": ModeRow({**named, "no_log": True}, forced=MODES),
        "a secret option": ModeRow(
            {INFO: {**given, "host": rig.fleet["onprem"].url, "api_key": "secret-api-key", "validate_certs": False}},
            defaults=False,
            fails=True,
        ),
        "vars, omit, a number as text": ModeRow(
            {
                INFO: {
                    **given,
                    "name": "{{ wanted }}",
                    "context": "{{ undefined_thing | default(omit) }}",
                    "wait_timeout": "{{ '9' }}",
                },
                "vars": {"wanted": rig.name},
            }
        ),
        "loop": ModeRow({INFO: {**given, "name": "{{ item }}"}, "loop": [rig.name, "absent"]}),
        "until": ModeRow({**named, "until": "THIS.csrs | length > 5", "retries": 1, "delay": 0}, fails=True),
        "failed_when and changed_when": ModeRow({**named, "failed_when": "THIS.csrs | length == 1", "changed_when": True}, fails=True),
        "ignored failure": ModeRow({INFO: {**given, "context": "absent"}}, fails=True),
        "timeout": ModeRow(
            {
                INFO: {**given, "host": f"http://127.0.0.1:{silent_port}", "api_key": "t" * 8},
                "timeout": seconds,
            },
            defaults=False,
            fails=True,
        ),
        "option and alias": ModeRow({INFO: {**given, "validate_certs": True, "verify_ssl": True}}),
        "unsupported parameter": ModeRow({INFO: {**given, "colour": "blue"}}, fails=True),
        "wrong choice": ModeRow({INFO: {**given, "gather": ["colours"]}}, fails=True),
        "wrong type": ModeRow({INFO: {**given, "wait_timeout": "soon"}}, fails=True),
        "missing parameter": ModeRow({BUNDLE: {"ca_bundle": rig.ca}}, fails=True),
        "unsupported before missing": ModeRow({BUNDLE: {"colour": "blue"}}, fails=True),
        "dictionary": ModeRow({INFO: {**given, "kubeconfig": rig.content}}, defaults=False),
        "dictionary, refused": ModeRow({INFO: {**given, "kubeconfig": rig.content, "colour": "blue"}}, defaults=False, fails=True),
        "files": ModeRow({INFO: {**given, "kubeconfig": "plain"}}, defaults=False, forced=()),
        "encrypted": ModeRow({INFO: {**given, "kubeconfig": "encrypted"}}, defaults=False),
        "local host": ModeRow(named, host="local", forced=()),
        "delegated": ModeRow({**named, "delegate_to": "localhost"}, host="remote", forced=()),
        "delegated to another Python": ModeRow({**named, "delegate_to": "other_python"}, host="remote", auto="module", forced=()),
        "another Python": ModeRow(named, host="other_python", auto="module", forced=()),
        "async": ModeRow({**named, "async": 60, "poll": 1}, auto="module", forced=()),
    }  # fmt: skip


# Rows whose keyword or error takes the way of another row through both modes: `make test` does not run the module for them.
SIMILAR = (
    "home of the task",
    "tilde",
    "a mixture",
    "until",
    "failed_when and changed_when",
    "ignored failure",
    "timeout",
    "unsupported parameter",
    "wrong choice",
    "missing parameter",
    "dictionary",
    "dictionary, refused",
)
# Rows that ask what the first one asks, from elsewhere.
LIKE_PLAIN = (
    "vars, omit, a number as text",
    "local host",
    "delegated",
    "delegated to another Python",
    "another Python",
    "async",
)
# The properties of a row's result, in every mode.
EXPECTED: dict[str, Any] = {
    "plain": lambda rig, result: result["csrs"][0]["subject"] == f"CN={HOSTILE}",
    "check and diff": lambda rig, result: result["changed"] is True and bool(result["diff"]),
    "environment of play and task": lambda rig, result: ("K8S_AUTH_KUBECONFIG" in result["cluster"]["auth_source"]),
    "home of the task": lambda rig, result: "the default" in result["cluster"]["auth_source"],
    "nothing names a cluster": lambda rig, result: has_failed(result, "invalid-connection"),
    "a mixture": lambda rig, result: has_failed(result, "invalid-connection", "K8S_AUTH_HOST"),
    "a secret option": lambda rig, result: "secret-api-key" not in json.dumps(result),
    "loop": lambda rig, result: ([entry["csrs"][0]["condition"] for entry in result["results"]] == ["Pending", "NotFound"]),
    "until": lambda rig, result: result["attempts"] == 1,
    "failed_when and changed_when": lambda rig, result: result["changed"] is True,
    "ignored failure": lambda rig, result: has_failed(result, "invalid-connection", "'absent'"),
    "timeout": lambda rig, result: has_failed(result, "unreachable", "timed"),
    "option and alias": lambda rig, result: ("validate_certs and its alias verify_ssl" in str(result["warnings"])),
    # Ansible's own sentences, which have no code.
    "unsupported parameter": lambda rig, result: (not absent(["(certflow.kubernetes.k8s_csr_info)", "colour."], result["msg"])),
    "wrong choice": lambda rig, result: not absent(["gather", "csrs,"], result["msg"]),
    "wrong type": lambda rig, result: "wait_timeout" in result["msg"],
    "missing parameter": lambda rig, result: result["msg"].endswith(" targets"),
    "unsupported before missing": lambda rig, result: result["msg"].endswith(" targets"),
    "dictionary": lambda rig, result: "(a dictionary)" in result["cluster"]["auth_source"],
    "encrypted": lambda rig, result: "(a dictionary)" in result["cluster"]["auth_source"],
    "files": lambda rig, result: "files/plain" in result["cluster"]["auth_source"],
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row's task."""

    #: The registered result.
    result: dict[str, Any]
    #: The mode that the action named.
    mode: str
    output: str


def run_table(rig: ModesRig, table: dict[str, ModeRow]) -> dict[tuple[str, str], Outcome]:
    """Run all rows in all modes in one playbook. Rows with equal plays share one play."""
    keys = [(name, mode) for name, row in table.items() for mode in (*row.forced, "auto")]
    plays: dict[str, dict[str, Any]] = {}
    for number, (name, mode) in enumerate(keys):
        row = table[name]
        defaults = (
            {"group/certflow.kubernetes.k8s": {"kubeconfig": str(rig.kubeconfig)}} if row.defaults else {}
        )
        shared = {"hosts": row.host, "gather_facts": False, "module_defaults": defaults, **row.play}
        play = plays.setdefault(json.dumps(shared), {**shared, "tasks": []})
        task = json.loads(json.dumps(row.task).replace("THIS", f"r{number}"))
        variables = {MODE_VARIABLE: mode, **task.pop("vars", {})}
        play["tasks"].append(
            {
                "name": f"ROW {number} END",
                **task,
                "vars": variables,
                "register": f"r{number}",
                "ignore_errors": True,
            }
        )
    for number, play in enumerate(plays.values()):
        names = [task["register"] for task in play["tasks"]]
        content = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} | to_json }}"
        save = {"content": content, "dest": str(rig.directory / f"results-{number}.json")}
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        play["tasks"].append({"ansible.builtin.copy": save, "delegate_to": "localhost", "vars": here})
    run = rig.play(list(plays.values()), "-vv")
    assert run.status == 0, run.output
    results: dict[str, Any] = {}
    for path in rig.directory.glob("results-*.json"):
        results.update(json.loads(path.read_text()))
    outcomes = {}
    for number, key in enumerate(keys):
        output = run.output.partition(f"TASK [ROW {number} END]")[2].partition("TASK [")[0]
        found_modes = {found.group(2) for found in LINE.finditer(output)}
        assert len(found_modes) == 1, (key, output)
        outcomes[key] = Outcome(results[f"r{number}"], found_modes.pop(), output)
    return outcomes


@pytest.fixture(scope="module", params=["rows", pytest.param("every row", marks=pytest.mark.full)])
def table(
    rig: ModesRig, request: pytest.FixtureRequest
) -> tuple[dict[str, ModeRow], dict[tuple[str, str], Outcome]]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        is_whole = request.param == "every row"
        # The operation ends 5 s before. A module starts in that time on an idle machine, and in 20 s on a busy one.
        made = rows(rig, silent.getsockname()[1], 60 if is_whole else 10)
        if not is_whole:
            made |= {name: replace(made[name], forced=()) for name in SIMILAR}
        return made, run_table(rig, made)


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in MAY_DIFFER}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def test_every_row_runs_in_its_mode(table: Any) -> None:
    made, outcomes = table
    wanted = {(name, mode): mode for name, row in made.items() for mode in row.forced}
    wanted.update({(name, "auto"): row.auto for name, row in made.items()})
    assert {key: outcome.mode for key, outcome in outcomes.items()} == wanted


def test_results_are_equal(table: Any) -> None:
    made, outcomes = table
    for name, row in made.items():
        results = [comparable(outcomes[name, mode].result) for mode in (*row.forced, "auto")]
        for result in results[1:]:
            assert result == results[0], name
        if name in LIKE_PLAIN:
            plain = comparable(outcomes["plain", "module"].result)
            assert {key: results[0][key] for key in plain} == plain, name
        assert bool(results[0].get("failed")) is row.fails, (name, results[0])


def test_results_say_what_they_must(rig: ModesRig, table: Any) -> None:
    made, outcomes = table
    assert EXPECTED.keys() <= made.keys()
    for (name, mode), outcome in outcomes.items():
        if name in EXPECTED:
            assert EXPECTED[name](rig, outcome.result), (name, mode, outcome.result)
        assert "Traceback" not in outcome.output, (name, mode)


def test_hostile_text_is_never_a_template(table: Any) -> None:
    _made, outcomes = table
    for (name, mode), outcome in outcomes.items():
        assert EVALUATED not in f"{outcome.result}{outcome.output}", (name, mode)


def test_no_log_hides_the_result(table: Any) -> None:
    _made, outcomes = table
    for mode in (*MODES, "auto"):
        assert "csrs" not in outcomes["no_log", mode].output
        assert "csrs" in outcomes["no_log", mode].result


def play_of(task: dict[str, Any], **keywords: Any) -> list[dict[str, Any]]:
    return [{"hosts": "localhost", "gather_facts": False, "tasks": [task], **keywords}]


def modes(run: playbook.PlaybookRun) -> list[tuple[str, str]]:
    """Return the mode and the reason of each task, in their order."""
    return [(found.group(2), found.group(3)) for found in LINE.finditer(run.output)]


def test_obstacles(rig: ModesRig) -> None:
    """What else leads to the module, and that a forced mode never gives way silently. No task here can succeed."""
    info = {INFO: {"kubeconfig": "/absent"}, "ignore_errors": True}
    tasks = [
        {**info, "become": True, "become_method": "ansible.builtin.su", "become_exe": "/bin/false"},
        {**info, "delegate_to": "unset_python"},
        {**info, "delegate_to": "remote", "vars": {"ansible_ssh_executable": "/bin/false"}, "ignore_unreachable": True},
        {**info, "delegate_to": "other_python", "vars": {MODE_VARIABLE: "in_process"}},
        {**info, "vars": {MODE_VARIABLE: "sideways"}},
    ]  # fmt: skip
    run = rig.play([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}], "-vv")
    became, unset, remote = modes(run)
    assert became == ("module", "become is on")
    assert unset[0] == "module"
    assert unset[1].startswith("ansible_python_interpreter is not set, Ansible runs under ")
    assert remote == ("module", "connection is ssh")
    assert not absent(["in_process,", "'sideways'."], run.output)


def test_action_group_reaches_kubernetes_core(rig: ModesRig) -> None:
    """One group's defaults set the connection for both collections."""
    defaults = {"group/certflow.kubernetes.k8s": {"kubeconfig": str(rig.kubeconfig), "context": "onprem"}}
    tasks = [
        {"kubernetes.core.k8s_info": {"api_version": "v1"}, "register": "theirs"},
        {INFO: {"name": rig.name}},
        {"ansible.builtin.assert": {"that": [f"theirs.given.kubeconfig == '{rig.kubeconfig}'"]}},
    ]
    run = rig.play(
        [{"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}]
    )
    assert run.status == 0, run.output


def test_no_secret_is_ever_printed(rig: ModesRig) -> None:
    """A kubeconfig as a dictionary, in both modes, good, failing and refused, at the highest verbosity."""
    token = "a-token-that-must-stay-hidden"
    bearer = {**rig.content, "users": [{"name": "onprem", "user": {"token": token}}]}
    given = {"name": rig.name, "kubeconfig": "{{ content }}"}
    texts = [{"content": rig.content}, {"content": bearer}]
    tasks = [
        {INFO: {**given, **more}, "vars": {MODE_VARIABLE: mode, **text}, "ignore_errors": True}
        for mode in MODES
        for text in texts
        for more in ({}, {"colour": "blue"})
    ]
    tasks.append({INFO: {**given, "kubeconfig": "encrypted"}, "vars": {MODE_VARIABLE: "module"}})
    broken = VaultLib([(DEFAULT_VAULT_ID_MATCH, VaultSecret(VAULT_PASSWORD.encode()))])
    text = f"users: [{{token: {token}\n"
    (rig.directory / "files" / "broken").write_bytes(broken.encrypt(text, secret=broken.secrets[0][1]))
    tasks.append({INFO: {"kubeconfig": "broken"}, "ignore_errors": True})
    run = rig.play([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}], "-vvvv")
    assert run.status == 0, run.output
    assert {mode for mode, _reason in modes(run)} == set(MODES)
    user = rig.content["users"][0]["user"]
    key = base64.b64decode(user["client-key-data"]).decode()
    for secret in (token, user["client-key-data"], *key.splitlines()[1:-1], "PRIVATE KEY"):
        assert secret not in run.output
    assert run.output.count("authentication-failed") >= 2
    assert run.output.count("colour.") >= 4


@contextlib.contextmanager
def processes() -> Iterator[set[bytes]]:
    """Arguments and environment of every process that is seen while the block runs."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for place in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        seen.add((place / name).read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def forms_of(encoded: str) -> list[bytes]:
    """The ways in which a private key, given as a Secret holds it, might be shown: any part of its PEM text or of that."""
    lines = base64.b64decode(encoded).splitlines()[1:-1]
    return [*lines, encoded[40:100].encode()]


def test_a_new_private_key_is_seen_nowhere(rig: ModesRig) -> None:
    """At the highest verbosity, with a difference shown, and with the files of the ordinary module kept."""
    directory = rig.directory / "kept"
    directory.mkdir()
    csr = {"kubeconfig": str(rig.kubeconfig), "service": rig.name, "namespace": "default"}
    signers = {"signed": "kubernetes.io/kubelet-serving", "own": "ephemeral-ca"}
    tasks: list[dict[str, Any]] = [
        {
            "certflow.kubernetes.k8s_csr": {
                **csr,
                "signer_name": signer,
                "secret": {"name": f"{rig.name}-{name}-{mode.replace('_', '-')}"},
            },
            "vars": {MODE_VARIABLE: mode},
        }
        for mode in MODES
        for name, signer in signers.items()
    ]
    places = dict.fromkeys(("TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"), str(directory))
    kept = {**places, "ANSIBLE_KEEP_REMOTE_FILES": "true", "ANSIBLE_PIPELINING": "false"}
    with processes() as seen:
        run = rig.play(
            [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}], "-vvvv", "--diff", **kept
        )
    assert (run.status, run.recap("changed")) == (0, len(tasks)), run.output
    assert sorted(mode for mode, _reason in modes(run)) == sorted([*MODES] * 2)
    files = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    assert files, "the ordinary module leaves its files"
    assert any(b"ansible-playbook" in text for text in seen)
    shown = [run.output.encode(), *seen, *files]
    for task in tasks:
        path = f"/api/v1/namespaces/default/secrets/{task['certflow.kubernetes.k8s_csr']['secret']['name']}"
        key = rig.fleet["onprem"].api("GET", path)["data"]["tls.key"]
        rig.fleet["onprem"].api("DELETE", path)
        assert [form for form in forms_of(key) for text in shown if form in text] == []


def test_a_decrypted_kubeconfig_is_in_no_file(rig: ModesRig) -> None:
    """The ordinary module gets it by a pipe, although Ansible is set to write modules into files."""
    directory = rig.directory / "unpiped"
    directory.mkdir()
    kept = dict.fromkeys(("TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"), str(directory))
    task = {INFO: {"name": rig.name, "kubeconfig": "encrypted"}, "vars": {MODE_VARIABLE: "module"}}
    run = rig.play(play_of(task), "-vvv", ANSIBLE_PIPELINING="false", **kept)
    assert run.status == 0, run.output
    assert " PUT " not in run.output


def test_nothing_is_left_on_disk(rig: ModesRig) -> None:
    """Twenty hosts, ten forks: forks end without clean-up on Python before 3.13, so nothing may need any."""
    empty = rig.directory / "tmp"
    empty.mkdir()
    names = [f"host{number}" for number in range(20)]
    hosts = {"hosts": ",".join(names), "gather_facts": False, "connection": "local", "strategy": "free"}
    variables = {"ansible_python_interpreter": "{{ ansible_playbook_python }}", MODE_VARIABLE: "in_process"}
    sources = [str(rig.kubeconfig), rig.content]
    tasks = [{INFO: {"kubeconfig": source, "name": rig.name}} for source in sources]
    inventory = rig.directory / "many.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(names), "vars": variables}}))
    run = rig.play([{**hosts, "tasks": tasks}], "-vv", "-f", "10", "-i", str(inventory), TMPDIR=str(empty))
    assert run.status == 0, run.output
    assert run.recap("ok") == 40
    assert [mode for mode, _reason in modes(run)] == ["in_process"] * 40
    assert list(empty.iterdir()) == []


# Imports what Ansible's parent process imports, forks, and says what the fork imported on top.
IN_A_FORK = """
import importlib, json, os, sys
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute

room = "ansible_collections.certflow.kubernetes.plugins.module_utils."
operations = {name: importlib.import_module(f"{room}_operations.{name}").OPERATION for name in sys.argv[1:]}
for name, arguments in json.load(sys.stdin):
    reader, writer = os.pipe()
    if os.fork() == 0:
        operation = operations[name]
        parameters = ArgumentSpecValidator(dict(operation.argument_spec)).validate(arguments).validated_parameters
        before = set(sys.modules)
        result = execute(operation, parameters, check_mode=False)
        told = {"name": name, "failed": result.get("msg"), "changed": result["changed"], "new": sorted(set(sys.modules) - before)}
        os.write(writer, json.dumps(told).encode() + b"\\n")
        os._exit(0)
    os.wait()
    sys.stdout.write(os.read(reader, 65536).decode())
    sys.stdout.flush()
"""


def test_an_operation_in_a_fork_imports_nothing(rig: ModesRig) -> None:
    """Each fork would import it again, which takes a third of a second for each host."""
    target = {"kind": "ValidatingWebhookConfiguration", "name": rig.name}
    where = {"kubeconfig": str(rig.kubeconfig)}
    plugin = rig.directory / "plugin"
    user = rig.content["users"][0]["user"]
    status = {
        "clientCertificateData": base64.b64decode(user["client-certificate-data"]).decode(),
        "clientKeyData": base64.b64decode(user["client-key-data"]).decode(),
    }
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(0o700)
    entry = {"exec": {"apiVersion": answer["apiVersion"], "command": str(plugin)}}
    by_plugin = {**rig.content, "users": [{"name": "onprem", "user": entry}]}
    csr: dict[str, Any] = {
        "service": rig.name,
        "namespace": "default",
        "secret": {"name": rig.name},
        "signer_name": "kubernetes.io/kubelet-serving",
        "targets": [target],
    }
    absent, no_service = "no context named 'absent'", f"no Service default/{rig.name}"
    own_ca = {**csr, "signer_name": "ephemeral-ca"}
    asked = {"target": target, "object": {"apiVersion": "v1", "kind": "Namespace"}}
    # (operation, arguments, whether it changes something, words of its failure)
    calls: list[tuple[str, dict[str, Any], bool, str]] = [
        ("k8s_csr_info", where, False, ""),
        ("k8s_csr_info", {"kubeconfig": by_plugin}, False, ""),
        ("k8s_csr", {**where, **csr}, True, ""),
        ("k8s_csr", {**where, **csr}, False, ""),
        ("webhook_cabundle", {**where, "ca_bundle": rig.ca, "targets": [target]}, True, ""),
        ("k8s_csr_approve", {**where, "name": rig.name, "decision": "deny"}, True, ""),
        ("k8s_csr", {**where, **csr, "state": "absent"}, True, ""),
        ("k8s_csr", {**where, **own_ca}, True, ""),
        ("webhook_probe", {**where, **asked}, False, no_service),
        ("k8s_csr", {**where, **own_ca, "state": "absent"}, True, ""),
        ("k8s_signer_probe", {**where, "signers": [csr["signer_name"]]}, False, ""),
        ("snapshot_controller_info", {**where, "version": "8.7.0"}, False, ""),
        ("snapshot_controller", {**where, "version": "8.7.0", "state": "verified"}, False, "snapshot controller"),
        ("audit_info", where, False, ""),
        ("webhook_repair", where, False, ""),
        ("k8s_csr_info", {**where, "context": "absent"}, False, absent),
    ]  # fmt: skip
    assert {name for name, *_rest in calls} == set(OPERATIONS)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FORK, *OPERATIONS],
        input=json.dumps([call[:2] for call in calls]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["new"] for line in told] == [[]] * len(calls)
    for line, (_name, _arguments, changes, words) in zip(told, calls, strict=True):
        assert (bool(line["failed"]), line["changed"]) == (bool(words), changes), line
        assert words in (line["failed"] or ""), line


PROBE = "certflow.kubernetes.k8s_signer_probe"


CSR = "certflow.kubernetes.k8s_csr"


@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_leaves_nothing(rig: ModesRig, mode: str) -> None:
    """A probe is interrupted in the middle of its wait: what it sent is deleted before its process ends."""
    options = {"signers": ["example.com/nobody"], "kubeconfig": str(rig.kubeconfig), "probe_seconds": 100}
    interrupted(rig, mode, {PROBE: options}, probes)


@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_releases_the_lease(rig: ModesRig, mode: str) -> None:
    """The next run would wait for it. The run is interrupted while it waits for a signer that never issues."""
    wanted = {"service": "waits", "namespace": "default", "secret": {"name": "waits-tls"}}
    options = {**wanted, "signer_name": "example.com/nobody", "wait_timeout": 100}
    interrupted(rig, mode, {CSR: {**options, "kubeconfig": str(rig.kubeconfig)}}, leases)
    onprem = rig.fleet["onprem"]
    for csr in onprem.api("GET", REQUESTS)["items"]:
        if csr["metadata"]["name"].startswith("certflow-waits-"):
            onprem.api("DELETE", f"{REQUESTS}/{csr['metadata']['name']}")


def interrupted(
    rig: ModesRig, mode: str, task: dict[str, Any], left: Callable[[ModesRig], list[str]]
) -> None:
    """Interrupt a task as Ctrl-C does, once it has made something, and see that it leaves nothing of that."""
    (rig.directory / "interrupted.yml").write_text(yaml.safe_dump(play_of(task, vars={MODE_VARIABLE: mode})))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    process = subprocess.Popen(
        [program, "interrupted.yml"],
        cwd=rig.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # as a terminal: the signal goes to all of its processes
    )
    try:
        wait_for(lambda: left(rig) or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode, output
    wait_for(lambda: not left(rig))


def leases(rig: ModesRig) -> list[str]:
    """Return the Lease of the Service ``waits``."""
    listed = rig.fleet["onprem"].api("GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases")
    return [name for item in listed["items"] if (name := item["metadata"]["name"]) == "certflow-waits"]


def probes(rig: ModesRig) -> list[str]:
    labels = "labelSelector=certflow.kubernetes/signer-probe"
    listed = rig.fleet["onprem"].api("GET", f"{REQUESTS}?{labels}")["items"]
    return [csr["metadata"]["name"] for csr in listed]
