# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that the demos succeed only if every step succeeds."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from examples.demo import cluster_ca, story, upgrade
from tests.support import clusters
from tools.ci.venvs import REPOSITORY

SECONDS = 3600


def demo(*arguments: str, module: str = "examples.demo") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def summary(output: str) -> list[tuple[str, str]]:
    """Return the result and the title of each step."""
    lines = output.partition("\nSummary\n")[2].splitlines()
    found = (re.match(r"  (seen|FAILED|-) +(?:[\d.]+ s)? +(.+?): ", line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


def test_the_demo_completes() -> None:
    status, output = demo()
    assert status == 0, output
    assert summary(output) == [("seen", title) for title, _step in story.steps_of()]
    if story.ON_A_NODE in story.steps_of():
        assert re.search(r"two renewals, with the same CA and with a new one\. \d+ calls, 0 failed", output)
    assert "ERROR: After approving csr team-labels.demo, the signed certificate did not appear" in output
    assert "Use signer_name: beta.eks.amazonaws.com/app-serving." in " ".join(output.split())
    assert output.count("denied the request: shapes: every ConfigMap needs a label team") == 2
    assert "PRIVATE KEY" not in output


@pytest.mark.full
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            "certificate",
            "a good ConfigMap was refused: Internal error occurred: failed calling webhook .* x509: ",
        ),
        ("rule", "a bad ConfigMap was accepted"),
    ],
)
def test_the_demo_fails_with_a_broken_webhook(broken: str, words: str) -> None:
    status, output = demo("--break", broken)
    assert status == 1, output
    assert summary(output) == [
        ("seen", "One play over both clusters"),
        ("FAILED", "Each API server calls its webhook"),
        ("-", "The same play again"),
    ]
    assert re.search(words, output)


@pytest.mark.full
def test_the_upgrade_demo_without_pods() -> None:
    status, output = demo("--without-pods", module="examples.demo.upgrade")
    assert status == 0, output
    assert summary(output) == [("seen", title) for title, _step in upgrade.WITHOUT_PODS]
    assert "field is immutable" in output
    assert "No pod runs here" in output


@pytest.mark.full
def test_the_upgrade_demo() -> None:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    status, output = demo(module="examples.demo.upgrade")
    assert status == 0, output
    assert summary(output) == [("seen", title) for title, _step in upgrade.WITH_PODS]
    assert "PRIVATE KEY" not in output


@pytest.mark.full
def test_the_fleet_demo() -> None:
    """The canary soaks, one cluster fails and stops the run, and the next run completes it."""
    status, output = demo(module="examples.demo.fleet")
    assert status == 0, output
    assert {result for result, _title in summary(output)} == {"seen"}, output
    assert "PRIVATE KEY" not in output


@pytest.mark.full
def test_the_demo_of_a_rotation() -> None:
    """One cluster is prepared for the switch of its CA, and the other one is repaired after it."""
    status, output = demo(module="examples.demo.cluster_ca")
    assert status == 0, output
    assert summary(output) == [("seen", title) for title, _step in cluster_ca.STEPS]
    assert "PRIVATE KEY" not in output
