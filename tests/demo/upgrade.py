# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo-upgrade`: the snapshot controller and its webhook to another release, on two clusters by one play.

Pods need root. Without it the plan is made and every step tried against real API servers, and nothing runs. Ends with 0
only if all of it was seen.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tests import clusters
from tests.clusters import ClusterError, build, kubeconfig
from tests.gates.venvs import REPOSITORY
from tests.real import snapshot_lab as lab
from tests.real.load import Load

from . import story
from .stage import Place, Unseen, changed, quote, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from tests.clusters import Cluster, Fleet

OLD, NEW = "6.2.2", "8.1.0"
NAMES = ("onprem", "eks")
SNAPSHOTS = f"{lab.SNAPSHOTS}/namespaces/default/volumesnapshots"
KEPT = "before-the-upgrade"
# What the account of the play may do: docs/rbac.md says which roles the role needs.
RBAC = ("plan", "snapshot-verify", "upgrade", "request", "approve", "bundle", "explain")
ACCOUNT, ACCOUNTS = "certflow", "kube-system"
SECONDS = 1200.0


class Upgrade(Place):
    """Two clusters with the old release. has_pods: whether they have nodes."""

    seconds = SECONDS

    def __init__(self, fleet: Fleet, *, has_pods: bool) -> None:
        super().__init__(fleet)
        self.has_pods = has_pods
        self.uids: dict[str, str] = {}
        self._kubeconfig = self.directory / "kubeconfig"

    def prepare(self) -> None:
        """An account of the play's own on each cluster, with the roles of docs/rbac and nothing else."""
        files = [word for name in RBAC for word in ("-f", str(REPOSITORY / "docs" / "rbac" / f"{name}.yaml"))]
        account = f"--serviceaccount={ACCOUNTS}:{ACCOUNT}"
        parts = []
        for cluster in self.fleet.values():
            parts.append(cluster.token_kubeconfig(ACCOUNT, ACCOUNTS))
            lab.kubectl(cluster, "apply", *files)
            for name in RBAC:
                role = f"certflow-{name}"
                lab.kubectl(cluster, "create", "clusterrolebinding", role, f"--clusterrole={role}", account)
            own = ("certflow-upgrade", "--role=certflow-upgrade", account, "-n", ACCOUNTS)
            lab.kubectl(cluster, "create", "rolebinding", *own)
        kubeconfig.merge(self._kubeconfig, parts)

    def role(self, *words: str) -> str:
        """The output of the play."""
        source = f"snapshot_controller_source=file://{_module_cache()}"
        release = f"snapshot_controller_version={NEW}"
        return self.playbook("upgrade.yml", "-e", release, "-e", source, *words, kubeconfig=self._kubeconfig)

    def each(self, act: Callable[[Cluster], Any]) -> list[Any]:
        """On both clusters at once."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(act, self.fleet.values()))


def _module_cache() -> Path:
    """The go command's cache of downloads, which has the layout of a module proxy."""
    done = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip(), "cache", "download")


def the_old_release(demo: Upgrade) -> str:
    """As people install it: upstream's manifests with kubectl, a certificate made by hand."""
    demo.each(partial(lab.install, release=OLD, pods=demo.has_pods))
    for name, cluster in demo.fleet.items():
        body = lab.snapshot(KEPT, snapshot_class="fast")
        demo.uids[name] = cluster.api("POST", SNAPSHOTS, body)["metadata"]["uid"]
    if not demo.has_pods:
        return (
            f"its CRDs, Deployments and webhook are on both clusters; no pod runs, and snapshot {KEPT} waits"
        )
    for name, cluster in demo.fleet.items():
        say(f"   {name}:")
        quote(
            lab.kubectl(
                cluster,
                "get",
                "pods",
                "-A",
                "-o=custom-columns=POD:.metadata.name,IMAGE:.spec.containers[0].image",
            )
        )
    return f"its pods run on both clusters, its webhook refuses what it has to, snapshot {KEPT} is there"


