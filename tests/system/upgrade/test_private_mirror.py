# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the playbook upgrade with a release from a private mirror. No cluster exists, because the release is checked first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.certificates import server_pki as pki
from tests.support.playbooks import playbook
from tests.support.upgrade.mirror import mirror

SECRET = "s3cr3t-of-the-mirror"


@pytest.mark.parametrize(
    ("demanded", "said"),
    [(SECRET, "is damaged or incomplete"), ("another", "was answered with 401 Unauthorized by 127.0.0.1")],
)
def test_the_playbook_sends_the_credentials_and_never_prints_them(
    tmp_path: Path, demanded: str, said: str
) -> None:
    """The mirror has no archive, so the run ends after the download."""
    (tmp_path / "ca.pem").write_text(pki.ca().certificate)
    (tmp_path / "hosts").write_text("[clusters]\na certflow_context=a\nb certflow_context=b\n")
    with mirror(demanded={"Authorization": f"Bearer {demanded}"}) as server:
        variables = {
            "snapshot_controller_version": "8.7.0",
            "snapshot_controller_source": f"{server.url}/v{{version}}.zip",
            "snapshot_controller_source_auth": {"token": SECRET, "ca_path": "ca.pem"},
            "snapshot_controller_cache_directory": "cache",
        }
        (tmp_path / "vars.json").write_text(json.dumps(variables))
        arguments = ("-i", "hosts", "-e", "@vars.json", "-vvv")
        run = playbook.play(tmp_path, Path("certflow.kubernetes.upgrade"), *arguments, COLUMNS="500")
    assert run.status != 0 and said in run.output, run.output
    assert len(server.requests) == 1
    assert SECRET not in run.output
