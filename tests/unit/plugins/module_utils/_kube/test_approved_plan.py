# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison with an approved plan: each option of a module changes it, or is in the table of exclusions with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import approved_plan
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import (
    UNCOVERED,
    PlanGuard,
    Write,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    k8s_csr,
    snapshot_controller,
    webhook_repair,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._action import role_options
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import specs

from tests.support.failures import fails

pytestmark = pytest.mark.quick

UID = "5d1c0a8e-0000-4000-8000-000000000001"
# Role -> the argument spec of its module, and the options of a run.
ROLES: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {
    "webhook_certificate": (
        k8s_csr.SPEC,
        {
            "service": "hook",
            "namespace": "demo",
            "secret": {"name": "tls"},
            "probe": {"object": {"kind": "Pod"}, "expect": "allowed"},
        },
    ),
    "snapshot_controller": (
        snapshot_controller.ARGUMENTS,
        {"version": "8.5.0"},
    ),
}
# The same for every module that compares its writes with a plan.
MODULES = {**ROLES, "webhook_repair": (webhook_repair.SPEC, {})}
# Another value of an option, if the value does not follow from its type.
VALUES: dict[str, Any] = {"failure_policy": "Fail", "kinds": ["reload"], "providers": {"eks": "x"}}


class Api:
    """An API server that shows the UID of its cluster."""

    def __init__(self, uid: str = UID) -> None:
        self.uid = uid

    def get(self, _path: str) -> dict[str, Any]:
        if not self.uid:
            raise Forbidden("not allowed", status=403)
        return {"metadata": {"uid": self.uid}}


def begin(role: str, given: Mapping[str, Any], *, uid: str = UID, check_mode: bool = True) -> PlanGuard:
    spec = MODULES[role][0]
    checked = ArgumentSpecValidator(dict(spec)).validate(dict(given))
    assert not checked.error_messages, checked.error_messages
    return approved_plan.begin(
        cast("Client", Api(uid)), checked.validated_parameters, spec, check_mode=check_mode
    )


def another_value(name: str, spec: Mapping[str, Any]) -> Any:
    """Return a value of an option that is not its default."""
    default = spec.get("default")
    if name in VALUES:
        return VALUES[name]
    choices = [choice for choice in spec.get("choices", ()) if choice != default]
    simple: dict[str, Any] = {
        "bool": not default,
        "int": 7 if default is None else int(default) + 7 if spec["type"] == "int" else 0,
        "dict": {"x": "y"},
        "path": "/other",
        "raw": "other",
        "str": choices[0] if choices else "other",
    }
    if spec["type"] != "list":
        return simple[spec["type"]]
    return [choices[0] if choices else {"x": "y"} if spec.get("elements") == "dict" else "other"]


def changes(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each option and suboption with options that have another value for it."""
    for name, option in spec.items():
        if option.get("options") and name != "approved_plan":
            own = option["options"]
            for inner, row in own.items():
                required = {key: another_value(key, row) for key, row in own.items() if row.get("required")}
                before = (given.get(name) or {}) if option["type"] == "dict" else {}
                whole = {**required, **before, inner: another_value(inner, row)}
                yield f"{name}.{inner}", {**given, name: whole if option["type"] == "dict" else [whole]}
        elif name != "approved_plan":
            yield name, {**given, name: another_value(name, option)}


CHANGES = [
    (role, name, given) for role, (spec, base) in MODULES.items() for name, given in changes(spec, base)
]


@pytest.mark.parametrize(("role", "name", "given"), CHANGES, ids=[f"{row[0]}-{row[1]}" for row in CHANGES])
def test_each_option_is_covered_or_has_a_reason(role: str, name: str, given: dict[str, Any]) -> None:
    """A new option fails here until it changes the plan, or has a row in UNCOVERED."""
    before, after = begin(role, MODULES[role][1]), begin(role, given)
    option = name.partition(".")[0]
    assert (before.fixed != after.fixed) == (option not in UNCOVERED)


# Module -> options whose lists have no order.
LISTS: list[tuple[str, dict[str, Any]]] = [
    (
        "webhook_certificate",
        {
            "names": ["a.test", "b.test", "c.test"],
            "accept": ["kubectl", {"unseen": ["Pod/a", "Pod/b"]}],
            "targets": [{"kind": "APIService", "name": "a"}, {"kind": "APIService", "name": "b"}],
        },
    ),
    ("snapshot_controller", {"accept": ["kubectl", {"unseen": ["Pod/a"]}]}),
    ("webhook_repair", {"kinds": ["add-ca", "reload"], "cluster_ca": {"outgoing": ["a", "b"]}}),
]


@pytest.mark.parametrize(("role", "given"), LISTS, ids=[row[0] for row in LISTS])
def test_the_order_of_a_list_is_no_difference(role: str, given: dict[str, Any]) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(item) for name, item in value.items()}
        return [*map(turned, reversed(value))] if isinstance(value, list) else value

    base = MODULES[role][1]
    plan, other = begin(role, {**base, **given}), begin(role, {**base, **turned(given)})
    assert plan.fixed == other.fixed
    shorter = {name: value[1:] if isinstance(value, list) else {} for name, value in given.items()}
    assert not set(begin(role, {**base, **shorter}).fixed) >= set(plan.fixed)


def test_the_order_of_arguments_is_a_difference() -> None:
    """A partial Deployment has lists with an order."""
    containers = [{"name": name} for name in "ab"]
    plans = [
        begin("snapshot_controller", {"version": "8.5.0", "controller": {"spec": value}}).fixed
        for value in (containers, containers[::-1])
    ]
    assert plans[0] != plans[1]


def test_the_exclusions_are_options_with_reasons() -> None:
    assert set(UNCOVERED) <= {name for spec, _given in MODULES.values() for name in spec}
    assert all(reason.strip() for reason in UNCOVERED.values())


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_of_a_role_is_an_option(role: str) -> None:
    """Variables reach the plan as options of the module. The rest of the connection is not covered."""
    spec = specs.of_role(role)
    options = ROLES[role][0]
    for name, option in role_options._variables(role).items():
        assert name in options, option
    connection = spec.options[f"{role}_connection"]["options"]
    assert {name for name in connection if name not in UNCOVERED} == {"validate_certs"}


def test_the_value_of_an_option_approves_no_write() -> None:
    """A list in an option may be equal to the content of a write."""
    content = ["ValidatingWebhookConfiguration", "pods", "pods.acme.com"]
    given = {"service": "hook", "namespace": "demo", "secret": {"name": "tls"}, "requesters": content}
    plan = begin("webhook_certificate", given).as_result()["plan_digests"]
    guard = begin("webhook_certificate", {**given, "approved_plan": plan}, check_mode=False)
    with fails("plan-differs", "pods"):
        guard.allow([Write("target", "the CA bundle of pods", content)])


def test_without_check_mode_and_plan_nothing_is_read() -> None:
    guard = begin("snapshot_controller", {"version": "8.5.0"}, uid="", check_mode=False)
    guard.allow(iter([Write("x", "x", {})]))
    assert guard.as_result() == {}


def test_without_the_uid_there_is_no_plan() -> None:
    assert begin("snapshot_controller", {"version": "8.5.0"}, uid="").as_result() == {}
    plan = begin("snapshot_controller", {"version": "8.5.0"}).as_result()["plan_digests"]
    with pytest.raises(Forbidden):
        begin("snapshot_controller", {"version": "8.5.0", "approved_plan": plan}, uid="", check_mode=False)


PLANNED = (Write("crds", "step crds", {"a": 1}), Write("controller", "step controller", {"b": 1}))


def approve(**given: Any) -> dict[str, Any]:
    guard = begin("snapshot_controller", {"version": "8.5.0", **given})
    guard.allow(PLANNED)
    return {"approved_plan": guard.as_result()["plan_digests"]}


# The writes of the run, and the write that the plan does not have.
WRITES: tuple[tuple[tuple[Write, ...], str], ...] = (
    (PLANNED, ""),
    (PLANNED[:1], ""),
    ((), ""),
    ((Write("other", "step other", {"a": 1}),), ""),
    ((Write("crds", "step crds", {"a": 2}),), "crds"),
    ((*PLANNED, Write("orphan", "step orphan", {})), "orphan"),
)


@pytest.mark.parametrize(("writes", "differing"), WRITES)
def test_a_plan_is_an_upper_bound(writes: tuple[Write, ...], differing: str) -> None:
    guard = begin("snapshot_controller", {"version": "8.5.0", **approve()}, check_mode=False)
    if not differing:
        guard.allow(writes)
        return
    with fails("plan-differs", differing) as caught:
        guard.allow(writes)
    assert len(caught.value.evidence) == 1


@pytest.mark.parametrize(
    ("given", "uid", "options"),
    [
        ({"version": "8.5.0"}, "another", []),
        ({"version": "8.6.0"}, UID, ["version"]),
        ({"version": "8.5.0", "image_registry": "evil.example.com"}, UID, ["image_registry"]),
        ({"version": "8.5.0", "namespace": "demo", "undo": False}, UID, ["namespace", "undo"]),
    ],
)
def test_another_cluster_or_option_is_refused_at_once(
    given: dict[str, Any], uid: str, options: list[str]
) -> None:
    with fails("plan-differs", *options) as caught:
        begin("snapshot_controller", {**given, **approve()}, uid=uid, check_mode=False)
    assert len(caught.value.evidence) == max(1, len(options))


def test_an_option_of_the_plan_that_the_run_lacks_is_a_difference() -> None:
    with fails("plan-differs", "accept"):
        begin("snapshot_controller", {"version": "8.5.0", **approve(accept=["arguments-dropped"])})


def test_a_difference_names_an_entry_that_is_not_a_digest() -> None:
    with fails("plan-differs", "'prod'"):
        begin("snapshot_controller", {"version": "8.5.0", "approved_plan": ["prod"]}, check_mode=False)