def the_usual_way(demo: Upgrade) -> str:
    """kubectl apply of the new manifests, tried only: what it would break first is said by the API server itself."""
    deploy, _crds = build.snapshot_manifests(NEW)
    manifest = deploy / "webhook-example" / "webhook.yaml"
    say(f"   $ kubectl apply --dry-run=server -f {manifest.name}        (of {NEW}, on eks)")
    try:
        lab.kubectl(demo.fleet["eks"], "apply", "--dry-run=server", "-f", str(manifest))
    except AssertionError as error:
        words = re.search(r"The Deployment .*", str(error))
        quote(re.sub(r"Invalid value: .*: field", "field", words[0]) if words else str(error))
        if "immutable" in str(error):
            return (
                "the Service would lead to pods that cannot come: the Deployment's selector cannot be changed"
            )
    raise Unseen("kubectl apply was accepted")


def the_plan(demo: Upgrade) -> str:
    """What the role would do, and in which order."""
    output = demo.role("--tags", "plan", "--limit", "eks")
    told = output.partition("Show the plan]")[2].partition("\nTASK ")[0].partition("\n")[2]
    quote(told)
    if f"from {OLD} to {NEW}" not in told:
        raise Unseen(f"the plan does not lead from {OLD} to {NEW}")
    return "what is to be known, and the steps; nothing was written"


def one_play(demo: Upgrade) -> str:
    """The role over both clusters, while snapshots are asked for. failurePolicy is Fail: no answer is a refusal."""
    say(
        "   From now on dry-run creates of a VolumeSnapshot ask the webhook through the API server. With failurePolicy"
    )
    say("   Fail each of them fails where the webhook does not answer.")
    with ExitStack() as stack:
        loads = {
            name: stack.enter_context(Load(partial(_ask, cluster))) for name, cluster in demo.fleet.items()
        }
        output = demo.role()
    quote(output.partition("TASK [Say what was done]")[2].partition("\n")[2])
    for name, load in loads.items():
        say(f"   {name}: {load}")
        if load.failed:
            raise Unseen(f"{name}: {len(load.failed)} of {load.made} creates failed, first: {load.failed[0]}")
    if not all(changed(output).get(name) for name in NAMES):
        raise Unseen(f"tasks that changed something, by cluster: {changed(output)}")
    return f"{NEW} on both clusters, {sum(load.made for load in loads.values())} creates meanwhile, 0 failed"


def _ask(cluster: Cluster) -> None:
    body = lab.snapshot("asked", snapshot_class="fast")
    cluster.api("POST", f"{SNAPSHOTS}?dryRun=All", body)


def own_eyes(demo: Upgrade) -> str:
    """Not by the role's word: images, the webhook's refusal, the certificate's issuer, the snapshot of before."""
    for name, cluster in demo.fleet.items():
        images = lab.kubectl(cluster, "get", "pods", "-A", "-o=jsonpath={..spec.containers[*].image}").split()
        ours = {image.rpartition("/")[2] for image in images if "snapshot" in image}
        if ours != {f"snapshot-controller:v{NEW}", f"snapshot-validation-webhook:v{NEW}"}:
            raise Unseen(f"{name}: these run: {', '.join(sorted(ours))}")
        if not lab.webhook_refuses(cluster, NEW):
            raise Unseen(f"{name}: the webhook did not refuse a second default class")
        if cluster.api("GET", f"{SNAPSHOTS}/{KEPT}")["metadata"]["uid"] != demo.uids[name]:
            raise Unseen(f"{name}: snapshot {KEPT} is another one")
        signer = _signer(cluster)
        if signer != story.SIGNERS[name]:
            raise Unseen(f"{name}: the certificate is by {signer or 'nobody of this cluster'}")
        say(f"   {name}: {', '.join(sorted(ours))}; certificate by {signer}")
    return "the new pods alone, a refusal that only the webhook can give, the right signer, the same snapshot"


