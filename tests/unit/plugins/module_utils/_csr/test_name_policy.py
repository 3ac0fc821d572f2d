# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that may be requested, and names that are refused."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import name_policy
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.name_policy import GuardedNames

from tests.support.failures import fails

pytestmark = pytest.mark.quick

CLUSTER = GuardedNames(
    api_server=("api.example.com", "203.0.113.7", "2001:db8::7"),
    nodes=("hook", "10.1.0.4", "node-1"),
    networks=("10.96.0.0/12", "fd00:10:96::/112"),
)

WILDCARD = "a wildcard permits names that no rule has checked"
INSIDE = "it is the API server's name inside the cluster"
API = "it is the API server's"
NODE = "it is a node's"
NETWORK = "it is an address of the service network"
AMBIGUOUS = "it is a number, which programs read as different addresses"
OUTSIDE = "it does not belong to Service apps/hook"

NAMES = [
    ("hook.apps", ""),
    ("hook.apps.svc", ""),
    ("HOOK.apps.svc.", ""),
    ("hook.apps.svc.cluster.local", ""),
    ("hook.apps.svc.CLUSTER.local.", ""),
    # A domain of the Internet, whose owner would answer for the name.
    ("hook.apps.svc.corp.example.com", OUTSIDE),
    ("hook.apps.svc.attacker.example", OUTSIDE),
    ("hook.apps.svc.local", OUTSIDE),
    ("hook.apps.svc.cluster.local.attacker.example", OUTSIDE),
    ("hook.apps.svc.xcluster.local", OUTSIDE),
    ("hook.apps.cluster.local", OUTSIDE),
    ("hook", NODE),  # a Service may be called like a node
    ("hook.other.svc", OUTSIDE),
    ("other", OUTSIDE),
    ("hook.appsXsvc", OUTSIDE),
    ("hook.apps.svcx", OUTSIDE),
    ("x.hook.apps.svc", OUTSIDE),
    ("localhost", OUTSIDE),
    ("", OUTSIDE),
    ("*", WILDCARD),
    ("*.apps.svc", WILDCARD),
    ("*.hook.apps.svc", WILDCARD),
    ("kubernetes", INSIDE),
    ("kubernetes.default", INSIDE),
    ("Kubernetes.Default.SVC.", INSIDE),
    ("kubernetes.default.svc.cluster.local", INSIDE),
    ("kubernetes.defaults", OUTSIDE),
    ("api.example.com", API),
    ("API.example.com", API),
    ("203.0.113.7", API),
    ("10.1.0.4", NODE),
    ("node-1", NODE),
    ("10.96.0.1", NETWORK),
    ("10.111.255.255", NETWORK),
    ("fd00:10:96:0::a", NETWORK),
    ("10.112.0.0", OUTSIDE),
    # One address in many notations: to Go, and so to the API server, ::ffff:a.b.c.d is a.b.c.d.
    ("::ffff:10.96.0.1", NETWORK),
    ("::ffff:a60:1", NETWORK),
    ("0:0:0:0:0:FFFF:10.96.0.1", NETWORK),
    ("0000:0000:0000:0000:0000:ffff:0a60:0001", NETWORK),
    ("fd00:0010:0096:0000:0000:0000:0000:000A", NETWORK),
    ("::ffff:203.0.113.7", API),
    ("2001:0DB8::0007", API),
    ("2001:db8:0:0:0:0:0:7", API),
    ("::ffff:10.1.0.4", NODE),
    ("::10.96.0.1", OUTSIDE),  # to Go another address
    ("::ffff:10.112.0.0", OUTSIDE),
    # Programs read these as 10.96.0.1, as another address, or as a DNS name.
    ("010.096.000.001", AMBIGUOUS),
    ("10.96.1", AMBIGUOUS),
    ("0x0a600001", AMBIGUOUS),
    ("174063617", AMBIGUOUS),
    ("10.96.0.0x1.", AMBIGUOUS),
    ("node-1.2x", OUTSIDE),
    ("other.123", OUTSIDE),  # a namespace may be a number
    ("https://10.112.0.0", OUTSIDE),
    ("user@example.com", OUTSIDE),
    ("spiffe://cluster.local/x", OUTSIDE),
]


