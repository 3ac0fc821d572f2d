# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real cert-manager on a test cluster: its controller for Certificates and its cainjector, without its webhook."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import yaml

from tests.support import clusters
from tests.support.clusters import AdminApiError
from tests.support.waiting import wait_for
from tests.support.webhooks.bundle_rig import DEFINITION, PATHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clusters import Cluster

#: The definitions that the controllers read.
KINDS = ("certificates", "certificaterequests", "issuers", "clusterissuers")


@contextlib.contextmanager
def defined(cluster: Cluster, kinds: Sequence[str] = KINDS) -> Iterator[None]:
    """Create definitions of cert-manager, and remove them at the end of the block."""
    folder = clusters.cert_manager_dir() / "deploy" / "crds"
    names = []
    try:
        for kind in kinds:
            definition = yaml.safe_load((folder / f"cert-manager.io_{kind}.yaml").read_text())
            cluster.api("POST", PATHS[DEFINITION], definition)
            names.append(definition["metadata"]["name"])
        wait_for(lambda: all(is_served(cluster, kind) for kind in kinds))
        yield
    finally:
        for name in names:
            cluster.api("DELETE", f"{PATHS[DEFINITION]}/{name}")


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[None]:
    """Run cert-manager until the block ends, and remove its definitions then."""
    programs = {"cainjector": clusters.cainjector(), "cert-manager": clusters.cert_manager()}
    with defined(cluster):
        for name, program in programs.items():
            kubeconfig = cluster.kubeconfig_for(name, ["system:masters"])
            cluster.start_program(name, [str(program), f"--kubeconfig={kubeconfig}"])
        try:
            yield
        finally:
            for name in programs:
                cluster.stop(name)
                print(cluster.log(name).read_text()[-4000:])  # pytest shows it with a failure


def is_served(cluster: Cluster, kind: str) -> bool:
    with contextlib.suppress(AdminApiError):
        return bool(cluster.api("GET", f"/apis/cert-manager.io/v1/{kind}"))
    return False