def _signer(cluster: Cluster) -> str:
    """Who issued what the webhook's Secret holds, by the request that it answered."""
    hook = cluster.api("GET", lab.era(NEW).deployment_path)["spec"]["template"]["spec"]["volumes"][0][
        "secret"
    ]
    path = f"/api/v1/namespaces/{lab.WEBHOOK_NAMESPACE}/secrets/{hook['secretName']}"
    held = x509.load_pem_x509_certificate(base64.b64decode(cluster.api("GET", path)["data"]["tls.crt"]))
    for request in cluster.api("GET", story.REQUESTS)["items"]:
        issued = request.get("status", {}).get("certificate")
        if issued and x509.load_pem_x509_certificate(base64.b64decode(issued)) == held:
            return str(request["spec"]["signerName"])
    return ""


def the_same_again(demo: Upgrade) -> str:
    """The second run."""
    output = demo.role()
    quote(output.rpartition("PLAY RECAP")[2].partition("\n")[2])
    if changed(output) != dict.fromkeys(NAMES, 0):
        raise Unseen(f"tasks that changed something, by cluster: {changed(output)}")
    return "changed=0 on both clusters"


def tried(demo: Upgrade) -> str:
    """Check mode, where no pod can run."""
    before = demo.each(_versions)
    output = demo.role("--check")
    quote(output.rpartition("PLAY RECAP")[2].partition("\n")[2])
    if not all(changed(output).get(name) for name in NAMES):
        raise Unseen(f"steps that would change something, by cluster: {changed(output)}")
    if demo.each(_versions) != before:
        raise Unseen("something was written")
    return "every step was tried by dry runs on both API servers; nothing was written"


def _versions(cluster: Cluster) -> list[str]:
    """What a write would change."""
    kinds = "crds,clusterroles,clusterrolebindings,roles,rolebindings,services,secrets,validatingwebhookconfigurations"
    found = json.loads(lab.kubectl(cluster, "get", kinds, "-A", "-ojson"))["items"]
    return [f"{one['kind']} {one['metadata']['name']} {one['metadata']['resourceVersion']}" for one in found]


Step = tuple[str, "Callable[[Upgrade], str]"]
FIRST: tuple[Step, ...] = (
    (f"{OLD}, installed by its own manifests", the_old_release),
    (f"The usual way to {NEW}", the_usual_way),
    ("What this collection would do", the_plan),
)
WITH_PODS: tuple[Step, ...] = (
    *FIRST,
    ("One play over both clusters, while snapshots are asked for", one_play),
    ("What is there now", own_eyes),
    ("The same play again", the_same_again),
)
WITHOUT_PODS: tuple[Step, ...] = (*FIRST, ("Every step, in check mode", tried))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-upgrade", description=__doc__)
    parser.add_argument(
        "--without-pods", action="store_true", help="what can be seen without them, also as root"
    )
    reason = clusters.why_no_node()
    reason = "as asked for" if parser.parse_args().without_pods else reason
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if _tell(reason) else 1
    except ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return 130


def _tell(reason: str) -> bool:
    """reason: why no pods are shown, "" where they are."""
    say(f"The snapshot controller and its webhook from {OLD} to {NEW}, on two real Kubernetes clusters.")
    if reason:
        say(f"  No pod runs here: {reason}. So the plan is shown, and every step tried on the API servers.")
    clusters.programs()  # minutes at the first time, which are no part of the story
    for release in (OLD, NEW):
        build.snapshot_manifests(release)
        if not reason:
            build.snapshot_programs(release)
    start = time.monotonic()
    suffix = "" if reason else "-node"
    with clusters.running({name: f"{name}{suffix}" for name in NAMES}) as fleet:
        say(f"  ready after {time.monotonic() - start:.0f} s")
        complete = _steps(Upgrade(fleet, has_pods=not reason), WITHOUT_PODS if reason else WITH_PODS)
    words = "All of it was seen" if complete else "NOT all of it was seen"
    say(f"{words}, in {time.monotonic() - start:.0f} s; nothing is left running.")
    return complete


def _steps(demo: Upgrade, steps: Sequence[Step]) -> bool:
    demo.prepare()
    if demo.has_pods:
        demo.each(partial(lab.load_images, release=NEW))
    return story.told(demo, steps)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
