# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CA that vouches for a certificate, and the order of the candidates."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import trust_anchors
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import AnchorError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden

from tests.support.certificates import authority
from tests.support.certificates.authority import CLIENT_AUTH, NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    YEAR,
    ScriptedApi,
    api_error,
    ca,
    client_intent,
    intent,
    leaf,
)
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING

pytestmark = pytest.mark.quick

ROOT_CA = "/api/v1/namespaces/apps/configmaps/kube-root-ca.crt"
OPENSHIFT = "/api/v1/namespaces/openshift-config-managed/configmaps/csr-controller-ca"


def bundles(version: str) -> str:
    return f"/apis/certificates.k8s.io/{version}/clustertrustbundles"


def published(key: str, pem: str) -> dict[str, Any]:
    return {"data": {key: pem}}


def choose(wanted: Intent, api: ScriptedApi, pem: str, recorded: str = "") -> trust_anchors.TrustAnchor:
    return trust_anchors.choose(wanted, pem, trust_anchors.candidates(api, wanted, pem, recorded), NOW)  # type: ignore[arg-type]


OTHER = ca("other").pem
# (where the right CA is, words of the source, requests that it takes)
PLACES = [
    ("option", "the task's ca_bundle", []),
    ("connection", "the API server's CA in test", []),
    ("recorded", "an earlier run added", []),
    ("root", "ConfigMap apps/kube-root-ca.crt", [("GET", ROOT_CA)]),
    ("openshift", "ConfigMap openshift-config-managed/csr-controller-ca", [("GET", ROOT_CA), ("GET", OPENSHIFT)]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "source", "asked"), PLACES)
def test_candidates_are_asked_in_order_and_only_until_one_vouches(
    place: str, source: str, asked: list[tuple[str, str]]
) -> None:
    """Each of the earlier places holds another CA, the later ones hold the right one too."""
    names = [name for name, _source, _asked in PLACES]
    held = {name: ca().pem if names.index(name) >= names.index(place) else OTHER for name in names}
    objects = {
        ROOT_CA: published("ca.crt", held["root"]),
        OPENSHIFT: published("ca-bundle.crt", held["openshift"]),
    }
    api = ScriptedApi(objects, ca_pem=held["connection"])
    anchor = choose(intent(ca_bundle=held["option"]), api, leaf().pem, held["recorded"])
    assert source in anchor.source
    assert anchor.pem == ca().pem
    assert anchor.pem == ca().pem
    assert api.asked == asked


def test_only_what_vouches_is_taken_from_a_bundle_and_each_once() -> None:
    bundle = OTHER + ca().pem + "junk\n" + ca("third").pem + ca().pem
    assert choose(intent(ca_bundle=bundle), ScriptedApi(), leaf().pem).pem == ca().pem


def test_an_intermediate_that_came_along_leads_to_the_root() -> None:
    middle = ca("middle", issuer="cluster")
    pem = leaf(by=middle).pem + middle.pem
    assert choose(intent(ca_bundle=ca().pem), ScriptedApi(), pem).pem == ca().pem
    with pytest.raises(AnchorError):
        choose(intent(ca_bundle=ca().pem), ScriptedApi(), leaf(by=middle).pem)


def test_of_two_cas_with_one_subject_the_right_one_is_taken() -> None:
    """A rotated CA keeps its name; each alone vouches for its own certificates only."""
    old = authority.authority("cluster", not_after=NOW + YEAR)
    assert choose(intent(ca_bundle=old.pem + ca().pem), ScriptedApi(), leaf().pem).pem == ca().pem
    assert choose(intent(ca_bundle=ca().pem + old.pem), ScriptedApi(), leaf(by=old).pem).pem == old.pem


@pytest.mark.parametrize(
    ("days", "place", "warned"),
    [(900, "the certificate", ()), (9, "the CA", ("the CA CN=short of the caBundle expires at ",))],
)
def test_the_anchor_knows_when_the_chain_ends(days: int, place: str, warned: tuple[str, ...]) -> None:
    short = authority.authority("short", not_after=NOW + days * authority.DAY)
    anchor = choose(intent(ca_bundle=short.pem), ScriptedApi(), leaf(by=short).pem)
    assert anchor.breaks is not None
    assert anchor.breaks.name.startswith(place)
    assert [line[: len(begin)] for line, begin in zip(anchor.warnings(NOW), warned)] == list(warned)
    assert len(anchor.warnings(NOW)) == len(warned)


def test_the_chain_counts_only_where_it_is_trusted() -> None:
    own = authority.authority("own", not_after=NOW + YEAR)
    pem = leaf(by=own).pem + own.pem
    with pytest.raises(AnchorError):
        choose(intent(), ScriptedApi(ca_pem=OTHER), pem)
    anchor = choose(intent(trust="chain"), ScriptedApi(ca_pem=OTHER), pem)
    assert (anchor.pem, "trust: chain" in anchor.source) == (own.pem, True)
    with fails("no-trust-anchor") as caught:
        choose(intent(trust="chain"), ScriptedApi(), leaf(by=own).pem)
    assert any("it is empty" in line for line in caught.value.evidence)


