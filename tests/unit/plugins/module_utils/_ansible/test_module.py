# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution mode ``module``: the output of a module, and its entry in the system's log."""

from __future__ import annotations

import contextlib
import json
import syslog
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils import basic
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr_info import OPERATION

from tests.support.api_server import ScriptedAnswer, serving
from tests.support.failures import has_failed

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a-token-that-nobody-may-see"
EMPTY = ScriptedAnswer(200, {"kind": "CertificateSigningRequestList", "metadata": {}, "items": []})
ABSENT = ScriptedAnswer(404, {"kind": "Status", "reason": "NotFound", "message": "absent"})


@contextlib.contextmanager
def arguments(given: dict[str, Any]) -> Iterator[None]:
    """Return the input that Ansible gives to the module."""
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # before ansible-core 2.17
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
        yield
        basic._ANSIBLE_ARGS = None
    else:
        with patch_module_args(given):
            yield


def kubeconfig(server: str) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {"token": TOKEN}}],
    }


@pytest.mark.parametrize(
    ("more", "answer", "status"), [({"name": "x"}, EMPTY, 0), ({"name": "x"}, ABSENT, 1), ({}, ABSENT, 1)]
)
def test_module(
    more: dict[str, Any],
    answer: ScriptedAnswer,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(basic, "has_journal", False)
    monkeypatch.setattr(syslog, "syslog", lambda *words: logged.append(words))
    with serving(answer) as server:
        given = {"kubeconfig": kubeconfig(server.url), "provider": "eks", "gather": ["csrs"], **more}
        with arguments(given), pytest.raises(SystemExit) as ended:
            run_module(OPERATION)
    result = json.loads(capsys.readouterr().out)
    # ansible-core 2.22 tells the controller the texts to mask in this key, which the controller removes.
    assert set(result.pop("_ansible_new_secrets", [TOKEN])) == {TOKEN}
    assert ended.value.code == status, result
    assert server.requests[0].headers["authorization"] == [f"Bearer {TOKEN}"]
    assert result["cluster"]["host"] == server.url
    assert TOKEN not in str(result)
    assert TOKEN not in str(logged)
    if status:
        assert has_failed(result, "not-found", "404")
    else:
        assert [csr["condition"] for csr in result["csrs"]] == ["NotFound"]
