# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation of the cluster's CA breaks, and what it does not."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.rotation_checks import (
    ROTATION_ROWS,
    certificate_authority_data,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts import cluster_data
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    Backend,
    CaData,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import AuditFinding
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import (
    EksCa,
    find_cas,
    published_cas,
    with_gone,
)

from tests.support.certificates.authority import DAY, NOW, Issued, authority
from tests.unit.plugins.module_utils._audit.world import (
    CA,
    cluster,
    config,
    failures,
    leaf,
    point,
    served,
    silent,
    webhook,
)

pytestmark = pytest.mark.quick

OLD = authority("kubernetes", not_before=NOW - 900 * DAY, not_after=NOW + 100 * DAY)
NEW = authority("kubernetes", not_before=NOW - 9 * DAY, not_after=NOW + 3650 * DAY)
BOTH = OLD.pem + NEW.pem
CHECK = "bundle-without-successor"
SINCE = NOW - 5 * DAY
NO_FINDING: list[tuple[str, str]] = []


def rotating(
    *points: Any,
    served_by: Issued = OLD,
    api: Issued = OLD,
    kubeconfig: str = BOTH,
    published: str = BOTH,
    backend: Backend | None = None,
    **options: Any,
) -> ClusterData:
    """Return a cluster in a rotation whose endpoints serve a certificate of a CA."""
    chain = served(leaf(served_by))
    issued = leaf(api)
    api_server, now = issued.pem, issued.certificate.not_valid_before_utc
    known = with_gone(published_cas(published), kubeconfig)
    cas = find_cas(known, api_server, {"endpoint": chain.chain_pem}, now=options.pop("now", now))
    assert cas
    states = options.pop("servers", {})
    servers = {
        address: of and next(ca for ca in cas.cas if ca.is_in(of.pem)) for address, of in states.items()
    }
    ca = CaData(replace(cas, servers=servers), SINCE, **{"client_ca": BOTH, **options})
    return cluster(
        *points,
        backend=backend or Backend(ready=1, chains=(chain,)),
        api_server=api_server,
        cluster_ca=published,
        kubeconfig_ca=kubeconfig,
        ca=ca,
    )


def check_rotation(data: ClusterData) -> list[AuditFinding]:
    return [finding for row in ROTATION_ROWS if row.rule for finding in row.rule(data)]


def found(data: ClusterData, *checks: str) -> list[tuple[str, str]]:
    """Return check and severity of the findings that fail, without the summary."""
    wanted = checks or (CHECK,)
    return [entry for entry in failures(check_rotation(data)) if entry[0] in wanted]


@pytest.mark.parametrize(
    ("bundle", "options", "severity"),
    [
        (OLD.pem, {}, ""),
        (OLD.pem, {"served_by": NEW}, "error"),  # the bundle does not even fit to what is served
        (OLD.pem, {"served_by": NEW, "api": NEW}, "error"),
        (CA.pem + OLD.pem, {}, ""),
        (OLD.pem, {"backend": Backend(ready=1, chains=(silent(),))}, ""),
        (OLD.pem, {"backend": Backend()}, ""),
        (BOTH, {}, None),
        (BOTH, {"served_by": NEW, "api": NEW}, None),
        (CA.pem, {"served_by": CA}, None),  # a certificate of another CA
        (
            CA.pem + OLD.pem,
            {"served_by": CA},
            "",
        ),  # such as that of a CA before OLD: the next one is of OLD or NEW
        (CA.pem + BOTH, {"served_by": CA}, None),
        (CA.pem, {"backend": Backend()}, None),
    ],
)
def test_bundles(bundle: str, options: Any, severity: str | None) -> None:
    expected = NO_FINDING if severity is None else [(CHECK, severity)]
    assert found(rotating(point(config(bundle)), **options)) == expected


@pytest.mark.parametrize("ca", [OLD, NEW])
def test_without_a_certificate_of_a_signer_no_ca_is_said_to_sign(ca: Issued) -> None:
    data = rotating(api=ca, served_by=ca)
    assert data.ca
    unseen = replace(data, ca=replace(data.ca, cas=replace(data.ca.cas, signer=None)))
    causes = [
        [entry.cause for entry in check_rotation(given) if "signs" in entry.cause] for given in (data, unseen)
    ]
    assert bool(causes[0])
    assert causes[1] == []


