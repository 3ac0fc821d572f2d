# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a Deployment are merged as the API server's strategic merge patch merges them, in dry runs on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import partial_deployment

from tests.support.clusters import AdminApiError
from tests.support.upgrade.partial_deployments import INVALID, MERGED, base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PATH = f"{DEPLOYMENTS}/{base()['metadata']['name']}"
DRY_RUN = f"{PATH}?dryRun=All&fieldValidation=Strict"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture(scope="module")
def deployed(cluster: Cluster) -> Iterator[Cluster]:
    cluster.api("POST", DEPLOYMENTS, base())
    yield cluster
    cluster.api("DELETE", PATH)


def in_order(value: Any) -> Any:
    """Return the value with sorted lists, because a patch puts new items first."""
    if isinstance(value, dict):
        return {key: in_order(below) for key, below in value.items()}
    return sorted(map(in_order, value), key=repr) if isinstance(value, list) else value


def answered(cluster: Cluster, method: str, body: dict[str, Any], content_type: str) -> Any:
    """Return what the API server would store, or the status of its refusal."""
    try:
        found = cluster.api(method, DRY_RUN, body, content_type)
    except AdminApiError as error:
        return error.status
    metadata = {key: found["metadata"].get(key) or {} for key in ("labels", "annotations")}
    metadata["annotations"].pop(
        "deployment.kubernetes.io/revision", None
    )  # the Deployment controller wrote it
    return in_order([metadata, found["spec"]])


@pytest.mark.parametrize("case", [*MERGED, *INVALID])
def test_the_merge_is_that_of_the_api_server(deployed: Cluster, case: str) -> None:
    partial = {**MERGED, **INVALID}[case]
    ours = partial_deployment.merged("controller", base(), partial)
    put = answered(deployed, "PUT", ours, "application/json")
    patched = answered(deployed, "PATCH", partial, STRATEGIC)
    assert isinstance(put, int) == isinstance(patched, int) == (case in INVALID), (put, patched)
    assert case in INVALID or put == patched
