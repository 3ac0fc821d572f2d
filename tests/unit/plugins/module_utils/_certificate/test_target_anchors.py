# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of anchors, and the anchors on the targets."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import target_anchors
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    TargetState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_patch,
    bundle_targets,
)

from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._certificate.runs import (
    HOOK,
    MARK,
    NEW,
    OLD,
    SECOND,
    pem,
    webhook,
)
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
    ca,
    found,
    intent,
)

pytestmark = pytest.mark.quick


def change(*bundles: tuple[str, str]) -> bundle_patch.TargetChange:
    """One webhook for each pair of bundles, before and after."""
    made = [
        bundle_patch.BundleChange(
            bundle_targets.ClientConfig(f"h{number}", "", "", "hook.apps.svc", None, before), after
        )
        for number, (before, after) in enumerate(bundles)
    ]
    return bundle_patch.TargetChange(HOOK, "1", tuple(made))


RECORDS: list[tuple[str, list[tuple[str, str]], str]] = [
    ("", [("", pem("cluster"))], f"{MARK}{NEW}"),
    ("", [(pem("cluster"), pem("cluster"))], ""),
    ("", [(pem("old"), pem("old", "cluster"))], f"{MARK}{NEW}"),
    # Another client had added it to one webhook, so that webhook keeps it.
    ("", [(pem("cluster"), pem("cluster")), ("", pem("cluster"))], f"{SECOND}{NEW}"),
    (f"{MARK}{NEW}", [(pem("cluster"), pem("cluster")), ("", pem("cluster"))], f"{MARK}{NEW} {SECOND}{NEW}"),
    (f"{MARK}{OLD}", [(pem("old"), pem("old", "cluster"))], " ".join(sorted([f"{MARK}{NEW}", f"{MARK}{OLD}"]))),
    # An anchor that a target no longer has leaves the record.
    (f"{MARK}{OLD}", [("", pem("cluster"))], f"{MARK}{NEW}"),
    ("APIService/x=abc", [("", pem("cluster"))], f"APIService/x=abc {MARK}{NEW}"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "bundles", "after"), RECORDS)
def test_only_added_anchors_are_recorded(before: str, bundles: list[tuple[str, str]], after: str) -> None:
    annotations = {"certflow.kubernetes/added-anchors": before} if before else {}
    assert target_anchors.record_added(annotations, [change(*bundles)]) == after


def test_only_recorded_anchors_are_removed() -> None:
    path = bundle_targets.path(HOOK)
    api = ScriptedApi({path: webhook("old", "cluster")})
    record = {"certflow.kubernetes/added-anchors": f"{MARK}{NEW} {MARK}{ca('gone').fingerprint}"}
    [planned] = target_anchors.plan_removal(api, intent(), [HOOK], record)  # type: ignore[arg-type]
    assert planned.bundles[0].after == pem("old")
    assert target_anchors.plan_removal(api, intent(), [HOOK], {}) == ()  # type: ignore[arg-type]
    assert target_anchors.plan_removal(ScriptedApi(), intent(), [HOOK], record) == ()  # type: ignore[arg-type]


def test_each_webhook_loses_only_its_added_anchors() -> None:
    """Another client had added that CA to the second webhook."""
    both = webhook("cluster")
    both["webhooks"].append({**both["webhooks"][0], "name": "h1"})
    record = {"certflow.kubernetes/added-anchors": f"{MARK}{NEW}"}
    api = ScriptedApi({bundle_targets.path(HOOK): both})
    [planned] = target_anchors.plan_removal(api, intent(), [HOOK], record)  # type: ignore[arg-type]
    assert [bundle.after for bundle in planned.bundles] == ["", pem("cluster")]
    assert len(planned.operations) == 3, "a lock, and one webhook's guard and bundle"


def test_a_recorded_anchor_saves_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenShift signs with its own CA. A run without change still needs three requests, not four."""
    held = found(annotations={"certflow.kubernetes/added-anchors": f"{MARK}{NEW}"})
    seen = TargetState(HOOK, webhook("old", "cluster"))
    api = ScriptedApi(ca_pem=pem("old"))
    anchor = target_anchors.find_anchor(api, intent(), held, (seen,), NOW)  # type: ignore[arg-type]
    assert anchor.pem == pem("cluster")
    assert api.asked == []
