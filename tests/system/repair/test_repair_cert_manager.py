# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nightly repairs of a webhook whose caBundle a real cainjector of cert-manager writes.

cainjector injects a CA that does not verify the endpoints. The CA that does is published.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clusters
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import cert_manager
from tests.support.webhooks.bundle_rig import pem
from tests.support.webhooks.probe_rig import HOOKS
from tests.support.webhooks.repair_rig import RepairRig, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

pytestmark = pytest.mark.full  # a minute
FROM_SECRET = "cert-manager.io/inject-ca-from-secret"
OWNED, OVERWRITTEN = ("refused", "owned-by-another"), ("refused", "overwritten-by")
MERGES, REPLACES = "", "CAInjectorMerging=false"
# The feature gates of cainjector, whether the user accepts it, the outcomes of three nights, and whose CAs stand at the end.
NIGHTS: dict[str, tuple[str, bool, list[tuple[str, str]], set[str]]] = {
    "not accepted": (MERGES, False, [OWNED] * 3, {"other"}),
    "cainjector merges": (MERGES, True, [("repaired", "")], {"other", "good"}),
    "cainjector replaces": (REPLACES, True, [("overwritten", "overwritten-by"), OVERWRITTEN, OVERWRITTEN], {"other"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[RepairRig]:
    rig = RepairRig(fleet["onprem"])
    rig.publish(pem("good"))
    try:
        # cainjector does not start without the definition of Certificates.
        with cert_manager.defined(rig.cluster, ("certificates",)):
            yield rig
    finally:
        rig.close()


@pytest.mark.parametrize("case", NIGHTS)
def test_three_nights(rig: RepairRig, case: str) -> None:
    """At most one write of three nights is ours."""
    gates, is_accepted, outcomes, standing = NIGHTS[case]
    number = list(NIGHTS).index(case)
    secret = f"ca-{number}"
    rig.make(
        f"/api/v1/namespaces/{rig.name}/secrets",
        {
            "metadata": {"name": secret, "annotations": {"cert-manager.io/allow-direct-injection": "true"}},
            "data": {"ca.crt": encoded(pem("other"))},
        },
    )
    kubeconfig = rig.cluster.kubeconfig_for("cainjector", ["system:masters"])
    command = [str(clusters.cainjector()), f"--kubeconfig={kubeconfig}", f"--feature-gates={gates}"]
    rig.cluster.start_program("cainjector", command)
    try:
        metadata = {"annotations": {FROM_SECRET: f"{rig.name}/{secret}"}}
        name = rig.broken(f"injected{number}", bundle=pem("stranger"), metadata=metadata)
        wait_for(lambda: "cainjector" in managers(rig, name))
        before = len(rig.writes())
        item = {"cert-manager": [f"ValidatingWebhookConfiguration/{name}"]}
        accept = [item] if is_accepted else []
        nights = [rig.repair(accept=accept, proof_after=3) for _night in range(3)]
        answers = [(state, code) for night in nights for _check, state, code in states(night, name)]
        assert answers == outcomes, nights[0]["repairs"]
        assert len(rig.writes()) - before == is_accepted
        assert {ca for ca in ("other", "good") if pem(ca) in bundle(rig, name)} == standing
    finally:
        rig.cluster.stop("cainjector")
        print(rig.cluster.log("cainjector").read_text()[-4000:])  # pytest shows it with a failure


def webhook(rig: RepairRig, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rig.cluster.api("GET", f"{HOOKS}/{name}")
    return found


def managers(rig: RepairRig, name: str) -> str:
    return " ".join(entry["manager"] for entry in webhook(rig, name)["metadata"]["managedFields"])


def bundle(rig: RepairRig, name: str) -> str:
    return base64.b64decode(webhook(rig, name)["webhooks"][0]["clientConfig"]["caBundle"]).decode()
