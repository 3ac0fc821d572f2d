# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the messages for a machine that cannot have the programs of a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import ClusterError, debian


@pytest.mark.parametrize(
    ("programs", "complaint"),
    [
        ({}, "its programs come from Debian packages, and there is no apt-get on PATH"),
        (
            {"apt-get": "echo E: network is down >&2; exit 100", "dpkg": ""},
            "apt-get update failed: E: network is down",
        ),
    ],
    ids=["no apt", "apt fails"],
)
def test_unavailable_packages_are_reported(
    programs: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ClusterError) as caught:
        debian.unpacked(lambda message: None)
    assert str(caught.value) == complaint
    assert [path.name for path in (tmp_path / "cache" / "debian").iterdir()] == [".lock"]


# Parts