@pytest.mark.parametrize(("name", "reason"), NAMES)
def test_name(name: str, reason: str) -> None:
    found = name_policy.forbidden_names([name], service="hook", namespace="apps", cluster=CLUSTER)
    assert [(refusal.name, refusal.reason) for refusal in found] == ([(name, reason)] if reason else [])


@pytest.mark.parametrize("name", [name for name, reason in NAMES if reason])
def test_spelled_out_name_is_fine_and_only_that_one(name: str) -> None:
    found = name_policy.forbidden_names(
        [name, "other.example.com"], service="hook", namespace="apps", allow=[name], cluster=CLUSTER
    )
    assert [refusal.name for refusal in found] == ["other.example.com"]


def test_allow_names_compares_names_not_texts() -> None:
    assert name_policy.forbidden_names(["Other."], ["fd00:0::1"], allow=["other", "fd00::1"]) == ()
    assert name_policy.forbidden_names(["a.example.com"], allow=["*.example.com"])


# A name that is allowed, the name of a request, and whether both are the same.
IDENTITIES = [
    ("spiffe://prod.example/ns/apps/sa/hook", "spiffe://prod.example/ns/apps/sa/hook", True),
    ("SPIFFE://Prod.Example/ns/apps/sa/hook", "spiffe://prod.example/ns/apps/sa/hook", True),
    ("spiffe://prod.example/ns/apps/sa/hook", "spiffe://prod.example/ns/apps/sa/Hook", False),
    ("spiffe://prod.example/ns/apps/sa/hook", "spiffe://prod.example/ns/apps/sa/hook.", False),
    ("spiffe://prod.example/a?b=c#d", "spiffe://PROD.example/a?b=c#d", True),
    ("spiffe://prod.example/a?b=c#d", "spiffe://prod.example/a?b=C#d", False),
    ("spiffe://prod.example/a?b=c#d", "spiffe://prod.example/a?b=c#D", False),
    ("https://Ada@Prod.example:8443/x", "HTTPS://Ada@prod.EXAMPLE:8443/x", True),
    ("https://Ada@prod.example/x", "https://ada@prod.example/x", False),
    ("https://prod.example?A", "https://PROD.example?a", False),
    ("urn:uuid:AB", "URN:uuid:AB", True),
    ("urn:uuid:AB", "urn:uuid:ab", False),
    ("ada@Example.com", "ada@example.COM", True),
    ("ada@example.com", "Ada@example.com", False),
    ("ada@example.com", "ada@example.com.", False),
    ('"a@B"@example.com', '"a@B"@EXAMPLE.com', True),
    ('"a@B"@example.com', '"a@b"@example.com', False),
    ("//ada@example/Path", "//ada@example/path", False),
]


@pytest.mark.parametrize(("allowed", "asked", "is_same"), IDENTITIES)
def test_only_scheme_and_host_of_an_identity_ignore_case(allowed: str, asked: str, is_same: bool) -> None:
    refused = name_policy.forbidden_names([], other_names=[asked], allow=[allowed])
    assert [refusal.name for refusal in refused] == ([] if is_same else [asked])


# A name, the other names of its request, and whether it could be a node's.
OF_NODES = [
    ("ip-10-1-0-4.ec2.internal", ("hook", "hook.apps", "hook.apps.svc"), True),
    ("hook", ("hook.apps", "hook.apps.svc"), False),
    ("hook.apps", ("hook.apps.svc.cluster.local",), False),
    ("hook.apps.svc.cluster.local", (), False),
    ("hook", ("hook.apps",), True),
    ("hook", ("hook2.apps.svc",), True),
    ("node-1", ("hook.node-1.svc",), True),
    ("node-1", ("node-1.svc.corp.example",), True),
    ("node-1.svc.corp.example", (), True),
    ("system:node:hook.apps.svc", (), False),
    ("*.example.com", (), False),
    ("", (), False),
]


@pytest.mark.parametrize(("name", "others", "may_be"), OF_NODES)
def test_names_that_could_be_of_a_node(name: str, others: tuple[str, ...], may_be: bool) -> None:
    assert name_policy.may_be_of_node(name, (name, *others)) is may_be