@pytest.mark.parametrize(("days", "severity", "breaks"), [(20, "error", 20), (40, "", 40), (None, "", None)])
def test_the_automatic_activation(days: int | None, severity: str, breaks: int | None) -> None:
    eks = EksCa("", NOW + days * DAY if days is not None else None)
    data = rotating(point(config(OLD.pem)), eks=eks, kubeconfig=OLD.pem)
    checks = (CHECK, "kubeconfig-without-successor")
    assert found(data, *checks) == [(check, severity) for check in checks]
    times = [entry.breaks_at for entry in check_rotation(data) if entry.check in checks]
    assert times == [NOW + breaks * DAY if breaks else None] * 2
    soon = replace(data, ca_break_within=timedelta(days=15))
    assert found(soon) == [(CHECK, "")]


@pytest.mark.parametrize(
    ("options", "severity"),
    [
        ({"served_by": NEW, "api": NEW}, "error"),
        ({"served_by": OLD, "api": NEW, "now": NOW}, "error"),
        ({"served_by": NEW, "api": NEW, "backend": Backend()}, ""),
        ({"served_by": NEW, "api": NEW, "backend": Backend(ready=1, chains=(silent(),))}, ""),
        ({"served_by": NEW, "api": OLD, "now": NOW}, "error"),
    ],
)
def test_an_error_has_a_time(options: dict[str, Any], severity: str) -> None:
    """After the switch, an endpoint that was not seen may have a certificate that is valid for long."""
    data = rotating(point(config(OLD.pem)), kubeconfig=OLD.pem, **options)
    assert found(data) == [(CHECK, severity)]
    checks = (CHECK, "kubeconfig-without-successor")
    findings = [entry for entry in check_rotation(data) if entry.check in checks and entry.status == "fail"]
    assert all(entry.breaks_at for entry in findings if entry.severity == "error")


def test_a_kubeconfig_that_lacks_the_ca_of_an_api_server_fails_now() -> None:
    check = "kubeconfig-without-successor"
    for options in ({"api": NEW, "served_by": NEW}, {"servers": {"a": NEW}}):
        data = rotating(kubeconfig=OLD.pem, **options)
        (finding,) = (entry for entry in check_rotation(data) if entry.check == check)
        assert (finding.severity, finding.breaks_at) == ("error", data.now)


def test_a_webhook_that_is_skipped_silently_is_described() -> None:
    hook = point(config(OLD.pem), webhook=webhook("pods", failurePolicy="Ignore"))
    (finding,) = (entry for entry in audit_result.find(rotating(hook)) if entry.check == CHECK)
    assert (finding.impact, finding.requests) == ("skips", ("CREATE of pods",))


