# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide by the API server's clock what has expired, and do not let a wrong clock of this machine end a trust or renew without end."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import certificate_flow, gather
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)

from tests.support.certificates.authority import authority
from tests.unit.plugins.module_utils._csr.flow import MARKED, ScriptedApi, intent, leaf, secret_object
from tests.unit.plugins.module_utils._csr.objects import encoded

MODULE_UTILS = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
# The API server's clock is that of this machine until it is set.
# Under Python 3.9 served_chains checks if a certificate has a known authority, which does not depend on a date.
OWN_CLOCK = {"_base/times.py", "_webhook/endpoints/served_chains.py"}

DAY = timedelta(days=1)
YEAR = 365 * DAY
# This machine's clock is a year ahead of the API server's.
NOW = datetime.now(timezone.utc) - YEAR
TARGET = Target("ValidatingWebhookConfiguration", "hook")
OTHER = authority("another team's", not_before=NOW - YEAR, not_after=NOW + 100 * DAY)
LIVING = authority("cluster", not_before=NOW - YEAR, not_after=NOW + 10 * YEAR)
GONE = authority("expired", not_before=NOW - YEAR, not_after=NOW - DAY)


def reads_the_clock(path: Path) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = {ast.unparse(function) for function in calls}
    return not names.isdisjoint({"datetime.now", "datetime.utcnow", "datetime.today", "date.today"})


def test_only_the_servers_clock_reads_this_machines_clock() -> None:
    files = sorted(path for path in MODULE_UTILS.rglob("*.py") if reads_the_clock(path))
    assert {str(path.relative_to(MODULE_UTILS)) for path in files} == OWN_CLOCK


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
    monkeypatch.setattr(ScriptedApi, "later", lambda _api: NOW + YEAR)
    return ScriptedApi({bundle_targets.path(TARGET): configuration(OTHER.pem + GONE.pem)})


def configuration(bundle: str) -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(bundle)}
    return {
        "metadata": {"name": "hook", "resourceVersion": "7"},
        "webhooks": [{"name": "w", "clientConfig": config}],
    }


def test_an_anchor_that_has_not_expired_stays(api: Any) -> None:
    options: dict[str, Any] = {
        "ca_bundle": LIVING.pem,
        "cluster_trust_bundle": None,
        "certificate": None,
        "mode": "add",
        "service": None,
        "accept": [],
    }
    targets = [{"kind": TARGET.kind, "name": TARGET.name}]
    assert webhook_cabundle.run(api, {**options, "targets": targets}, False).changed
    assert api.sent[-1][-1]["value"] == encoded(OTHER.pem + LIVING.pem), "and what has expired goes"


def test_a_certificate_that_is_not_due_is_kept(api: Any) -> None:
    held = leaf(by=LIVING, not_before=NOW - DAY, not_after=NOW + 300 * DAY)
    api.objects[intent().secret.path] = secret_object(
        held, **{**MARKED, "labels": markers.labels_for(intent().secret)}
    )
    api.connection = replace(api.connection, ca_pem=LIVING.pem)
    run = CertificateRun(api, intent())
    result = certificate_flow._obtain_or_keep(run, gather.gather(run, gather.read_secret(run)))
    assert (result.changed, result.values["reason"]) == (False, "the certificate is kept")
