# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of k8s_csr become an Intent. An invalid option is refused with a remedy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import intent as intent_module

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    CLIENT,
    CLIENT_OPTIONS,
    CUSTOM,
    client_intent,
    intent,
    parameters,
)
from tests.unit.plugins.module_utils._csr.objects import APP_SERVING, KUBELET_SERVING, OWN

pytestmark = pytest.mark.quick

OPAQUE = {"type": "Opaque", "certificate_key": "cert.pem", "private_key_key": "key.pem"}
LONG = "a" * 64
OWN_HAND = {"signer_name": "ephemeral-ca"}

# (options that differ, names in the refusal; the first may be its code if that is not invalid-request)
BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"service": LONG}, (LONG,)),
    ({"service": "Hook"}, ("'Hook'",)),
    ({"service": "1hook"}, ("'1hook'",)),
    ({"namespace": "a.b"}, ("'a.b'",)),
    ({"namespace": ""}, ("''",)),
    ({"secret": {"name": "hook_tls"}}, ("'hook_tls'",)),
    ({"secret": {"name": "a" * 254}}, ("Secret", "a" * 254)),
    ({"secret": {"name": "a" * 246}, "approve": False}, ("246", "-pending", "245")),
    ({"names": ["under_score"]}, ("'under_score'", "names")),
    ({"names": [f"{LONG}.example.com"]}, (LONG, "63")),
    ({"names": ["10.0.0.0/8"]}, ("'10.0.0.0/8'", "names")),
    ({"names": ["kubernetes.default.svc"]}, ("'kubernetes.default.svc'", "allow_names:")),
    ({"names": ["other.apps.svc"]}, ("other.apps.svc", "apps/hook", "allow_names:")),
    ({"names": ["*.apps.svc"]}, ("['*.apps.svc']", "allow_names:")),
    ({"names": ["10.96.0.1"]}, ("10.96.0.1", "allow_names")),
    ({"service": None, "names": ["hook.example.com"]}, ("'hook.example.com'", "allow_names:")),
    ({"service": None}, ("service", "names")),
    ({"usages": ["client auth"]}, ("client-identity-not-allowed", "usages.", "hook")),
    ({"usages": ["server auth"]}, (KUBELET_SERVING, "usages")),
    ({"usages": ["digital signature"]}, ("usages",)),
    ({"usages": ["server auth", "no such usage"]}, ("usage",)),
    ({"signer_name": APP_SERVING, "usages": ["server auth", "timestamping"]}, ("timestamping", APP_SERVING)),
    ({"signer_name": CUSTOM, "usages": ["server auth", "cert sign"]}, ("sign", "usages.")),
    ({"signer_name": CUSTOM, "usages": ["server auth", "code signing"]}, ("signing", "usages.")),
    ({"signer_name": CUSTOM, "usages": ["server auth", "any"]}, ("client-identity-not-allowed", "usages.", "hook")),
    ({"signer_name": APP_SERVING, "key_type": "ed25519"}, ("ed25519", "ECDSA", "RSA")),
    ({"expiration_seconds": 599}, ("600", "expiration_seconds")),
    ({"organizations": ["system:masters"]}, ("system:nodes",)),
    ({"common_name": "hook"}, ("system:node:", "common_name")),
    ({"common_name": "system:node:" + LONG}, ("64", "common")),
    ({"signer_name": "kubernetes.io/legacy-unknown"}, ("v1beta1", KUBELET_SERVING, APP_SERVING)),
    ({"signer_name": "kubelet-serving"}, ("<domain>/<path>", KUBELET_SERVING)),
    ({**OWN_HAND, "approve": False}, ("ephemeral-ca", "approve")),
    ({**OWN_HAND, "usages": ["client auth"]}, ("ephemeral-ca", CLIENT)),
    ({**OWN_HAND, "usages": ["server auth", "client auth"]}, ("ephemeral-ca", "usages")),
    ({**OWN_HAND, "expiration_seconds": 599}, ("600", "expiration_seconds")),
    ({**OWN_HAND, "expiration_seconds": 10**12}, ("2147483647",)),
    ({**OWN_HAND, "secret": {**OPAQUE, "certificate_key": "ca.crt"}}, ("certificate_key,", "private_key_key", "ca_key")),
    ({"renew_before": "soon"}, ("'soon'", "30d")),
    ({"renew_before": "-1d"}, ("'-1d'", "30d")),
    ({"renew_before": "9999999999d"}, ("'9999999999d'", "30d")),
    ({**CLIENT_OPTIONS, "allow_client_identity": False}, ("client-identity-not-allowed", "allow_client_identity:")),
    ({**CLIENT_OPTIONS, "organizations": None}, ("organizations:", "[]")),
    ({**CLIENT_OPTIONS, "common_name": None}, ("common_name", "allow_client_identity")),
    ({**CLIENT_OPTIONS, "organizations": ["é" * 33]}, ("66", "64", "organization")),
    ({**CLIENT_OPTIONS, "organizations": ["system:masters"]}, ("system:masters",)),
    ({"signer_name": CLIENT, "common_name": "jane"}, ("client-identity-not-allowed", KUBELET_SERVING, APP_SERVING, "hook")),
    ({"signer_name": CLIENT}, ("client-identity-not-allowed", KUBELET_SERVING, APP_SERVING, "hook")),
    ({"secret": {"certificate_key": "cert.pem"}}, ("tls.crt", "tls.key", "Opaque")),
    ({"secret": {**OPAQUE, "private_key_key": "a/b"}}, ("'a/b'",)),
    ({"secret": {**OPAQUE, "ca_key": "cert.pem"}}, ("certificate_key,", "private_key_key", "ca_key")),
    ({"secret": {"labels": {"tier": 1}}}, ("tier:", "labels")),
    ({"secret": {"annotations": {"on": True}}}, ("on:", "'on':", "'True'")),
    ({"secret": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, ("app.kubernetes.io/managed-by", "labels")),
    ({"secret": {"annotations": {"certflow.kubernetes/service": "x"}}}, ("certflow.kubernetes/service", "annotations")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "names"), BAD, ids=lambda value: str(value)[:60])
