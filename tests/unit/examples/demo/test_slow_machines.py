# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A demo on a slow machine: it shows the time and continues. Only a wrong result ends it."""

from __future__ import annotations

import itertools
import time
from typing import Any, cast

import pytest

from examples.demo import clusters, story
from examples.demo.clusters import CertificateDemo, DemoClusters, Unseen
from examples.demo.fleet import FleetDemo
from examples.demo.upgrade import UpgradeDemo
from tests.support import clusters as kubernetes
from tests.support import load
from tests.support.clusters import APP_SERVING
from tools.ci import process

pytestmark = pytest.mark.quick

DIAGNOSIS = f"""TASK [Show the diagnosis] ***
ok: [eks] =>
    msg:
        code: signer-not-served
        remedy: 'Use signer_name: {APP_SERVING}.'
PLAY RECAP ***
"""


class SlowDemo:
    """A demo whose playbooks print this output."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.runs = 0

    def playbook(self, _name: str) -> str:
        self.runs += 1
        return self.output


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten minutes pass between any two looks at the clock."""
    clock = itertools.count(step=600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))


@pytest.mark.usefixtures("_slow")
def test_a_slow_diagnosis_is_shown_with_its_time() -> None:
    demo = SlowDemo(DIAGNOSIS)
    assert story.the_explanation(cast(CertificateDemo, demo)).endswith("after 600.0 s")
    assert demo.runs == 1


@pytest.mark.usefixtures("_slow")
def test_a_wrong_diagnosis_ends_the_demo() -> None:
    with pytest.raises(Unseen):
        story.the_explanation(cast(CertificateDemo, SlowDemo("TASK [Show the diagnosis] ***")))


@pytest.mark.parametrize("demo", [CertificateDemo, FleetDemo, UpgradeDemo])
def test_a_program_may_take_an_hour(
    demo: type[DemoClusters], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    limits: list[float] = []

    def run(*arguments: Any) -> int:
        limits.append(arguments[-1])
        arguments[1].write_text("$ true\n")
        return 0

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(clusters, "programs", lambda: tmp_path)
    here = cast(Any, object.__new__(demo))
    here.directory, here.log = tmp_path, tmp_path / "output"
    assert here.run("true") == (0, "")
    assert min(limits) >= 3600


@pytest.mark.parametrize(
    ("failure", "busy", "late"),
    [
        ("failed calling webhook: context deadline exceeded", 12.0, True),
        ("failed calling webhook: context deadline exceeded", 0.5, False),
        ("failed calling webhook: connection refused", 12.0, False),
        ("", 12.0, False),
    ],
)
def test_a_call_that_times_out_on_an_overloaded_machine(failure: str, busy: float, late: bool) -> None:
    assert load.is_late(failure, busy) is late


@pytest.mark.parametrize("builds", [True, False])
def test_a_demo_says_what_it_shows_before_it_builds(
    builds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build takes minutes, so its time and the shorter ways come first."""
    printed: list[str] = []
    monkeypatch.setattr(kubernetes, "needs_build", lambda: builds)
    monkeypatch.setattr(kubernetes, "programs", lambda: printed.append(capsys.readouterr().out))
    clusters.announce("A title", ["One play", "The same again"])
    (before,) = printed
    assert before.splitlines()[:3] == ["A title", "  1. One play", "  2. The same again"]
    assert ("CERTFLOW_KUBERNETES_BIN" in before) is builds
    assert ("kind" in before) is builds
