# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON patch operations of each change. An object that needs no change gets none."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import NotYetError
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import patches

from tests.support.failures import fails

Object = dict[str, Any]

SERVICE = {"namespace": "default", "name": "conversion", "path": "/convert"}
WEBHOOK = {
    "strategy": "Webhook",
    "webhook": {
        "clientConfig": {"service": {**SERVICE, "port": 443}, "caBundle": "Q0E="},
        "conversionReviewVersions": ["v1"],
    },
}
NONE = {"strategy": "None"}
OLD_RULES = [{"resources": ["volumesnapshots"]}]
RULES = [{"resources": ["volumesnapshotclasses"]}]
FIRST = {"op": "test", "path": "/webhooks/0/name", "value": "first"}
SECOND = {"op": "test", "path": "/webhooks/1/name", "value": "second"}


def _crd(conversion: Object | None) -> Object:
    return {"spec": {"conversion": conversion} if conversion else {}}


def _configuration(**webhook: Any) -> Object:
    first = {"name": "first", "rules": OLD_RULES, "failurePolicy": "Fail"}
    return {
        "metadata": {"name": "both"},
        "webhooks": [first, {"name": "second", "rules": OLD_RULES, "failurePolicy": "Ignore", **webhook}],
    }


def _service(port: int | str = 443) -> Object:
    return {"spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": port}]}}


# A case: the operations, and the expected ones.
CASES: dict[str, tuple[list[Object], list[Object]]] = {
    "a conversion webhook goes as a whole": (
        patches.disable_conversion(_crd(WEBHOOK)), [{"op": "replace", "path": "/spec/conversion", "value": NONE}],
    ),
    "one that has gone": (patches.disable_conversion(_crd(NONE)), []),
    "one that never was": (patches.disable_conversion(_crd(None)), []),
    "a conversion webhook comes with its caBundle": (
        patches.call_webhook(_crd(NONE), SERVICE, "Q0E="), [{"op": "add", "path": "/spec/conversion", "value": WEBHOOK}],
    ),
    "it is there": (patches.call_webhook(_crd(WEBHOOK), SERVICE, "Q0E="), []),
    "rules of one webhook, under its name": (
        patches.replace_rules(_configuration(), {"second": RULES}),
        [SECOND, {"op": "add", "path": "/webhooks/1/rules", "value": RULES}],
    ),
    "no rules at all": (patches.replace_rules(_configuration(), {"first": []}), [FIRST, {"op": "add", "path": "/webhooks/0/rules", "value": []}]),
    "rules that are as wanted": (patches.replace_rules(_configuration(rules=RULES), {"second": RULES}), []),
    "the failurePolicy where it is another": (
        patches.set_failure_policy(_configuration(), "Fail"),
        [SECOND, {"op": "add", "path": "/webhooks/1/failurePolicy", "value": "Fail"}],
    ),
    "the failurePolicy everywhere": (patches.set_failure_policy(_configuration(failurePolicy="Fail"), "Fail"), []),
    "selector and port of a Service in one write": (
        patches.set_selector(_service(), {"app": "new"}, 8443),
        [{"op": "add", "path": "/spec/selector", "value": {"app": "new"}}, {"op": "add", "path": "/spec/ports/0/targetPort", "value": 8443}],
    ),
    "a selector alone": (patches.set_selector(_service(), {"app": "new"}, None), [{"op": "add", "path": "/spec/selector", "value": {"app": "new"}}]),
    "a Service that leads there": (patches.set_selector(_service(8443), {"app": "hook"}, 8443), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operations(case: str) -> None:
    decided, wanted = CASES[case]
    assert decided == wanted


def test_rules_of_a_webhook_that_does_not_exist() -> None:
    with fails("invalid-step", "third") as caught:
        patches.replace_rules(_configuration(), {"third": RULES})
    assert isinstance(caught.value, NotYetError)


@pytest.mark.parametrize(("conversion", "bundle"), [(WEBHOOK, "Q0E="), (NONE, ""), (None, "")])
def test_the_bundle_of_a_definition(conversion: Object | None, bundle: str) -> None:
    assert patches.read_bundle(_crd(conversion)) == bundle


def test_another_ca_is_a_change() -> None:
    (operation,) = patches.call_webhook(_crd(WEBHOOK), SERVICE, "bmV3")
    assert operation["value"]["webhook"]["clientConfig"] == {
        "service": {**SERVICE, "port": 443},
        "caBundle": "bmV3",
    }
