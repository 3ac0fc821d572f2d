# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that no secret of the user is in anything that a playbook shows or leaves.

The test covers every module, both execution modes and every callback. All secrets come from ansible-vault. It
checks the output at -vvvv with differences, the files of callbacks and the log, registered results, temporary
directories during the play and after it, arguments and environment of all processes, the audit log, and
objects in the API server other than Secrets.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys

from tests.support.certificates.csr_rig import CsrRig
from tests.support.certificates.key_leaks import leaks, unknown_pem
from tests.support.clusters import AdminApiError
from tests.system.execution.test_execution_modes import (
    INFO,
    LINE,
    MODE_VARIABLE,
    MODES,
    OPERATIONS,
    VAULT_PASSWORD,
    ModesRig,
    processes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet
    from tests.support.playbooks import playbook

COLLECTION = "certflow.kubernetes"
ROLE = f"{COLLECTION}.webhook_certificate"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
# Callbacks of ansible-core that write the output. Callbacks that write files are enabled with each of them.
STDOUT = ("default", "minimal", "oneline")
# A callback that writes complete results into files of its own, as callbacks for JSON do.
JSON_CALLBACK = """
import json, os, uuid
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "everything"

    def v2_runner_on_ok(self, result, **options):
        found = result.result if hasattr(result, "result") else result._result
        with open(os.path.join(os.environ["EVERYTHING"], uuid.uuid4().hex), "w") as file:
            json.dump(found, file, default=str)

    v2_runner_on_failed = v2_runner_item_on_ok = v2_runner_item_on_failed = v2_runner_on_ok
"""
REFUSED = "Ansible would write the secret in kubeconfig to a file without encryption"


@dataclass
class Secrets:
    """The secrets of a user: a kubeconfig with a client key, a token and a password."""

    #: The kubeconfig with its client key.
    content: dict[str, Any]
    token: str
    password: str = field(default_factory=lambda: f"a-password-{uuid.uuid4().hex}")

    @property
    def key(self) -> str:
        """The client key as the kubeconfig has it."""
        return str(self.content["users"][0]["user"]["client-key-data"])

    @property
    def bearer(self) -> dict[str, Any]:
        """Return a token that no API server issued."""
        return {**self.content, "users": [{"name": "onprem", "user": {"token": self.password}}]}

    @property
    def texts(self) -> list[str]:
        return [self.token, self.password, VAULT_PASSWORD]


class SecretsRig(ModesRig):
    """The rig of the tests of execution modes, with its secrets in vaults."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        super().__init__(fleet, directory)
        token = yaml.safe_load(fleet["onprem"].token_kubeconfig(self.name).read_text())["users"][0]["user"]
        self.secrets = Secrets(self.content, token["token"])
        password = VaultSecret(VAULT_PASSWORD.encode())
        vault = VaultLib([(DEFAULT_VAULT_ID_MATCH, password)])

        def encrypted(text: str) -> str:
            return str(vault.encrypt(text, secret=password).decode())

        held = {"token": self.secrets.token, "password": self.secrets.password}
        self._put("whole.yml", encrypted(yaml.safe_dump({**held, "bearer": self.secrets.bearer})))
        self._put("text.yml", f"text: {_tagged(encrypted(yaml.safe_dump(self.content)))}")
        leaf = json.dumps({"leaf": self.content})
        key = _tagged(encrypted(self.secrets.key))
        self._put("leaf.yml", leaf.replace(f'"{self.secrets.key}"', key))
        plugins = directory / "callbacks"
        plugins.mkdir()
        (plugins / "everything.py").write_text(JSON_CALLBACK)

    @property
    def vaults(self) -> dict[str, Any]:
        """Keywords of a play that reads the vaults."""
        files = [str(self.directory / name) for name in ("whole.yml", "text.yml", "leaf.yml")]
        return {"hosts": "localhost", "gather_facts": False, "vars_files": files}

    def _put(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def new_keys(self) -> list[str]:
        """Return the private keys that the plays stored, as Secrets contain them."""
        found = self.fleet["onprem"].api("GET", "/api/v1/namespaces/default/secrets")["items"]
        own = [secret for secret in found if secret["metadata"]["name"].startswith(self.name)]
        return [secret["data"]["tls.key"] for secret in own]

    def close(self) -> None:
        onprem, secrets = self.fleet["onprem"], "/api/v1/namespaces/default/secrets"
        for secret in onprem.api("GET", secrets)["items"]:
            if secret["metadata"]["name"].startswith(self.name):
                onprem.api("DELETE", f"{secrets}/{secret['metadata']['name']}")
        onprem.api("DELETE", f"/api/v1/namespaces/default/serviceaccounts/{self.name}")
        super().close()


def _tagged(encrypted: str) -> str:
    """Return a value of a variables file."""
    return f'!vault "{encrypted}"'.replace("\n", "\\n")


@pytest.fixture(scope="module")
def rig(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretsRig]:
    with contextlib.closing(SecretsRig(fleet, tmp_path_factory.mktemp("secrets"))) as rig:
        yield rig


# The tasks


@dataclass(frozen=True)
class SecretRow:
    """A module with its options."""

    module: str
    options: dict[str, Any]
    #: Code of its failure, or a name in the message. Empty if it must succeed.
    fails: str = ""
    #: True if make test runs it as an ordinary module too: each way in which a secret comes to a module, and each kind of end.
    is_daily: bool = False


def rows(rig: SecretsRig, mode: str) -> list[SecretRow]:
    """Return tasks for what each module does and how it fails."""
    cluster, name = rig.fleet["onprem"], f"{rig.name}-{mode.replace('_', '-')}"
    target = {"kind": "ValidatingWebhookConfiguration", "name": rig.name}
    base = {"service": rig.name, "namespace": "default", "signer_name": KUBELET_SERVING}
    csr = {**base, "secret": {"name": name}, "targets": [target], "wait": False}
    own_ca = {"signer_name": "ephemeral-ca", "key_type": "rsa-2048", "renew_before": "1000d"}
    two = {**base, "secret": {"name": f"{name}-two"}, "approve": False}
    host = {"kubeconfig": None, "host": cluster.url, "validate_certs": False}
    unknown_signer = {
        **base,
        "secret": {"name": f"{name}-x"},
        "signer_name": "example.com/nobody",
        "wait_timeout": 1,
    }
    proxy = {"proxy": "http://ada:{{ password }}@127.0.0.1:1", "wait_timeout": 1}
    asked = {"target": target, "wait_timeout": 1, "object": {"apiVersion": "v1", "kind": "Namespace"}}
    # No cluster of this test has a controller, and no release is downloaded here.
    verified = {"version": "8.7.0", "state": "verified"}
    unreachable = {
        "version": "8.7.0",
        "source": "http://ada:{{ password }}@127.0.0.1:1",
        "cache_directory": str(rig.directory / "no-releases"),
        "wait_timeout": 800,
    }
    mirror = {"token": "{{ token }}", "headers": {"X-Key": "{{ password }}"}}
    mirrored = {**unreachable, "source": "https://127.0.0.1:1/a.zip", "source_auth": mirror}
    bundle = {"ca_bundle": rig.ca, "targets": [target], "kubeconfig": "{{ leaf }}"}
    whole = {"kubeconfig": "{{ text | from_yaml }}"}
    return [
        SecretRow("k8s_csr", csr, is_daily=True),
        SecretRow("k8s_csr", {**csr, **own_ca, "kubeconfig": "{{ leaf }}"}, is_daily=True),
        SecretRow("k8s_csr", {**two, "wait": False}),
        SecretRow("k8s_csr_approve", {**whole, "name": "{{ r2.csr.name }}", "expect": base}),
        SecretRow("k8s_csr", two),
        SecretRow("k8s_csr_info", {**whole, "gather": ["csrs", "provider", "signer"]}),
        SecretRow("k8s_csr_info", {**host, "api_key": "{{ token }}"}, "missing-permissions", is_daily=True),
        SecretRow("k8s_csr_info", {"kubeconfig": "{{ bearer }}"}, "authentication-failed"),
        SecretRow("k8s_csr_info", {"kubeconfig": "{{ bearer }}", "colour": "blue"}, "colour", is_daily=True),
        SecretRow("k8s_csr_info", proxy, "unreachable"),
        SecretRow("k8s_csr", {**csr, "secret": {"name": name, "type": "Opaque"}}, "secret-unusable"),
        SecretRow("k8s_csr", unknown_signer, "not-issued"),
        SecretRow("k8s_signer_probe", {"signers": [KUBELET_SERVING]}),
        SecretRow("audit_info", {**whole, "without": ["port-forward"]}),
        SecretRow("webhook_repair", {**whole, "kinds": ["secure-apiservice"]}),
        SecretRow("webhook_cabundle", bundle),
        SecretRow("webhook_probe", asked, "webhook-unproven"),
        SecretRow("snapshot_controller_info", {**whole, "version": "8.7.0"}, is_daily=True),
        SecretRow("snapshot_controller", {**verified, "kubeconfig": "{{ leaf }}"}, "verification-failed"),
        SecretRow("snapshot_controller", unreachable, "preflight-failed"),
        SecretRow("snapshot_controller", mirrored, "preflight-failed"),
        SecretRow("snapshot_controller", {**verified, "source_auth": {"tokn": "{{ token }}"}}, "source_auth", is_daily=True),
        SecretRow("k8s_csr", {**two, "state": "absent"}),
    ]  # fmt: skip


def play(rig: SecretsRig, mode: str, chosen: list[SecretRow]) -> dict[str, Any]:
    """Return a play with the first row in check mode, all rows, and the role.

    It writes the results to a file.
    """
    tasks: list[dict[str, Any]] = [
        {
            f"{COLLECTION}.{row.module}": {"kubeconfig": "encrypted", **row.options},
            "register": f"r{number}",
            "ignore_errors": True,
        }
        for number, row in enumerate(chosen)
    ]
    role = {
        "webhook_certificate_kubeconfig": "{{ leaf }}",
        "webhook_certificate_service": rig.name,
        "webhook_certificate_namespace": "default",
        "webhook_certificate_secret": {"name": f"{rig.name}-{mode.replace('_', '-')}-role"},
    }
    results = ", ".join(f"r{number}" for number in range(len(chosen)))
    dump = {"content": f"{{{{ [{results}] | to_json }}}}", "dest": "{{ reports }}/results"}
    tasks = [
        {**tasks[0], "check_mode": True},
        *tasks,
        {"ansible.builtin.include_role": {"name": ROLE}, "vars": role},
        {"ansible.builtin.copy": dump},
    ]
    return {**rig.vaults, "vars": {MODE_VARIABLE: mode}, "tasks": tasks}


# The checked places


@contextlib.contextmanager
def contents(place: Path) -> Iterator[set[bytes]]:
    """Collect the content of the files below a directory while the block runs, and after it."""
    seen: set[bytes] = set()
    known: set[tuple[str, int, int]] = set()
    over = threading.Event()

    def look() -> None:
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                state = path.stat()
                mark = (str(path), state.st_mtime_ns, state.st_size)
                if mark not in known and path.is_file():
                    seen.add(path.read_bytes())
                    known.add(mark)

    def keep_looking() -> None:
        while not over.wait(0.02):
            look()
        look()

    watcher = threading.Thread(target=keep_looking)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@dataclass(frozen=True)
class SeenRun:
    """A run and everything that could be seen of it."""

    run: playbook.PlaybookRun
    #: Place -> its content.
    places: dict[str, bytes]
    #: Results of the tasks, as the play wrote them.
    results: list[dict[str, Any]]

    def hits(self, probes: dict[str, list[bytes]]) -> list[tuple[str, str, str]]:
        """Return place, secret and the beginning of the form of each secret that was found."""
        return [
            (place, name, probe[:12].decode())
            for place, text in self.places.items()
            for name, forms in probes.items()
            for probe in forms
            if probe in text
        ]


def look_at(rig: SecretsRig, name: str, plays: list[dict[str, Any]], **settings: str) -> SeenRun:
    """Run plays with every option that shows or writes more."""
    temporary, reports = rig.directory / f"{name}-tmp", rig.directory / f"{name}-reports"
    for place in (temporary, reports):
        place.mkdir()
    environment = {
        **dict.fromkeys(("TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"), str(temporary)),
        **dict.fromkeys(("JUNIT_OUTPUT_DIR", "EVERYTHING"), str(reports)),
        "ANSIBLE_ASYNC_DIR": str(temporary),
        "ANSIBLE_LOG_PATH": str(reports / "log"),
        "ANSIBLE_CALLBACK_PLUGINS": str(rig.directory / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "junit,everything",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true",
        "ANSIBLE_PIPELINING": "false",
        **settings,
    }
    arguments = ("-vvvv", "--diff", "-e", json.dumps({"reports": str(reports)}))
    with processes() as told, contents(temporary) as files:
        run = rig.play(plays, *arguments, **environment)
    written = [path.read_bytes() for path in reports.rglob("*") if path.is_file()]
    onprem = rig.fleet["onprem"]
    onprem.requests()  # afterwards the audit log is complete
    kinds = (
        "/api/v1/events",
        "/api/v1/configmaps",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    )
    objects = "".join(json.dumps(onprem.api("GET", path)) for path in kinds)
    places = {
        "output": run.output.encode(),
        "reports": b"\n".join(written),
        "temporary files": b"\n".join(files),
        "processes": b"\n".join(told),
        "audit log": onprem.audit_log.read_bytes(),
        "objects": objects.encode(),
    }
    results = reports / "results"
    return SeenRun(run, places, json.loads(results.read_text()) if results.exists() else [])


def probes(rig: SecretsRig) -> dict[str, list[bytes]]:
    """Return the forms of each secret to look for."""
    texts = {f"text {number}": forms(text.encode()) for number, text in enumerate(rig.secrets.texts)}
    keys = {f"key {number}": key_forms(key) for number, key in enumerate([rig.secrets.key, *rig.new_keys()])}
    return {**texts, **keys}


def key_forms(encoded: str) -> list[bytes]:
    """Return the forms of a private key, which Secrets and kubeconfigs contain in Base64, including single
    lines.
    """
    pem = base64.b64decode(encoded)
    lines = pem.splitlines()[1:-1]
    der = base64.b64decode(b"".join(lines))
    middle = len(der) // 2
    return [
        *lines[:6],
        encoded[104:164].encode(),  # what is before it is the same in each key of P-256
        *encodings(pem),
        *encodings(der[middle - 16 : middle + 16])[3:],
    ]


def forms(secret: bytes) -> list[bytes]:
    return [secret, *encodings(secret)]


def encodings(raw: bytes) -> list[bytes]:
    """Return Base64 from any offset in both alphabets, Base64 of that, and hexadecimal."""
    found = []
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + raw)[4:-4]
        found += [_core(text), _core(text.translate(bytes.maketrans(b"+/", b"-_")))]
    twice = base64.b64encode(base64.b64encode(raw))
    return [*found, _core(twice), _core(raw.hex().encode()), _core(raw.hex().upper().encode())]


def _core(text: bytes, length: int = 40) -> bytes:
    begin = max(0, (len(text) - length) // 2)
    return text[begin : begin + length]


# The tests


CALLBACKS = [STDOUT[0], *(pytest.param(name, marks=pytest.mark.full) for name in STDOUT[1:])]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_no_place_contains_a_secret(rig: SecretsRig, callback: str, mode: str) -> None:
    every_row = callback != STDOUT[0] or mode == "in_process"
    chosen = [row for row in rows(rig, mode) if row.is_daily or every_row]
    seen = look_at(rig, f"{callback}-{mode}", [play(rig, mode, chosen)], ANSIBLE_STDOUT_CALLBACK=callback)
    assert seen.run.status == 0, seen.run.output[-3000:]
    for row, result in zip(chosen, seen.results, strict=True):
        assert bool(result.get("failed")) is bool(row.fails), (row, result)
        assert row.fails in f"{result.get('code')} {result.get('msg')}", (row, result)
    told = {(found.group(1), found.group(2)) for found in LINE.finditer(seen.run.output)}
    assert told == {(row.module, mode) for row in chosen}
    assert all(seen.places.values())
    for place in ("output", "reports", "objects"):
        assert b"PRIVATE KEY" not in seen.places[place], place
    assert seen.hits(probes(rig)) == []


# How a policy quotes a key. "KEY" is the value in the data of the Secret. The language of policies (CEL) does not decode base64.
QUOTES = {
    "end": "KEY.substring(37)",
    "middle": "KEY.substring(61, 180)",
    "start": "KEY.substring(0, 120)",
    "word": "KEY.substring(61, 125) + ' then ' + KEY.substring(125, 189)",
    "part": "KEY.substring(97, 121) + ' then ' + KEY.substring(125, 149)",
    "url": "KEY.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')",
    "safe": "KEY.replace('+', '-').replace('/', '_')",
}
OBJECT = "object.data['tls.key']"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"


def quoted(key: str) -> str:
    """Return an expression that quotes the key as the label of the Secret says."""
    *most, last = [expression.replace("KEY", key) for expression in QUOTES.values()]
    chosen = (
        f"object.metadata.labels['quote'] == '{name}' ? {text}"
        for name, text in zip(QUOTES, most, strict=False)
    )
    return " : ".join((*chosen, last))


@contextlib.contextmanager
def quoting_policies(cluster: Cluster, namespace: str, name: str) -> Iterator[None]:
    """Refuse a new key, or warn of it, as the label "action" says. The message quotes the key, and the one that it replaces."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["secrets"],
    }
    old = OBJECT.replace("object", "oldObject")
    is_new = f"'tls.key' in object.data && size({OBJECT}) > 40 && (oldObject == null || {OBJECT} != {old})"
    message = f"'quoted: ' + ({quoted(OBJECT)}) + (oldObject == null ? '' : ' replaces ' + ({quoted(old)}))"
    names = {action: f"{name}-{action.lower()}" for action in ("Warn", "Deny")}
    for action, policy in names.items():
        condition = f"has(object.metadata.labels) && 'action' in object.metadata.labels && object.metadata.labels['action'] == '{action}'"
        spec: dict[str, Any] = {
            "matchConstraints": {
                "resourceRules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            },
            "matchConditions": [{"name": "labelled", "expression": condition}],
            "validations": [{"expression": f"!({is_new})", "messageExpression": message}],
        }
        cluster.api("POST", f"{POLICIES}ies", {"metadata": {"name": policy}, "spec": spec})
        binding = {"policyName": policy, "validationActions": [action]}
        cluster.api("POST", f"{POLICIES}ybindings", {"metadata": {"name": policy}, "spec": binding})
    try:
        _wait_until_quoted(cluster, namespace)
        yield
    finally:
        for policy in names.values():
            cluster.api("DELETE", f"{POLICIES}ybindings/{policy}")
            cluster.api("DELETE", f"{POLICIES}ies/{policy}")


def _wait_until_quoted(cluster: Cluster, namespace: str) -> None:
    """Wait until the API server enforces the policies, and check that they quote a key in each form."""
    value = base64.b64encode(private_keys.to_pem(private_keys.generate("ecdsa-p256")).encode()).decode()
    path, until = f"/api/v1/namespaces/{namespace}/secrets?dryRun=All", time.monotonic() + 60
    for name in QUOTES:
        labels = {"action": "Deny", "quote": name}
        body = {"metadata": {"generateName": "tried-", "labels": labels}, "data": {"tls.key": value}}
        while True:
            try:
                cluster.api("POST", path, body)
            except AdminApiError as error:
                assert leaks(str(error), base64.b64decode(value).decode()), (name, str(error))
                break
            assert time.monotonic() < until, "the policy is not enforced"
            time.sleep(0.2)
    time.sleep(1)  # the other policy is enforced at nearly the same time


def test_each_module_has_a_row(rig: SecretsRig) -> None:
    assert {row.module for row in rows(rig, "in_process")} == set(OPERATIONS)


@pytest.mark.parametrize("how", ["kept", "async"])
def test_a_secret_that_ansible_would_write_to_a_file_is_refused(rig: SecretsRig, how: str) -> None:
    """Ansible writes a module's arguments to a file in these modes.

    A path is not secret, so it is accepted.
    """
    keep = {"ANSIBLE_KEEP_REMOTE_FILES": "true"} if how == "kept" else {}
    wait = {"async": 60, "poll": 1} if how == "async" else {}
    task = {"vars": {MODE_VARIABLE: "module"}, "ignore_errors": True, **wait}
    sources = ("encrypted", "{{ text | from_yaml }}", "{{ leaf }}", str(rig.kubeconfig))
    tasks = [{INFO: {"kubeconfig": source, "name": rig.name}, **task} for source in sources]
    seen = look_at(rig, how, [{**rig.vaults, "tasks": tasks}], **keep)
    assert seen.run.status == 0, seen.run.output[-3000:]
    assert seen.places["output"].count(REFUSED.encode()) >= 3
    assert seen.run.recap("ok") == len(sources)
    assert seen.run.recap("ignored") == 3
    assert seen.hits(probes(rig)) == []
    assert seen.places["temporary files"], "the last task leaves its module"


def test_no_other_key_has_a_form_that_is_searched() -> None:
    """Processes of other tests have keys too."""
    pems = [private_keys.to_pem(private_keys.generate("ecdsa-p256")) for _key in range(2)]
    searched = [set(key_forms(base64.b64encode(pem.encode()).decode())) for pem in pems]
    assert not searched[0] & searched[1]


def test_the_search_finds_every_form() -> None:
    """A search that finds nothing would prove nothing."""
    secret = b"a-secret-that-is-long-enough-to-be-found-in-any-form"
    for text in (
        secret,
        base64.b64encode(b"x" + secret),
        base64.b64encode(b"{'" + secret + b"'}"),
        secret.hex().encode(),
    ):
        assert any(probe in text for probe in forms(secret)), text


# These tests are the last ones, because the audit log of the API server keeps what a policy quotes.


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=[] if mode == "in_process" else [pytest.mark.full]) for mode in MODES]
)
def test_a_policy_that_quotes_a_key_shows_none_of_it(rig: SecretsRig, mode: str) -> None:
    """The key that is stored, the key that it replaces, and the key that is refused."""
    base = {
        "service": rig.name,
        "namespace": "default",
        "signer_name": "ephemeral-ca",
        "kubeconfig": str(rig.kubeconfig),
    }

    def task(quote: str, action: str, **options: Any) -> dict[str, Any]:
        labels = {"quote": quote, "action": action}
        secret = {"name": f"{rig.name}-q-{mode.replace('_', '-')}-{quote}", "labels": labels}
        return {
            f"{COLLECTION}.k8s_csr": {**base, "secret": secret, **options},
            "ignore_errors": action == "Deny",
        }

    chosen = list(QUOTES)[
        :: 1 if mode == "in_process" else 4
    ]  # an ordinary module needs a second for each task
    tasks = [
        entry
        for quote in chosen
        for entry in (
            task(quote, "Warn"),
            task(quote, "Deny", key_type="ecdsa-p384"),
        )
    ]
    plays = [{"hosts": "localhost", "gather_facts": False, "vars": {MODE_VARIABLE: mode}, "tasks": tasks}]
    with quoting_policies(rig.fleet["onprem"], "default", f"{rig.name}-{mode.replace('_', '-')}"):
        seen = look_at(rig, f"quotes-{mode}", plays)
    assert (seen.run.status, seen.run.recap("ignored")) == (0, len(chosen)), seen.run.output[-3000:]
    assert seen.places["output"].count(b"quoted:") >= 2 * len(chosen)
    keys = [base64.b64decode(key).decode() for key in rig.new_keys()]
    assert len(keys) >= len(chosen)
    for place in ("output", "reports", "objects", "processes"):
        text = seen.places[place].decode("utf-8", "replace")
        assert [leaks(text, key) for key in keys] == [[]] * len(keys), place


@pytest.mark.parametrize("action", ["Warn", "Deny"])
def test_a_policy_that_quotes_a_new_key_shows_none_of_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    keys: list[str] = []
    generate = private_keys.generate

    def noting(kind: str) -> Any:
        key = generate(kind)
        keys.append(unknown_pem(key))
        return key

    with (
        contextlib.closing(CsrRig(fleet["onprem"])) as rig,
        quoting_policies(rig.cluster, rig.name, rig.name),
    ):
        monkeypatch.setattr(private_keys, "generate", noting)
        for kind in ("ecdsa-p256", "rsa-2048"):
            for quote in QUOTES:
                labels = {"quote": quote, "action": action}
                result = rig.run(key_type=kind, secret={"name": f"{quote}-{kind}", "labels": labels})
                text = json.dumps(result)
                assert bool(result.get("failed")) is (action == "Deny"), result
                assert "quoted: " in text
                assert [leaks(text, key) for key in keys] == [[]] * len(keys), (quote, text)
