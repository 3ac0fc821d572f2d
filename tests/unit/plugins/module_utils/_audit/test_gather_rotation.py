# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may lack the successor of a rotation: pods and nodes, compared with the time at which it was published."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import (
    gather_rotation,
    object_parsing,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts import cluster_data
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    AuditOptions,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.guarded_reads import GuardedReads
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import EksCa
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import METADATA
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden

from tests.support.certificates.authority import DAY, NOW, Issued, authority, issue
from tests.unit.plugins.module_utils._audit.world import encoded, webhook

pytestmark = pytest.mark.quick


OLD = authority("kubernetes", not_before=NOW - 900 * DAY)
NEW = authority("kubernetes", not_before=NOW - 9 * DAY)
TWIN = authority("kubernetes", OLD, key=NEW.key, not_before=NOW - 9 * DAY)
PREPARED = (("hooks", (OLD, NEW), -4),)
NAMED_BY_EKS = AuditOptions(eks_cas=(EksCa(NEW.fingerprint),))
CREATED = {"older": -10, "between": -8, "restarted": -3}
MAPS = "/api/v1/configmaps"
CALL = {"service": {"namespace": "shop", "name": "hook"}}


def metadata(name: str, day: float, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": format_time(NOW + day * DAY),
            **fields,
        }
    }


def changed(day: float) -> list[dict[str, Any]]:
    return [{"manager": "m", "time": format_time(NOW + day * DAY), "fieldsV1": {"f:data": {}}}]


def read_rotation(
    since: float,
    *,
    published: tuple[Issued, ...] = (OLD, NEW),
    signed: float | None = None,
    prepared: tuple[tuple[str, tuple[Issued, ...], float], ...] = (),
    maps: Any = None,
    without: tuple[str, ...] = (),
    options: AuditOptions | None = None,
) -> tuple[Any, list[Any]]:
    """Return what is read of a rotation, and the gaps. since: the day of the last change of the published CAs.

    signed: the day of a certificate of the successor. prepared: name, CAs and day of each caBundle that was written.
    """
    answers: dict[str, Any] = {
        "/api/v1/pods": [metadata(name, day) for name, day in CREATED.items()],
        "/api/v1/nodes": [metadata(name, day) for name, day in CREATED.items()],
        MAPS: [metadata("kube-root-ca.crt", -800, managedFields=changed(since))] if maps is None else maps,
    }

    def pages(path: str, _query: Any = None, accept: str = "") -> Iterator[Any]:
        assert accept == METADATA
        if isinstance(answers[path], Exception):
            raise answers[path]
        yield {"items": answers[path]}

    points = [
        point
        for name, cas, day in prepared
        for point in object_parsing.points_of(
            "ValidatingWebhookConfiguration",
            {
                "metadata": {"name": name, "managedFields": changed(day)},
                "webhooks": [
                    {
                        **webhook("a"),
                        "clientConfig": {**CALL, "caBundle": encoded("".join(ca.pem for ca in cas))},
                    }
                ],
            },
        )
    ]
    data = ClusterData(
        NOW,
        points=tuple(points),
        cluster_ca="".join(ca.pem for ca in published),
        cluster_ca_since=NOW + since * DAY,
        api_server=issue(
            "api", OLD if signed is None else NEW, not_before=NEW.certificate.not_valid_before_utc
        ).pem,
        issued={} if signed is None else {"csr": issue("leaf", NEW, not_before=NOW + signed * DAY).pem},
    )
    client: Any = Mock(pages=pages, find=lambda _path: None, deadline=time.monotonic() + 60)
    reads = GuardedReads(client, without)
    return gather_rotation.read(client, reads, options or AuditOptions(), data), [*reads.gaps]


@pytest.mark.parametrize(
    ("facts", "early"),
    [
        ({"since": -5}, ["between"]),
        # The CAs were reordered, or another one was removed, after a caBundle had the successor or after it had signed.
        ({"since": -1, "prepared": PREPARED}, []),
        ({"since": -1, "signed": -2}, []),
        ({"since": -1, "signed": -2, "prepared": PREPARED}, []),
        # The successor signed minutes before, as a cluster that publishes and switches at one restart.
        ({"since": -1, "signed": -1.002}, ["between", "restarted"]),
        # Nothing shows that the successor was published before.
        ({"since": -1}, ["between", "restarted"]),
        ({"since": -1, "prepared": (("hooks", (OLD,), -4),)}, ["between", "restarted"]),
        # A successor with a twin may be in a caBundle before the cluster publishes it, as with k3s.
        ({"since": -1, "prepared": PREPARED, "published": (OLD, NEW, TWIN)}, ["between", "restarted"]),
        # So may one that Amazon EKS named before it published it.
        ({"since": -1, "prepared": PREPARED, "options": NAMED_BY_EKS}, ["between", "restarted"]),
    ],
)
def test_what_was_restarted_in_time_is_not_named_again(facts: dict[str, Any], early: list[str]) -> None:
    ca, gaps = read_rotation(**facts)
    assert not gaps
    assert {name for _kind, _namespace, name in ca.old_pods} == {"older"}
    assert [name for _kind, _namespace, name in ca.early_pods] == early
    assert [*ca.old_nodes] == ["older", *early]


def test_the_pods_of_a_namespace_are_compared_with_its_own_configmap() -> None:
    ca, gaps = read_rotation(-1, maps=[metadata("kube-root-ca.crt", -800, managedFields=changed(-5))])
    assert not gaps
    assert [name for _kind, _namespace, name in ca.early_pods] == ["between"]


def test_a_list_of_configmaps_that_is_forbidden_is_a_gap_of_one_check() -> None:
    ca, gaps = read_rotation(-5, maps=Forbidden("no", status=403))
    assert [(gap.source, gap.checks, gap.lacks_permission) for gap in gaps] == [
        (cluster_data.CLUSTER_CA, ("pods-before-successor",), True)
    ]
    assert {name for _kind, _namespace, name in ca.old_pods} == {"older"}
    ca, gaps = read_rotation(-5, maps=Forbidden("no", status=403), without=(cluster_data.PODS,))
    assert [gap.source for gap in gaps] == [cluster_data.PODS]