def test_the_leaf_counts_only_where_it_is_trusted() -> None:
    issued = leaf()
    anchor = choose(intent(trust="leaf"), ScriptedApi(ca_pem=ca().pem), issued.pem + ca().pem)
    assert anchor.pem == issued.pem


def test_none_vouches_and_all_are_listed() -> None:
    refused = {
        ROOT_CA: api_error(Forbidden),
        bundles("v1"): api_error(Forbidden, message="bundles are forbidden"),
    }
    api = ScriptedApi(refused, ca_pem=OTHER)
    with pytest.raises(AnchorError) as caught:
        choose(intent(ca_bundle=ca("third").pem), api, leaf().pem)
    evidence = caught.value.evidence
    assert [line.partition(": ")[0] for line in evidence] == [
        "the task's ca_bundle",
        "the API server's CA in test",
        "ConfigMap apps/kube-root-ca.crt",
        "ConfigMap openshift-config-managed/csr-controller-ca",
        "ConfigMap openshift-config-managed/kubelet-serving-ca",
        f"ClusterTrustBundles of {KUBELET_SERVING}",
    ]
    assert "unknown authority" in evidence[0]
    assert "no permission to read it" in evidence[2]
    assert "it does not exist" in evidence[3]
    assert evidence[5].endswith("bundles are forbidden")
    assert "CN=cluster" in str(caught.value)
    assert "ca_bundle" in caught.value.remedy


def trust_bundles(**pems: str) -> dict[str, Any]:
    return {
        "items": [{"metadata": {"name": name}, "spec": {"trustBundle": pem}} for name, pem in pems.items()]
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_a_cluster_trust_bundle_of_the_signer_vouches(version: str, order: tuple[str, ...]) -> None:
    pems = {"old": OTHER, "new": ca("third").pem + ca().pem}
    api = ScriptedApi({bundles(version): trust_bundles(**{name: pems[name] for name in order})}, ca_pem=OTHER)
    anchor = choose(intent(), api, leaf().pem)
    assert (anchor.source, anchor.pem) == ("ClusterTrustBundle new", ca().pem)


def test_cluster_trust_bundles_are_read_only_if_no_other_place_vouches() -> None:
    api = ScriptedApi({ROOT_CA: published("ca.crt", ca().pem), bundles("v1"): trust_bundles(a=ca().pem)})
    assert choose(intent(), api, leaf().pem).source.startswith("ConfigMap")
    assert api.asked == [("GET", ROOT_CA)]


def test_the_name_that_the_api_server_calls_must_verify() -> None:
    with pytest.raises(AnchorError) as caught:
        choose(intent(), ScriptedApi(ca_pem=ca().pem), leaf("hook", "hook.apps").pem)
    assert any("hook.apps.svc" in line for line in caught.value.evidence)


def test_a_client_certificate_is_verified_as_one() -> None:
    jane = leaf("", common_name="jane", usages=(CLIENT_AUTH,))
    assert choose(client_intent(), ScriptedApi(ca_pem=ca().pem), jane.pem).pem == ca().pem
    with pytest.raises(AnchorError):
        choose(client_intent(), ScriptedApi(ca_pem=ca().pem), leaf().pem)


OWN_HAND = {"signer_name": "ephemeral-ca"}


def own(pem: str, *, own: str = "", recorded: str = "", **changed: Any) -> trust_anchors.TrustAnchor:
    """As if every other place had the right CA; none of them may be asked."""
    api = ScriptedApi({ROOT_CA: published("ca.crt", ca().pem)}, ca_pem=ca().pem)
    wanted = intent(**OWN_HAND, **{"ca_bundle": ca().pem, **changed})
    offered = trust_anchors.candidates(api, wanted, pem, recorded, own=own)  # type: ignore[arg-type]
    anchor = trust_anchors.choose(wanted, pem, offered, NOW)
    assert api.asked == []
    return anchor


def test_a_ca_that_was_made_here_is_not_searched_for() -> None:
    anchor = own(leaf().pem, own=ca().pem, recorded=OTHER)
    assert (anchor.pem, anchor.source) == (
        ca().pem,
        "the CA made only for this certificate, stored in Secret apps/hook-tls",
    )
    assert own(leaf().pem, own=OTHER, recorded=ca().pem).source.startswith("the anchor that an earlier run")
    with pytest.raises(AnchorError) as caught:
        own(leaf().pem, own=OTHER, recorded=OTHER)
    assert len(caught.value.evidence) == 2


@pytest.mark.parametrize("trust", ["chain", "leaf"])
def test_trust_has_no_meaning_for_a_ca_that_signed_once(trust: str) -> None:
    assert own(leaf().pem, own=ca().pem, trust=trust).pem == ca().pem
