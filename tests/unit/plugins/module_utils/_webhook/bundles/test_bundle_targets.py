# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._webhook import objects
from tests.unit.plugins.module_utils._webhook.objects import (
    api_service,
    client_config,
    configuration,
    definition,
)

VALIDATING = Target("ValidatingWebhookConfiguration", "hooks")
DEFINITION = Target("CustomResourceDefinition", "things.example.com")
API_SERVICE = Target("APIService", "v1.example.com")


def test_an_object_named_twice_is_one_target() -> None:
    entries: list[dict[str, Any]] = [
        {"kind": "ValidatingWebhookConfiguration", "name": "a", "webhooks": ["x", "y"]},
        {"kind": "MutatingWebhookConfiguration", "name": "a", "webhooks": None},
        {"kind": "ValidatingWebhookConfiguration", "name": "a", "webhooks": ["y", "z"]},
    ]
    assert bundle_targets.targets_from(entries) == (
        Target("ValidatingWebhookConfiguration", "a", ("x", "y", "z")),
        Target("MutatingWebhookConfiguration", "a"),
    )


@pytest.mark.parametrize("webhooks", [(["x"], []), ([], ["x"]), (None, ["x"])])
def test_all_and_some_webhooks_are_all(webhooks: tuple[Any, Any]) -> None:
    entries = [{"kind": VALIDATING.kind, "name": "hooks", "webhooks": names} for names in webhooks]
    assert bundle_targets.targets_from(entries) == (VALIDATING,)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"kind": "Secret", "name": "a"}, ("Secret", "CustomResourceDefinition")),
        ({"kind": "APIService", "name": ""}, ("''",)),
        ({"kind": "APIService", "name": "../secrets"}, ("'../secrets'",)),
        ({"kind": "APIService", "name": "a/b"}, ("'a/b'",)),
        ({"kind": "APIService", "name": "a?x"}, ("'a?x'",)),
        ({"kind": "APIService", "name": "a\n"}, ("'a\\n'",)),
        ({"kind": "APIService", "name": "a" * 254}, ("a" * 254,)),
        ({"kind": "APIService", "name": "v1.x", "webhooks": ["y"]}, ("v1.x", "webhooks")),
    ],
)
def test_a_bad_target_is_refused(entry: dict[str, Any], names: tuple[str, ...]) -> None:
    with fails("invalid-target", *names):
        bundle_targets.targets_from([entry])


@pytest.mark.parametrize(
    ("target", "obj", "expected"),
    [
        (
            VALIDATING,
            configuration(("a.x.io", client_config("pem")), ("b.x.io", client_config(service=("n", "s")))),
            [
                ("a.x.io", "/webhooks/0/clientConfig", "/webhooks/0/name", "hook.kube-system.svc", "pem"),
                ("b.x.io", "/webhooks/1/clientConfig", "/webhooks/1/name", "s.n.svc", ""),
            ],
        ),
        (
            DEFINITION,
            definition(client_config(service=None, url="https://Hook.Example.com:9443/convert")),
            [("", "/spec/conversion/webhook/clientConfig", "", "hook.example.com", "")],
        ),
        (
            DEFINITION,
            definition(client_config(service=None, url="https://[2001:db8::1]:9443/convert")),
            [("", "/spec/conversion/webhook/clientConfig", "", "2001:db8::1", "")],
        ),
        (API_SERVICE, api_service(**client_config("pem")), [("", "/spec", "", "hook.kube-system.svc", "pem")]),
    ],
)  # fmt: skip
def test_client_configs_of_each_kind(
    target: Target, obj: dict[str, Any], expected: list[tuple[str, ...]]
) -> None:
    found = bundle_targets.client_configs(target, obj)
    assert [(c.webhook, c.pointer, c.name_pointer, c.server_name, c.ca_bundle) for c in found] == expected


TWO = configuration(("a.x.io", client_config()), ("b.x.io", client_config(service=("n", "s"))))


@pytest.mark.parametrize(
    ("webhooks", "service", "expected"),
    [
        ((), None, ["a.x.io", "b.x.io"]),
        (("b.x.io",), None, ["b.x.io"]),
        ((), objects.SERVICE, ["a.x.io"]),
        (("b.x.io",), ("n", "s"), ["b.x.io"]),
    ],
)
def test_webhooks_are_chosen_by_name_and_by_service(
    webhooks: tuple[str, ...], service: tuple[str, str] | None, expected: list[str]
) -> None:
    target = Target(VALIDATING.kind, "hooks", webhooks)
    assert [
        config.webhook for config in bundle_targets.client_configs(target, TWO, service=service)
    ] == expected


@pytest.mark.parametrize(
    ("target", "obj", "service", "names"),
    [
        (Target(VALIDATING.kind, "hooks", ("c.x.io",)), TWO, None, ("hooks", "c.x.io", "a.x.io", "b.x.io")),
        (VALIDATING, configuration(), None, ("hooks",)),
        (Target(VALIDATING.kind, "hooks", ("c.x.io",)), configuration(), None, ("hooks", "c.x.io")),
        (VALIDATING, TWO, ("n", "t"), ("n/t", "kube-system/hook", "n/s")),
        (Target(VALIDATING.kind, "hooks", ("a.x.io", "b.x.io")), TWO, ("n", "s"), ("hooks", "n/s", "kube-system/hook")),
        (DEFINITION, definition(client_config(service=None, url="https://hook/")), ("n", "s"), ("things.example.com", "n/s", "https://hook")),
        (DEFINITION, definition(None), None, ("things.example.com", "spec.conversion.strategy")),
        (API_SERVICE, api_service(), None, ("v1.example.com", "spec.service")),
        (API_SERVICE, api_service(insecureSkipTLSVerify=True, **client_config()), None, ("v1.example.com", "insecureSkipTLSVerify")),
    ],
)  # fmt: skip
def test_an_unfit_object_is_refused(
    target: Target, obj: dict[str, Any], service: tuple[str, str] | None, names: tuple[str, ...]
) -> None:
    with fails("invalid-target", *names) as caught:
        bundle_targets.client_configs(target, obj, service=service)
    assert caught.value.remedy


@pytest.mark.parametrize("value", ["", "Cg==", "ICAgCg==", "/////w==", "!", None])
def test_a_placeholder_is_no_bundle(value: str | None) -> None:
    obj = configuration(("a.x.io", {**client_config(), "caBundle": value}))
    assert "CERTIFICATE" not in bundle_targets.client_configs(VALIDATING, obj)[0].ca_bundle