@pytest.mark.parametrize("allowed", ["10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1", "0::ffff:10.0.0.1"])
@pytest.mark.parametrize("asked", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_an_address_is_allowed_in_any_notation(allowed: str, asked: str) -> None:
    assert name_policy.forbidden_names([], [asked], allow=[allowed]) == ()
    assert name_policy.forbidden_names([], [asked], allow=["10.0.0.2"])


def test_a_notation_does_not_hide_the_warning() -> None:
    for name in ("::ffff:10.96.0.1", "::ffff:203.0.113.7", "::ffff:10.1.0.4", "010.096.0.1"):
        assert name_policy.is_critical(name, cluster=CLUSTER)
        assert [text.split(": ")[0] for text in name_policy.warnings([name], cluster=CLUSTER)] == [
            f"allow_names permits {name}"
        ]


def test_without_a_service_no_name_is_fine() -> None:
    found = name_policy.forbidden_names(["hook"], ["10.0.0.1"], other_names=["a@b"])
    assert [refusal.name for refusal in found] == ["hook", "10.0.0.1", "a@b"]
    assert {refusal.reason for refusal in found} == {"it belongs neither to the Service nor to allow_names"}


def test_service_called_kubernetes() -> None:
    found = name_policy.forbidden_names(
        name_policy.service_names("kubernetes", "apps"), service="kubernetes", namespace="apps"
    )
    assert [refusal.name for refusal in found] == ["kubernetes"]


def test_warnings_name_what_is_the_clusters_own() -> None:
    allowed = ["kubernetes.default.svc", "203.0.113.7", "*.example.com", "friend.example.com", "192.0.2.1"]
    texts = name_policy.warnings(allowed, cluster=CLUSTER)
    assert [text.split(": ")[0] for text in texts] == [f"allow_names permits {name}" for name in allowed[:3]]


def test_unreadable_names_are_a_warning() -> None:
    [text] = name_policy.warnings((), cluster=GuardedNames(unreadable=("nodes",)))
    assert "no permission to read nodes" in text


def test_service_names() -> None:
    assert name_policy.service_names("hook", "apps") == ("hook", "hook.apps", "hook.apps.svc")


LONG = ".".join(["a" * 63] * 3 + ["b" * 61])


def test_well_formed_names() -> None:
    assert len(LONG) == 253
    name_policy.check_names(["a", "A.b-c.d1", "*.example.com", "1a", LONG, "10.0.0.1", "::1"])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a..b",
        f"{LONG}c",
        "a" * 64,
        "a_b",
        "-a",
        "a.*.b",
        "**.b",
        "a\n",
        "bücher.example",
    ],
)
def test_malformed_dns_name(name: str) -> None:
    with fails("invalid-request", repr(name), "names"):
        name_policy.check_names(["fine", name])


def test_addresses_among_names_are_found_in_any_notation() -> None:
    names = ["Hook.Example.", "::ffff:10.0.0.1", "hook.example", "10.0.0.1", "fd00:0::1"]
    assert name_policy.split_names(names) == (("hook.example",), ("10.0.0.1", "fd00::1"))


@pytest.mark.parametrize(
    "address", ["10.0.0", "10.0.0.256", "10.0.0.0/8", "", "010.0.0.1", "fe80::1%eth0", "[::1]"]
)
def test_malformed_address(address: str) -> None:
    with fails("invalid-request", repr(address), "names"):
        name_policy.check_names(["10.0.0.1", address])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"service": "s" * 64}, ("service", "s" * 64)),
        ({"service": "1hook"}, ("service", "'1hook'")),
        ({"service": "hook.apps"}, ("service", "'hook.apps'")),
        ({"service": ""}, ("service", "''")),
        ({"namespace": "Apps"}, ("namespace", "'Apps'")),
        ({"namespace": "n" * 64}, ("namespace", "n" * 64)),
        ({"secret": "a_b"}, ("Secret", "'a_b'")),
        ({"secret": ""}, ("Secret", "''")),  # would read, or delete, all of them
        ({"secret": f"{LONG}c"}, ("Secret", f"{LONG}c")),
    ],
)
def test_malformed_object_name(names: dict[str, str], told: tuple[str, ...]) -> None:
    with fails("invalid-request", *told):
        name_policy.check_object_names(
            **{"service": "hook", "namespace": "apps", "secret": "hook-tls", **names}
        )


def test_well_formed_object_names() -> None:
    name_policy.check_object_names(service="s" * 63, namespace="1n", secret="a.b-c.1")
