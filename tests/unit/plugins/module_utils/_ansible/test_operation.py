# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of an operation, after a success and after a failure."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import (
    argument_specs,
    redaction,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import (
    operation as operation_module,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import (
    Operation,
    execute,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts, private_keys

from tests.support.api_server import ScriptedAnswer, ScriptedServer, serving
from tests.support.certificates import server_pki as pki
from tests.support.certificates.authority import authority, issue, rewritten
from tests.support.failures import has_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

ROOT = Path(__file__).resolve().parents[5]
NAMESPACE = ScriptedAnswer(body={"metadata": {"uid": "u-1"}})
DEFAULTS = {"wait_timeout": 5}


def run(
    work: Callable[[Client, Mapping[str, Any], bool], Result], server: ScriptedServer, **parameters: Any
) -> dict[str, Any]:
    operation = Operation("k8s_test", {**argument_specs.AUTH, "word": {"type": "str", "no_log": True}}, work)
    return execute(
        operation, {"host": server.url, "api_key": "secret-token", **DEFAULTS, **parameters}, check_mode=True
    )


def test_success() -> None:
    def work(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
        client.get("/x")
        return Result(changed=check_mode, values={"answer": 42}, diff={"before": {}}, warnings=("mind this",))

    with serving(ScriptedAnswer(headers=(("Warning", '299 - "old"'),))) as server:
        result = run(work, server, word="hush", context=None)
    assert {key: value for key, value in result.items() if key != "invocation"} == {
        "changed": True,
        "answer": 42,
        "diff": {"before": {}},
        "warnings": ["mind this", "API server: old"],
        "cluster": {"host": server.url, "auth_source": "the task's option host"},
    }
    assert "secret-token" not in str(result)
    assert "hush" not in str(result)


def test_a_library_that_warns_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Ansible's process a thread that prints a warning never returns, and cryptography warns of some serial numbers."""
    issued, printed = issue("hook", issuer := authority("kubernetes")), list[str]()
    serial = issued.certificate.serial_number.to_bytes(20, "big")
    pem = ssl.DER_cert_to_PEM_cert(rewritten(issued, issuer.key, (serial, b"\x80" + serial[1:])))
    monkeypatch.setattr(
        warnings, "showwarning", lambda message, *_fields, **_more: printed.append(str(message))
    )

    def describe() -> None:
        with contextlib.suppress(CertflowError):
            certificate_facts.describe_pem(pem)

    def work(_client: Client, _parameters: Mapping[str, Any], _check_mode: bool) -> Result:
        thread = threading.Thread(target=describe)
        thread.start()
        thread.join(10)
        return Result(changed=False, values={"ended": not thread.is_alive()})

    with warnings.catch_warnings(), serving(NAMESPACE) as server:
        warnings.simplefilter("always")
        assert run(work, server)["ended"]
    assert printed == []


def test_failure_is_one_line_with_cause_evidence_remedy() -> None:
    def work(*_arguments: Any) -> Result:
        raise CertflowError("this is\nbroken", evidence=("seen",), remedy="repair it")

    with serving() as server:
        result = run(work, server)
    assert result["failed"] is True
    assert result["changed"] is False
    assert result["msg"] == f"{server.url}: This is broken. Repair it."
    assert (result["cause"], result["evidence"], result["remedy"]) == (
        "this is broken",
        ["seen"],
        "repair it",
    )
    assert result["cluster"]["host"] == server.url


KEY_PEM = private_keys.to_pem(private_keys.generate("ecdsa-p256"))
KEY_BASE64 = base64.b64encode(KEY_PEM.encode()).decode()
# Forms in which a webhook or a policy may print the Secret that it refuses.
ECHOES = (
    KEY_PEM,
    KEY_PEM.replace("\n", "\\n"),
    KEY_PEM[:-40],
    f'{{"data":{{"tls.key":"{KEY_BASE64}"}}}}',
    f"map[tls.crt:LS0tLS1CRUdJTiBDRVJU tls.key:{KEY_BASE64[:-7]}]",
    f"data: {base64.b64encode(('x: y' + KEY_PEM).encode()).decode()}",
)


@pytest.mark.parametrize("echo", ECHOES)
def test_a_private_key_that_the_api_server_repeats_is_not_shown(echo: str) -> None:
    def work(client: Client, *_others: Any) -> Result:
        client.create("/x", {"data": {"tls.key": KEY_BASE64}})
        return Result(False, {})

    message = f"admission webhook denied the request: {echo} is not allowed"
    status = {"kind": "Status", "reason": "Forbidden", "message": message}
    with serving(ScriptedAnswer(403, body=status)) as server:
        text = json.dumps(run(work, server))
    assert "admission webhook denied the request" in text
    body = "".join(KEY_PEM.split("\n")[1:-2])
    assert body[:30] not in text
    assert KEY_BASE64[48:90] not in text
    assert base64.b64encode(("x: y" + KEY_PEM).encode()).decode()[50:90] not in text


def test_a_certificate_is_not_taken_for_a_key() -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(bytes(range(99))).decode()}\n-----END CERTIFICATE-----\n"
    values = {"ca_pem": pem, "bundle": base64.b64encode(pem.encode()).decode(), "word": "x" * 99}
    assert redaction.clean(values) == values


HOSTILE = "a\x1b]0;b\x07\u202ec\nd"
HARMLESS = "a\\x1b]0;b\\x07\\u202ec d"


def test_sentences_of_a_failure_hold_no_hidden_characters() -> None:
    def work(*_arguments: Any) -> Result:
        error = CertflowError(HOSTILE, evidence=(HOSTILE,), remedy=HOSTILE)
        error.values = {"diagnosis": {"cause": HOSTILE, "evidence": [HOSTILE]}, "name": HOSTILE}
        raise error

    with serving() as server:
        result = run(work, server)
    assert result["msg"] == f"{server.url}: A{HARMLESS[1:]}. A{HARMLESS[1:]}."
    assert (result["cause"], result["evidence"], result["remedy"]) == (HARMLESS, [HARMLESS], HARMLESS)
    assert result["diagnosis"] == {"cause": HARMLESS, "evidence": [HARMLESS]}
    assert result["name"] == HOSTILE  # a name is data


def test_sentences_of_a_success_hold_no_hidden_characters() -> None:
    objects = [{"metadata": {"name": HOSTILE}, "message": HOSTILE}]

    def work(client: Client, *_others: Any) -> Result:
        client.get("/x")
        values = {"requests": [{"name": HOSTILE, "reason": HOSTILE}], "originals": objects}
        return Result(
            changed=False, values=values, diff={"before": {"message": HOSTILE}}, warnings=(HOSTILE,)
        )

    with serving(ScriptedAnswer(headers=(("Warning", '299 - "old \x1b[31m\xad"'),))) as server:
        result = run(work, server)
    assert result["warnings"] == [HARMLESS, "API server: old \\x1b[31m\\xad"]
    assert result["requests"] == [{"name": HOSTILE, "reason": HARMLESS}]
    assert (result["originals"], result["diff"]) == (objects, {"before": {"message": HOSTILE}})


def test_writes_before_the_failure_are_evidence() -> None:
    def work(client: Client, *_others: Any) -> Result:
        client.create("/dry", {}, dry_run=True)
        client.create("/things", {})
        raise CertflowError("broken")

    with serving(ScriptedAnswer(201)) as server:
        result = run(work, server)
    assert result["changed"] is True
    assert result["evidence"] == ["written before the failure: POST /things"]


def test_defect_is_one_line_with_its_place() -> None:
    def work(*_arguments: Any) -> Result:
        raise KeyError("metadata")

    with serving() as server:
        result = run(work, server)
    assert result["failed"] is True
    assert re.fullmatch(r"a defect of this collection: KeyError at \S+:\d+", result["cause"])
    assert f"{Path(__file__).name}:" in result["msg"]
    assert "\n" not in result["msg"]


def test_an_exception_that_ends_the_process_is_not_caught() -> None:
    """A task's timeout arrives as a BaseException."""

    def work(*_arguments: Any) -> Result:
        raise KeyboardInterrupt

    with serving() as server, pytest.raises(KeyboardInterrupt):
        run(work, server)


def test_a_failure_before_the_connection() -> None:
    operation = Operation(
        "k8s_test", argument_specs.AUTH, lambda *_arguments: Result(changed=False, values={})
    )
    result = execute(operation, {"kubeconfig": "/absent/kc", **DEFAULTS}, check_mode=False)
    assert has_failed(result, "invalid-connection", "/absent/kc", "kubeconfig")
    assert "cluster" not in result
    assert "seconds" not in result


PATH = "/runner/project/Inventory/PROD-EU1/KubeConfig-Prod-EU1.yml"


def test_a_failure_shows_what_the_task_names(tmp_path: Path) -> None:
    """Paths and contexts of people often look like base64."""
    operation = Operation(
        "k8s_test", argument_specs.AUTH, lambda *_arguments: Result(changed=False, values={})
    )
    result = execute(operation, {"kubeconfig": PATH, **DEFAULTS}, check_mode=False)
    assert PATH in result["msg"]
    context = "clusterAdmin_RG-K8S-PROD-Weu-01_AKS-K8S-Prod-Weu-01"
    (tmp_path / "config").write_text(
        json.dumps({"contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}]})
    )
    given = {"kubeconfig": str(tmp_path / "config"), "context": f"{context}x", **DEFAULTS}
    result = execute(operation, given, check_mode=False)
    assert f"no context named '{context}x'" in result["msg"]
    assert result["evidence"] == [f"contexts: {context}"]


def test_a_secret_of_the_task_is_not_left_to_the_mask() -> None:
    secret = base64.b64encode(bytes(range(100, 160))).decode()

    def work(*_arguments: Any) -> Result:
        raise CertflowError(f"seen {secret}")

    with serving() as server:
        assert secret not in json.dumps(run(work, server, word=secret))


def test_the_duration_is_in_the_result_also_after_a_failure() -> None:
    def work(*_arguments: Any) -> Result:
        time.sleep(0.2)
        raise CertflowError("it failed", remedy="Mend it")

    operation = Operation("k8s_test", argument_specs.AUTH, work, is_timed=True)
    with serving() as server:
        given = {"host": server.url, "api_key": "t", **DEFAULTS}
        result = execute(operation, given, check_mode=False)
    assert result["failed"]
    assert 0.2 <= result["seconds"] < 5


@pytest.mark.parametrize(("uid", "fails"), [("u-1", False), ("u-2", True), ("", False), (None, False)])
def test_guard(uid: str | None, fails: bool) -> None:
    ran = []

    def work(*_arguments: Any) -> Result:
        ran.append(True)
        return Result(changed=False, values={})

    with serving(NAMESPACE) as server:
        result = run(work, server, cluster_uid=uid)
    assert bool(result.get("failed")) is fails
    assert bool(ran) is not fails
    assert len(server.requests) == (1 if uid else 0)
    if fails:
        assert "another cluster than the task names" in result["cause"]
        assert "u-1, not u-2" in result["cause"]


def test_a_refused_certificate_has_its_end_in_the_evidence(tmp_path: Path) -> None:
    ca = pki.ca()
    me = pki.leaf("me", ca)
    for name, text in (("ca", ca.certificate), ("cert", me.certificate), ("key", me.key)):
        (tmp_path / name).write_text(text)
    refusal = ScriptedAnswer(401, {"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized"})

    def work(client: Client, *_others: Any) -> Result:
        client.get("/x")
        raise AssertionError

    with serving(refusal, tls=pki.leaf("server", ca)) as server:
        files = {"ca_cert": "ca", "client_cert": "cert", "client_key": "key"}
        result = run(
            work, server, api_key=None, **{option: str(tmp_path / name) for option, name in files.items()}
        )
    assert "refused the credentials of the task's option host" in result["cause"]
    assert any(
        re.match(r"the client certificate \(CN=me\) is valid until \d{4}-", line)
        for line in result["evidence"]
    )


def test_deadline_comes_from_wait_timeout() -> None:
    seen = []

    def work(client: Client, *_others: Any) -> Result:
        seen.append(client.deadline)
        return Result(changed=False, values={})

    with serving() as server:
        for seconds in (5, 500):
            run(work, server, wait_timeout=seconds)
    assert 490 < seen[1] - seen[0] < 500


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_wait_timeout_below_one_is_refused_before_the_first_request(seconds: int) -> None:
    """Otherwise a request would be sent and approved, and no run would wait for its certificate."""
    with serving() as server:
        result = run(lambda *_arguments: Result(changed=True, values={}), server, wait_timeout=seconds)
        assert server.requests == []
    assert has_failed(result, "invalid-input", "wait_timeout", str(seconds))
    assert result["changed"] is False


def test_missing_library_names_interpreter_and_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        operation_module, "LIBRARIES", {"json": "json", "certflow_no_such_module": "something>=1"}
    )
    with serving() as server:
        result = run(lambda *_arguments: Result(changed=False, values={}), server)
    assert f"{sys.executable} lacks the Python libraries something>=1" in result["cause"]
    assert "ansible_playbook_python" in result["remedy"]


def test_floors_are_those_of_the_execution_environment() -> None:
    listed = (ROOT / "meta" / "ee-requirements.txt").read_text().split()
    assert set(operation_module.LIBRARIES.values()) <= set(listed)


def test_version_is_that_of_the_collection() -> None:
    assert f"version: {operation_module.VERSION}\n" in (ROOT / "galaxy.yml").read_text()


KUBECONFIG = {
    "apiVersion": "v1",
    "users": [
        {
            "name": "production",
            "user": {"token": "long-token", "password": "short", "client-key-data": "long-key-data"},
        },
        {
            "name": "b",
            "user": {"auth-provider": {"config": {"id-token": "long-id-token", "client-id": "not-secret"}}},
        },
        {"name": "c", "user": {"exec": {"env": [{"name": "AWS_PROFILE", "value": "production"}]}}},
    ],
}


def test_only_secret_leaves_are_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marking "v1", "production" or a short word would mask it everywhere."""
    registered: set[str] = set()
    monkeypatch.setattr(redaction, "register_secrets", None)
    redaction.protect({"kubeconfig": KUBECONFIG}, registered)
    assert registered == {"long-token", "long-key-data", "long-id-token"}
    known: set[str] = set()
    again: set[str] = set()
    monkeypatch.setattr(redaction, "register_secrets", again.update)
    redaction.protect({"kubeconfig": KUBECONFIG}, known)
    assert (known, again) == (set(), registered)
    redaction.protect({"kubeconfig": "/path"}, known)
    assert known == set()


def test_aliases_of_a_text_are_counted_before_they_are_expanded() -> None:
    """Limit the aliases. Otherwise the search for secrets would not end."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 13))]
    registered: set[str] = set()
    redaction.protect({"kubeconfig": "\n".join([*lines, "token: a-secret-token"])}, registered)
    assert registered == set()


def test_invocation_shows_no_content() -> None:
    shown = redaction.invocation(
        {
            "kubeconfig": KUBECONFIG,
            "proxy_headers": {"basic_auth": "u:p"},
            "api_key": "t",
            "password": None,
            "name": "x",
        },
        frozenset(("api_key", "password")),
    )
    hidden = redaction.PLACEHOLDER
    assert shown == {
        "module_args": {
            "kubeconfig": hidden,
            "proxy_headers": hidden,
            "api_key": hidden,
            "password": None,
            "name": "x",
        }
    }
    assert redaction.invocation({"kubeconfig": "/path"}, frozenset())["module_args"] == {
        "kubeconfig": "/path"
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"kubeconfig": json.dumps(KUBECONFIG)},
        {"kubeconfig": yaml.safe_dump(KUBECONFIG)},
        {"proxy": "http://user:very-secret-password@proxy:3128"},
        {"host": "https://user:very-secret-password@host"},
        {"source": "https://user:very-secret-password@mirror/{version}.tar.gz"},
        {"proxy": "user:very-secret-password@proxy:3128"},
        {"source": "https://user:very/secret#password@mirror/{version}.tar.gz"},
        {"source": "https://user:very://secret:password@mirror/{version}.tar.gz"},
    ],
)
def test_secrets_inside_other_texts(parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (option,) = parameters
    assert redaction.invocation(parameters, frozenset())["module_args"] == {option: redaction.PLACEHOLDER}
    if option != "host":  # an address with a password is refused, without quoting it
        known: set[str] = set()
        monkeypatch.setattr(redaction, "register_secrets", None)
        redaction.protect(parameters, known)
        assert known
        assert all(secret in parameters[option] for secret in known)


def test_the_arguments_show_no_content_of_a_probed_secret() -> None:
    """Its values are Base64, so a key in them does not look like one."""
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"tls.key": "LS0tLS1CRUdJTi"}}
    shown = redaction.invocation({"object": secret}, frozenset())["module_args"]
    assert shown == {"object": redaction.PLACEHOLDER}
    other = {"object": {**secret, "kind": "ConfigMap"}}
    assert redaction.invocation(other, frozenset())["module_args"] == other


SENTENCE = re.compile(
    r"^(\[?')?(Why|One sentence|The (reason|cause|observations|verdict in one line|way to mend|facts))"
)
# "Why something cannot be seen" may be a field that is not text.
NO_TEXTS = frozenset(("diagnosis", "failure", "problems", "refused"))


def documented(fields: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return every field of a documented result, at any depth, with the beginning of its description."""
    found = []
    for name, field in (fields or {}).items():
        found += [(name, str(field.get("description"))), *documented(field.get("contains"))]
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem
)
def test_every_documented_sentence_is_cleaned(path: Path) -> None:
    text = re.search(r'RETURN = r"""(.*?)"""', path.read_text(), re.DOTALL)
    assert text
    sentences = {name for name, words in documented(yaml.safe_load(text[1])) if SENTENCE.match(words)}
    assert sentences
    assert sentences - NO_TEXTS <= redaction.SENTENCE_KEYS
