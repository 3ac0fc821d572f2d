# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test progress and stops of an operation in a worker of ansible-playbook.

The operation is defined below. It writes to a simulated API server that delays its answer as long as the test
needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import api_server
from tests.support.api_server import ScriptedAnswer, ScriptedServer
from tests.support.playbooks import playbook
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN = """
import os
import pathlib
import time

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import argument_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation
from ansible_collections.certflow.kubernetes.plugins.module_utils._process import interrupt, progress_lines
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._action.operation_action import OperationAction


def work(client, parameters, check_mode):
    progress = progress_lines.start_progress(0.3)
    client.hooks.append(progress.repeat_if_due)
    with interrupt.stop_on_signal():
        pathlib.Path(parameters["pid_file"]).write_text(str(os.getpid()))
        progress.print_line("1/2  begin")
        progress.set_activity("2/2  write")
        with interrupt.clean_up_with(lambda: client.send("DELETE", "/lease", {})):
            client.replace("/thing", {})
            time.sleep(parameters["seconds"])
    return Result(True, {})


class ActionModule(OperationAction):
    operation = Operation(
        "slow",
        {**argument_specs.AUTH, "pid_file": {"type": "str"}, "seconds": {"type": "float", "default": 0}},
        work,
    )
"""


class SlowServer:
    """A simulated API server. The answer to the PUT waits for ``go``."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.asked, self.go = threading.Event(), threading.Event()
        server.next = self._next  # type: ignore[method-assign]

    def _next(self) -> ScriptedAnswer:
        if self.server.requests[-1].method == "PUT":
            self.asked.set()
            self.go.wait(60)
        return ScriptedAnswer()


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with api_server.serving() as server:
        slow = SlowServer(server)
        yield slow
        slow.go.set()


class SlowPlay:
    """A play with the operation above, which runs in the background."""

    def __init__(self, directory: Path, slow: SlowServer) -> None:
        self.directory, self.slow = directory, slow
        plugins = directory / "action_plugins"
        plugins.mkdir()
        (plugins / "slow.py").write_text(PLUGIN)
        self.pid_file = directory / "pid"

    def start(self, *, callback: str = "default", **keywords: Any) -> subprocess.Popen[str]:
        options = {"host": self.slow.server.url, "api_key": "t" * 8, "pid_file": str(self.pid_file)}
        task = {"slow": {**options, **keywords.pop("options", {})}, "name": "Run", **keywords}
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "__certflow_execution_mode": "in_process",
        }
        play = {"hosts": "all", "gather_facts": False, "vars": variables, "tasks": [task]}
        (self.directory / "play.yml").write_text(yaml.safe_dump([play]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "prod-eu-1,", "play.yml"]
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": callback},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def signal_worker(self, signum: int) -> None:
        assert self.slow.asked.wait(60)
        os.kill(int(self.pid_file.read_text()), signum)


@pytest.fixture
def play(tmp_path: Path, slow: SlowServer) -> SlowPlay:
    return SlowPlay(tmp_path, slow)


def ended(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Return the lines of standard output and the text of standard error."""
    output, errors = process.communicate(timeout=120)
    return output.splitlines(), errors


def requests(slow: SlowServer) -> list[str]:
    return [path for path in slow.server.paths() if not path.startswith("GET")]


# Progress

# It prints one JSON document to standard output at the end, as ansible.posix.json does.
JSON_CALLBACK = """
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "as_json"

    def v2_playbook_on_stats(self, stats):
        self._display.display('{"is_json": true}')
"""


@pytest.mark.parametrize("callback", ["default", "minimal"])
def test_progress_is_shown_before_the_result(play: SlowPlay, slow: SlowServer, callback: str) -> None:
    process = play.start(callback=callback)
    assert slow.asked.wait(60)
    time.sleep(1)
    slow.go.set()
    lines, errors = ended(process)
    assert process.returncode == 0, errors
    result = next(number for number, line in enumerate(lines) if "changed" in line.lower())
    shown = [
        number for number, line in enumerate(lines) if line.startswith(("prod-eu-1  1/2", "prod-eu-1  2/2"))
    ]
    assert lines[shown[0]] == "prod-eu-1  1/2  begin"
    assert lines[shown[1]].startswith("prod-eu-1  2/2  write  ")
    assert shown[-1] < result
    assert "errantly" not in "".join(lines) + errors


def test_progress_leaves_standard_output_to_a_callback_that_prints_json(
    play: SlowPlay, slow: SlowServer
) -> None:
    (play.directory / "callback_plugins").mkdir()
    (play.directory / "callback_plugins" / "as_json.py").write_text(JSON_CALLBACK)
    process = play.start(callback="as_json")
    slow.go.set()
    lines, errors = ended(process)
    assert json.loads("".join(lines)) == {"is_json": True}
    assert "prod-eu-1  1/2  begin" in errors


def test_a_task_with_no_log_shows_no_progress(play: SlowPlay, slow: SlowServer) -> None:
    slow.go.set()
    process = play.start(no_log=True)
    lines, errors = ended(process)
    assert process.returncode == 0, errors
    assert "begin" not in "".join(lines) + errors


# Signals to the worker while it waits for the answer to a write


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_task_with_a_result(
    play: SlowPlay, slow: SlowServer, signum: signal.Signals
) -> None:
    """The loop continues with its second item in the same process. That item fails at once."""
    process = play.start(loop=["first", "second"], register="result", ignore_errors=True)
    play.signal_worker(signum)
    slow.go.set()
    lines, errors = ended(process)
    failed = [line for line in lines if line.startswith("failed: ")]
    assert [line.count('"code": "interrupted"') for line in failed] == [1, 1], (lines, errors)
    assert "PUT /thing" in failed[0]
    assert requests(slow) == ["PUT /thing", "DELETE /lease"]


def test_the_end_of_the_task_timeout_ends_the_task_with_a_result(play: SlowPlay, slow: SlowServer) -> None:
    slow.go.set()
    process = play.start(timeout=2, options={"seconds": 60})
    lines, errors = ended(process)
    assert any('"code": "interrupted"' in line for line in lines), (lines, errors)
    assert requests(slow) == ["PUT /thing", "DELETE /lease"]


def test_the_end_of_the_task_timeout_does_not_cut_a_write(play: SlowPlay, slow: SlowServer) -> None:
    process = play.start(timeout=300)
    play.signal_worker(signal.SIGALRM)
    slow.go.set()
    lines, errors = ended(process)
    assert any('"code": "interrupted"' in line and "PUT /thing" in line for line in lines), (lines, errors)
    assert requests(slow) == ["PUT /thing", "DELETE /lease"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_ansible_playbook_leaves_no_lease(
    play: SlowPlay, slow: SlowServer, signum: signal.Signals
) -> None:
    """After Ctrl-C, or a termination of the process group, the worker finishes its write, cleans up and ends."""
    process = play.start()
    assert slow.asked.wait(60)
    worker = int(play.pid_file.read_text())
    os.killpg(process.pid, signum)
    slow.go.set()
    ended(process)
    wait_for(lambda: not playbook.is_alive(worker))
    assert process.returncode != 0
    assert requests(slow) == ["PUT /thing", "DELETE /lease"]