def test_a_healthy_cluster_has_no_finding() -> None:
    for bundle in (OLD.pem, CA.pem):
        data = cluster(
            point(config(bundle)), api_server=leaf(OLD).pem, cluster_ca=OLD.pem, kubeconfig_ca=OLD.pem
        )
        assert failures(check_rotation(data)) == []
        assert certificate_authority_data(data) == ""


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ("kubeconfig-without-successor", {}, {"kubeconfig": OLD.pem}),
        ("ca-order", {}, {"kubeconfig": NEW.pem + OLD.pem}),
        ("ca-order", {}, {"published": NEW.pem + OLD.pem}),
        ("client-ca-without-successor", {}, {"client_ca": OLD.pem}),
        ("pods-before-successor", {"old_pods": {}}, {"old_pods": {("Deployment", "shop", "web"): 2}}),
        ("pods-before-successor", {"old_pods": None}, {"old_pods": {("Pod", "shop", "web"): 1}}),
        ("nodes-before-successor", {"old_nodes": ()}, {"old_nodes": ("node-1",)}),
        ("outgoing-ca-left", {}, {"served_by": NEW, "api": NEW, "published": NEW.pem + OLD.pem, "kubeconfig": NEW.pem}),
        ("outgoing-ca-left", {"api": NEW, "published": NEW.pem + OLD.pem}, {"served_by": NEW, "api": NEW}),
        (
            "outgoing-ca-left",
            {"served_by": NEW, "api": NEW, "servers": {"a": NEW, "b": OLD}},
            {"served_by": NEW, "api": NEW, "servers": {"a": NEW, "b": None}},
        ),
    ],
)  # fmt: skip
def test_the_other_checks(check: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert [entry[0] for entry in found(made(good), check)] == []
    assert [entry[0] for entry in found(made(bad), check)] == [check]


def test_the_objects_that_a_finding_names_exist_on_every_cluster() -> None:
    data = made({"client_ca": OLD.pem, "published": NEW.pem + OLD.pem, "kubeconfig": OLD.pem})
    names = {
        (entry.check, entry.object.api_version, str(entry.object))
        for entry in check_rotation(data)
        if entry.status == "fail"
    }
    assert names == {
        ("cluster-ca-rotation", "v1", "ConfigMap kube-system/kube-root-ca.crt"),
        ("client-ca-without-successor", "v1", "ConfigMap kube-system/extension-apiserver-authentication"),
        ("ca-order", "v1", "ConfigMap kube-system/kube-root-ca.crt"),
        ("kubeconfig-without-successor", "", "Kubeconfig this run"),
    }


@pytest.mark.parametrize(
    ("version", "is_found"), [("v1.35.4", True), ("v1.35.4+k3s1", False), ("v1.35.4+rke2r1", False)]
)
def test_nodes_that_fetch_the_ca_at_each_start(version: str, is_found: bool) -> None:
    data = replace(rotating(old_nodes=("node-1",)), version=version)
    assert bool(found(data, "nodes-before-successor")) is is_found


def made(options: dict[str, Any]) -> ClusterData:
    client_ca = options.pop("client_ca", None) if "client_ca" in options else None
    data = rotating(**options)
    if client_ca is not None:
        assert data.ca
        data = replace(data, ca=replace(data.ca, client_ca=client_ca))
    return data


def test_the_merged_bundle_has_the_ca_in_use_first() -> None:
    data = rotating(kubeconfig=OLD.pem, published=NEW.pem + OLD.pem)
    assert base64.b64decode(certificate_authority_data(data)).decode() == OLD.pem + NEW.pem
    data = rotating(kubeconfig=OLD.pem + NEW.pem, api=NEW)
    assert base64.b64decode(certificate_authority_data(data)).decode() == NEW.pem + OLD.pem
    assert certificate_authority_data(rotating()) == ""


OURS = ("certflow.kubernetes",)
WITHDRAWN = authority("kubernetes", not_before=NOW - 3 * DAY, not_after=NOW + 3650 * DAY)
CROSSED = authority("next", OLD, not_before=NOW - 3 * DAY)
CORPORATE = authority("corporate")


@pytest.mark.parametrize(
    ("bundle", "options", "status"),
    [
        (OLD.pem, {}, "pass"),
        (OLD.pem + WITHDRAWN.pem, {}, "fail"),
        (OLD.pem + CORPORATE.pem, {}, "fail"),
        (OLD.pem + CROSSED.pem, {}, "pass"),  # the user may prepare a switch to it
        (CA.pem + OLD.pem, {"served_by": CA}, "pass"),  # it verifies the endpoint
        (OLD.pem + WITHDRAWN.pem, {"writers": (*OURS, "kubectl-edit")}, ""),
        (OLD.pem + WITHDRAWN.pem, {"writers": ("kubectl-edit",), "named": WITHDRAWN}, "fail"),
        (OLD.pem + WITHDRAWN.pem, {"backend": Backend(ready=2, chains=(served(leaf(OLD)),))}, "skip"),
        (
            OLD.pem + WITHDRAWN.pem,
            {"backend": Backend(ready=1, unready=1, chains=(served(leaf(OLD)),))},
            "skip",
        ),
        (
            OLD.pem,
            {"published": NEW.pem, "api": NEW, "served_by": NEW},
            "fail",
        ),  # the outgoing CA was withdrawn in haste
    ],
)
def test_a_ca_that_nothing_needs(bundle: str, options: dict[str, Any], status: str) -> None:
    """One CA is published, so no rotation shows it."""
    options = {"published": OLD.pem, "kubeconfig": OLD.pem, **options}
    hook = point(config(bundle), bundle_writers=options.pop("writers", OURS))
    named = options.pop("named", None)
    data = rotating(hook, **options)
    if named:
        data = replace(data, ca_outgoing=frozenset({named.fingerprint}))
    assert [entry.status for entry in check_rotation(data) if entry.check == "ca-left"] == (
        [status] if status else []
    )
    assert "cluster-ca-rotation" not in [
        entry.check for entry in check_rotation(data) if entry.status == "fail"
    ]


def test_a_bundle_without_such_a_ca_passes_although_its_endpoints_were_not_read() -> None:
    """So the removal of a CA is proven for a Service with a manual EndpointSlice, which shows no certificate."""
    hook = point(config(OLD.pem), bundle_writers=OURS)
    backend = Backend(ready=1, chains=(silent(),))
    gap = cluster_data.Gap(cluster_data.PORT_FORWARD, "no pod", objects=(str(hook.object),))
    data = replace(rotating(hook, published=OLD.pem, kubeconfig=OLD.pem, backend=backend), gaps=(gap,))
    assert [entry.status for entry in audit_result.find(data) if entry.check == "ca-left"] == ["pass"]


def test_a_ca_of_the_same_name_is_not_one_that_is_gone() -> None:
    own = authority("kubernetes", not_before=NOW - 700 * DAY)
    data = rotating(point(config(own.pem)), published=NEW.pem, kubeconfig=NEW.pem, api=NEW, served_by=own)
    assert found(data) == []


def test_a_bundle_with_only_cas_that_are_gone() -> None:
    """Its endpoint serves a certificate of the CA that the cluster removed. The next certificate is of another CA."""
    data = rotating(point(config(OLD.pem)), published=NEW.pem, kubeconfig=BOTH, api=NEW, now=NOW)
    assert found(data) == [(CHECK, "error")]


def test_the_api_server_has_a_certificate_of_a_ca_that_is_gone() -> None:
    data = rotating(published=NEW.pem, kubeconfig=OLD.pem)
    assert found(data, "kubeconfig-without-successor") == [("kubeconfig-without-successor", "")]


@pytest.mark.parametrize(
    ("bundle", "kubeconfig", "published", "lacking", "left"),
    [
        (NEW.pem, NEW.pem, NEW.pem, "pass", "pass"),
        (CA.pem + NEW.pem, BOTH, NEW.pem, "pass", "pass"),
        (BOTH, BOTH, NEW.pem, "pass", ""),  # the caBundle still trusts the CA that is gone
        (OLD.pem, BOTH, NEW.pem, "fail", ""),
        (CA.pem, NEW.pem, NEW.pem, "", "pass"),
        (BOTH, BOTH, BOTH, "pass", "fail"),
    ],
)
def test_what_passes_after_a_rotation(
    bundle: str, kubeconfig: str, published: str, lacking: str, left: str
) -> None:
    """A fault of a rotation is gone if its check passes for the same object, also after the rotation is over."""
    data = rotating(
        point(config(bundle)), published=published, kubeconfig=kubeconfig, api=NEW, served_by=NEW, now=NOW
    )
    findings = check_rotation(data)
    for check, status in ((CHECK, lacking), ("outgoing-ca-left", left)):
        own = [entry.status for entry in findings if entry.check == check and entry.status != "skip"]
        assert own == ([status] if status else []), check


@pytest.mark.parametrize(("is_seen", "certainty"), [(True, "proven"), (False, "likely")])
def test_an_outgoing_ca_is_proven_only_with_the_signer(is_seen: bool, certainty: str) -> None:
    data = rotating(served_by=NEW, api=NEW)
    assert data.ca
    signer = data.ca.cas.needed[-1] if is_seen else None
    data = replace(data, ca=replace(data.ca, cas=replace(data.ca.cas, signer=signer)))
    (finding,) = (entry for entry in check_rotation(data) if entry.check == "outgoing-ca-left")
    assert finding.certainty == certainty
    assert ("signs" in finding.cause) is is_seen


def test_three_cas() -> None:
    """The middle one signs. A caBundle needs it, and the one that has not signed yet."""
    third = authority("kubernetes", not_before=NOW - 2 * DAY)
    published = BOTH + third.pem
    for bundle, expected in ((BOTH, ""), (OLD.pem, "error"), (NEW.pem + third.pem, None)):
        data = rotating(point(config(bundle)), published=published, served_by=NEW, api=NEW)
        assert found(data) == ([] if expected is None else [(CHECK, expected)])


def test_each_workload_with_old_pods_has_a_finding() -> None:
    pods = {("Deployment", "shop", "web"): 2, ("StatefulSet", "shop", "db"): 1}
    early = {("Deployment", "shop", "api"): 1}
    data = rotating(old_pods=pods, early_pods=early)
    findings = [entry for entry in check_rotation(data) if entry.check == "pods-before-successor"]
    assert [(str(entry.object), entry.severity) for entry in findings] == [
        ("Deployment shop/web", ""),
        ("StatefulSet shop/db", ""),
        ("Cluster ", "info"),
    ]
