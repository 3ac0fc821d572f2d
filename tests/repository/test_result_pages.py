# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that each page of results has every row of its tables as a run wrote it, and no row with a wrong end.

Each check of an audit is produced on a real cluster, by a row of the matrix or by a test.
"""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table

from tests.system.audit.matrix import page as audit_page
from tests.system.audit.matrix import row, run
from tests.system.audit.matrix.row import ACCEPTED
from tests.system.audit.matrix.table import AGING, DAYS, ROWS, TABLES, UNDECIDED
from tests.system.fault_injection import flows, transport
from tests.system.fault_injection import page as reliability_page
from tests.system.upgrade.rows import faults, jumps, repairs
from tests.system.upgrade.rows import page as upgrades_page
from tools.ci.venvs import REPOSITORY


@pytest.mark.parametrize("page", [reliability_page, upgrades_page])
def test_no_row_has_a_wrong_end(page: Any) -> None:
    assert page.WRONG not in page.PAGE.path.read_text()


# reference_audit_matrix.rst

FILES = (
    "system/audit/test_audit.py",
    "system/audit/test_audit_calls.py",
    "system/audit/test_audit_node.py",
    "system/audit/test_audit_settings.py",
    "system/rotation/test_cluster_ca.py",
    "system/execution/test_kubernetes_releases.py",
    "system/upgrade/test_snapshot_plan.py",
    "system/rotation/test_trust_removal.py",
)
IN_MATRIX = {text.partition(":")[0] for row in ROWS for text in row.says.split("; ")}


@pytest.mark.parametrize("check", list(check_table.BY_ID))
def test_a_check_is_produced(check: str) -> None:
    texts = [(REPOSITORY / "tests" / name).read_text() for name in FILES]
    assert check in IN_MATRIX or any(f'"{check}"' in text for text in texts)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_was_run_and_ended_as_expected(name: str) -> None:
    written = audit_page.PAGE.read(name)
    assert list(written) == [entry.name for entry in TABLES[name]]
    for entry in TABLES[name]:
        assert entry.answer in written[entry.name]["API server"], entry.name
        assert written[entry.name]["Audit"] == entry.says, entry.name


#: The only rows about which the audit does not decide. A new one is a decision, and not an accident.
UNDECIDED_ROWS = (
    "the last of eleven pods serves a certificate of another CA",
    "the server demands a client certificate, with TLS 1.2",
    "the server demands a client certificate, with TLS 1.3",
    "pods, and a condition that cannot be evaluated",
    "updates of Leases, but only in version v1beta1",
    "ciphers of TLS 1.2 without forward secrecy",
    "a URL with the address 127.1, which other programs read",
    "only the key exchange X25519MLKEM768",
    "an ECDSA key of P-224, with TLS 1.2",
    "certificates of 150 KB",
    "certificates of 300 KB",
    "only the group X448, which the API server does not offer",
)


def test_few_rows_are_undecided() -> None:
    assert tuple(UNDECIDED) == UNDECIDED_ROWS
    assert len(UNDECIDED) < len(ROWS) / 20


def test_the_names_of_rows_are_unique() -> None:
    assert row.find_duplicates(ROWS) == []


def test_every_webhook_broke_at_the_time_that_the_audit_announced() -> None:
    written = audit_page.PAGE.read(audit_page.AGED)
    assert list(written) == [entry.name for entry in AGING]
    for entry in AGING:
        cells = written[entry.name]
        breaks_in = (
            None
            if cells["Breaks in"] == audit_page.NEVER
            else float(cells["Breaks in"].removesuffix(" days"))
        )
        for days in DAYS if entry.answer == ACCEPTED else ():
            is_accepted = cells[f"API server after {days} days"] == ACCEPTED
            assert is_accepted is not run.is_due(breaks_in, days), entry.name


# reference_reliability.rst


def test_every_task_was_killed_at_every_request() -> None:
    rows = reliability_page.PAGE.read(reliability_page.CRASHES)
    assert list(rows) == [flow.name for flow in flows.FLOWS]
    for name, cells in rows.items():
        requests, killed, completes, says, left = (
            int(cells[head]) for head in reliability_page.CRASH_HEAD[1:]
        )
        assert (killed, completes + says, left) == (2 * requests, killed, 0), name


def test_every_task_has_every_fault() -> None:
    rows = reliability_page.PAGE.read(reliability_page.TRANSPORT)
    assert list(rows) == [fault.name for fault in transport.FAULTS]
    for fault in transport.FAULTS:
        row = rows[fault.name]
        assert list(row) == [flow.name for flow in transport.FLOWS]
        empty = [task for task, cell in row.items() if not cell]
        assert not empty or fault.meets, (
            fault.name,
            empty,
        )  # a task without a watch has no fault of watches


def test_a_task_survives_every_temporary_fault() -> None:
    rows = reliability_page.PAGE.read(reliability_page.TRANSPORT)
    said = [
        fault.name for fault in transport.FAULTS if fault.passes and "+" in "".join(rows[fault.name].values())
    ]
    assert said == []


# reference_upgrades.rst


def test_every_jump_was_run_on_each_of_its_clusters() -> None:
    rows = upgrades_page.PAGE.read(upgrades_page.JUMPED)
    wanted = [jump for jump in (*jumps.STEPS, *jumps.JUMPS, *jumps.DOWNGRADES) for _cluster in jump.policies]
    assert len(rows) == len(wanted)
    assert {str(jump) for jump in wanted} <= set(rows)
    assert {row["... refused"] for row in rows.values()} == {"0"}


def test_every_chain_was_run_on_each_of_its_clusters() -> None:
    rows = upgrades_page.PAGE.read(upgrades_page.CHAINED)
    assert len(rows) == sum(len(way.policies) for way in jumps.CHAINS)
    assert {str(way) for way in jumps.CHAINS} <= set(rows)
    assert {row["... refused"] for row in rows.values()} == {"0"}


def test_every_damage_was_repaired() -> None:
    assert list(upgrades_page.PAGE.read(upgrades_page.REPAIRED)) == [
        damage.name for damage in repairs.DAMAGES
    ]


def test_every_fault_was_injected() -> None:
    rows = upgrades_page.PAGE.read(upgrades_page.MET)
    assert list(rows) == [fault.name for fault in faults.FAULTS]
    for fault in faults.FAULTS:
        assert rows[fault.name]["That run"] in fault.ends
        assert fault.may_refuse or rows[fault.name]["... refused"] == "0"


def test_runs_were_killed_at_every_step() -> None:
    rows = upgrades_page.PAGE.read(upgrades_page.KILLED)
    assert list(rows) == [str(jump) for jump in faults.KILLED_ALL_ALONG]
    assert {row["... refused"] for row in rows.values()} == {"0"}
