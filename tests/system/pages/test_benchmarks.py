# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a part of `make bench-quick` with two hosts, and check its results. No test asserts a time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import page, ratios, samples
from benchmarks.peers import PEERS
from benchmarks.rows import QUICK, certificates
from benchmarks.rows.context import Bench, on
from benchmarks.samples import AGAIN, FIRST, Case

if TYPE_CHECKING:
    from tests.support.clusters import Fleet

HOSTS = 2


@pytest.mark.full
def test_the_results_have_each_peer_and_a_failed_peer_stops_no_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "role", replace(PEERS["role"], changed=lambda _run: 0))
    bench = Bench(most_hosts=HOSTS, most_rounds=1, say=lambda _text: None)
    with on({"onprem": fleet["onprem"]}) as lab:
        certificates.quick_on(bench, lab, ("bare", "role", "debug", "in_process"))
    assert [(entry.row, entry.peer) for entry in bench.results.missing] == [(QUICK, "role")]
    data = json.loads(samples.dump(bench.results))
    found = {(sample["peer"], sample["phase"]): sample["measures"] for sample in data["samples"]}
    assert set(found) == {
        ("bare", FIRST), ("bare", AGAIN), ("debug", FIRST), ("in_process", FIRST), ("in_process", AGAIN),
    }  # fmt: skip
    for measures in found.values():
        assert {"wall", "cpu", "server_cpu", "requests", "lines"} <= set(measures)
        assert all(len(values) == 1 for values in measures.values())
    quiet = Case(QUICK, "in_process", HOSTS, AGAIN)
    assert bench.results.value(quiet, "requests") == 2  # the Secret, and the webhook configuration
    assert ratios.values(bench.results)
    assert page.page(bench.results)