def test_bad_options(options: dict[str, Any], names: tuple[str, ...]) -> None:
    code = names[0] if names[0] == "client-identity-not-allowed" else "invalid-request"
    with fails(code, *(name for name in names if name != code)) as caught:
        intent_module.intent_from(parameters(**options))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy, str(caught.value)


def test_the_defaults_of_a_service() -> None:
    wanted = intent()
    assert wanted.request.dns_names == OWN
    assert wanted.request.common_name == "system:node:hook.apps.svc"
    assert wanted.request.organizations == ("system:nodes",)
    assert (wanted.request.key_type, wanted.request.expiration_seconds) == ("ecdsa-p256", None)
    assert wanted.secret.path == "/api/v1/namespaces/apps/secrets/hook-tls"
    assert wanted.secret.data_keys == {"tls.crt", "tls.key"}
    assert wanted.verified_name == "hook.apps.svc"
    assert str(wanted) == "certificate of Service apps/hook"


def test_the_ephemeral_ca_is_stored() -> None:
    assert intent(**OWN_HAND).secret.ca_key == "ca.crt"
    assert intent(**OWN_HAND, secret={**OPAQUE, "ca_key": "ca.pem"}).secret.ca_key == "ca.pem"
    assert intent().secret.ca_key == ""
    assert intent(**OWN_HAND, wait=False).request.common_name == "hook.apps.svc"


def test_a_client_certificate_has_no_names() -> None:
    wanted = client_intent(service="hook")
    assert wanted.request.dns_names == ()
    assert wanted.verified_name is None
    assert wanted.is_client
    assert str(client_intent()) == "certificate of user jane"


def test_names_have_one_spelling_and_stand_once() -> None:
    """The certificate comes back in the normal form: another spelling would differ from it at every run."""
    names = ["Hook.Apps.SVC.", "hook.apps.svc.cluster.local", "0:0::1", "::1", "::ffff:192.0.2.1"]
    wanted = intent(names=names, allow_names=["::1", "192.0.2.1"])
    assert wanted.request.dns_names == (*OWN, "hook.apps.svc.cluster.local")
    assert wanted.request.ip_addresses == ("::1", "192.0.2.1")


def test_names_without_a_service_are_verified_by_the_first() -> None:
    wanted = intent(
        service=None,
        signer_name=CUSTOM,
        common_name="x",
        names=["a.example.com", "b.example.com"],
        allow_names=["a.example.com", "b.example.com"],
    )
    assert wanted.verified_name == "a.example.com"


@pytest.mark.parametrize("name", ["a" * 100, f"{'a' * 64}.b", "a" * 253])
def test_the_name_of_a_secret_has_no_limit_but_its_length(name: str) -> None:
    assert intent(secret={"name": name}).secret.name == name


def test_a_waiting_key_has_room_for_its_name() -> None:
    assert intent(secret={"name": "a" * 245}, approve=False).secret.name == "a" * 245


@pytest.mark.parametrize(
    "options", [{}, {"service": None}, {"secret": {"name": "a" * 253}, "approve": False}]
)
def test_state_absent_needs_no_signer(options: dict[str, Any]) -> None:
    wanted = intent(state="absent", signer_name=None, **options)
    assert "hook" in str(wanted) or "Secret apps/" in str(wanted)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("600", timedelta(seconds=600)),
        ("600s", timedelta(seconds=600)),
        ("999999999d", timedelta(days=999999999)),
    ],
)
def test_durations(text: str, span: timedelta) -> None:
    assert intent_module.parse_duration(text) == span
