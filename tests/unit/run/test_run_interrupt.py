# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be put away is put away, whatever ends the block, and a signal takes its effect all the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._interrupt import put_away_by

pytestmark = pytest.mark.quick

# In a process of its own: what it does, then what the signals do to it.
SCRIPT = """
import os, signal, sys
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._interrupt import put_away_by

def send(names):
    for name in names.split():
        os.kill(os.getpid(), getattr(signal, name))

def clean():
    send(sys.argv[2])
    print("clean", flush=True)

with put_away_by(clean):
    send(sys.argv[1])
    print("end of the block", flush=True)
print("behind it", flush=True)
"""


# (signals in the block, signals while cleaning, what is printed, what ended the process)
ROWS: list[tuple[str, str, list[str], int]] = [
    ("", "", ["end of the block", "clean", "behind it"], 0),
    ("SIGTERM", "", ["clean"], -signal.SIGTERM),
    ("SIGHUP", "", ["clean"], -signal.SIGHUP),
    ("SIGINT", "", ["clean"], -signal.SIGINT),
    ("SIGINT SIGTERM", "", ["clean"], -signal.SIGINT),
    ("SIGTERM", "SIGINT SIGTERM", ["clean"], -signal.SIGTERM),
    ("", "SIGTERM", ["end of the block", "clean"], -signal.SIGTERM),
]


@pytest.mark.parametrize(("inside", "cleaning", "printed", "status"), ROWS)
def test_a_signal_takes_effect_after_the_cleaning(
    inside: str, cleaning: str, printed: list[str], status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, inside, cleaning], capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.returncode) == (printed, status), done.stderr


def test_an_error_goes_on_behind_the_cleaning() -> None:
    done: list[str] = []
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="of the block"), put_away_by(lambda: done.append("clean")):
        raise ValueError("of the block")
    assert done == ["clean"]
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_thread_leaves_signals_alone() -> None:
    done: list[str] = []

    def work() -> None:
        with put_away_by(lambda: done.append("clean")):
            done.append("block")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["block", "clean"]
