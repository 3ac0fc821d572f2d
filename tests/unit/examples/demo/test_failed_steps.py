# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A demo fails with its first failed step, and names the steps that it did not reach."""

from __future__ import annotations

import pytest

from examples.demo import clusters, story
from tests.support import clusters as kubernetes
from tests.support.clusters import AdminApiError


def good(_demo: None) -> str:
    return "all is well"


@pytest.mark.parametrize(
    "error",
    [
        clusters.Unseen("a bad ConfigMap was accepted"),
        AdminApiError(500, "a good ConfigMap was refused"),
        kubernetes.ClusterError("no cluster"),
        OSError("no file"),
        AssertionError("no output"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_step_ends_the_demo(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def bad(_demo: None) -> str:
        raise error

    status = clusters.ended(lambda: story.told(None, [("One", good), ("Two", bad), ("Three", good)]))
    summary = capsys.readouterr().out.partition("Summary\n")[2].splitlines()
    assert status == 1
    assert [line.split()[0] for line in summary] == ["seen", "FAILED", "-"]
    assert str(error) in summary[1]
    assert summary[2].endswith("Three: not reached")


def test_a_demo_succeeds_if_every_step_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert clusters.ended(lambda: story.told(None, [("One", good), ("Two", good)])) == 0
    assert "FAILED" not in capsys.readouterr().out
