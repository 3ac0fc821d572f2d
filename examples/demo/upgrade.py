# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `make demo-upgrade`: upgrade the snapshot controller and its webhook on two clusters with one play.

Pods need root. Without root the demo shows the plan and tries every step on real API servers by dry runs. The
exit status is 0 only if every step succeeded.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.demo import story
from examples.demo.clusters import DemoClusters, Unseen, announce, changed, ended, quote, say, say_end
from tests.support import clusters
from tests.support.clusters import build, kubeconfig
from tests.support.playbooks import playbook
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_load import SnapshotLoad
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.clusters import Cluster, Fleet

OLD, NEW = "6.2.2", "8.1.0"
NAMES = ("onprem", "eks")
SNAPSHOTS = f"{lab.SNAPSHOTS}/namespaces/default/volumesnapshots"
KEPT = "before-the-upgrade"
# The roles of the play's account, as in guide_permissions.rst.
RBAC = ("plan", "snapshot-verify", "upgrade", "request", "approve", "bundle", "explain")
ACCOUNT, ACCOUNTS = "certflow", "kube-system"
# The cluster of the run that fails, and the status of ansible-playbook then.
BROKEN, FAILED_STATUS = "onprem", 2
WIDTH = 120


class UpgradeDemo(DemoClusters):
    """Two clusters with the old release. has_pods: the clusters have nodes."""

    def __init__(self, fleet: Fleet, *, has_pods: bool) -> None:
        super().__init__(fleet)
        self.has_pods = has_pods
        self.uids: dict[str, str] = {}
        self.certificates: dict[str, str] = {}
        self._kubeconfig = self.directory / "kubeconfig"

    def prepare(self) -> None:
        """Create an account for the play on each cluster, with only the roles of docs/rbac."""
        roles = (*RBAC, "upgrade-lease")
        files = [
            word for name in roles for word in ("-f", str(REPOSITORY / "docs" / "rbac" / f"{name}.yaml"))
        ]
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
        """Return the output of the play. Raises Unseen if it fails."""
        status, output = self.attempted_role(*words)
        if status:
            quote(output)
            raise Unseen(f"the play ended with status {status}")
        return output

    def attempted_role(self, *words: str) -> tuple[int, str]:
        """Return the status and the output of the play."""
        source = f"snapshot_controller_source={build.release_archives(NEW)}/v{{version}}.tar.gz"
        given = ("-e", f"snapshot_controller_version={NEW}", "-e", source)
        return self.attempt("upgrade.yml", *given, *words, kubeconfig=self._kubeconfig, result_format="json")

    def each(self, act: Callable[[Cluster], Any]) -> list[Any]:
        """Call a function for both clusters at the same time."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(act, self.fleet.values()))


def the_old_release(demo: UpgradeDemo) -> str:
    """Install the old release with kubectl, by upstream's manifests."""
    demo.each(partial(lab.install, release=OLD, pods=demo.has_pods))
    for name, cluster in demo.fleet.items():
        body = lab.snapshot(KEPT, snapshot_class="fast")
        demo.uids[name] = cluster.api("POST", SNAPSHOTS, body)["metadata"]["uid"]
    if not demo.has_pods:
        return (
            f"its CRDs, Deployments and webhook are on both clusters, no pod runs, and snapshot {KEPT} waits"
        )
    for name, cluster in demo.fleet.items():
        demo.certificates[name] = _certificate(cluster, OLD)
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
    return f"its pods run on both clusters, its webhook refuses an invalid object, and snapshot {KEPT} exists"


def the_usual_way(demo: UpgradeDemo) -> str:
    """Try kubectl apply of the new manifests by a dry run. The API server reports the first error."""
    deploy, _crds = build.snapshot_manifests(NEW)
    manifest = deploy / "webhook-example" / "webhook.yaml"
    say(f"   $ kubectl apply --dry-run=server -f {manifest.name}        (of {NEW}, on eks)")
    try:
        lab.kubectl(demo.fleet["eks"], "apply", "--dry-run=server", "-f", str(manifest))
    except AssertionError as error:
        words = re.search(r"The Deployment .*", str(error))
        quote(re.sub(r"Invalid value: .*: field", "field", words[0]) if words else str(error))
        if "immutable" in str(error):
            return "the Service would select pods that do not exist, because the Deployment's selector is immutable"
    raise Unseen("kubectl apply was accepted")


def the_plan(demo: UpgradeDemo) -> str:
    """Show the plan: the writes and checks in their order."""
    lines = _messages(demo.role("--tags", "plan", "--limit", "eks"), "Show the plan")
    for line in lines:
        say(f"   | {line if len(line) <= WIDTH else f'{line[:WIDTH]}...'}")
    if not lines or not lines[0].startswith(f"{OLD} to {NEW}"):
        raise Unseen(f"the plan does not lead from {OLD} to {NEW}")
    signs = Counter(line[0] for line in lines[1:])
    return (
        f"{signs['+']} lines that create, {signs['~']} that change, {signs['-']} that delete, {signs['?']} that verify, "
        f"{signs['!']} notes. Nothing was written"
    )


def a_failure(demo: UpgradeDemo) -> str:
    """Run the role with images that no registry has. It fails, and the old release is put back."""
    say(
        "   The images of this run do not exist. A client creates snapshots meanwhile, with failurePolicy Fail."
    )
    words = ("--limit", BROKEN, "-e", "snapshot_controller_image_registry=registry.invalid/absent")
    with _under_load(demo, BROKEN) as (loads, moments):
        status, output = demo.attempted_role("-v", *words, "-e", "snapshot_controller_step_timeout=90")
    failed = _failure(output)
    quote("\n".join(textwrap.wrap(failed.get("msg", output), WIDTH)))
    undone = failed.get("undone") or {}
    if status != FAILED_STATUS or failed.get("code") != "rollout-failed" or not undone.get("is_back"):
        raise Unseen(f"status {status}, code {failed.get('code')}, undone {undone}")
    made = _no_call_failed(loads, moments)
    return f"step {failed['step']} failed, {undone['release']} is back, {made} creates, none failed"


def one_play(demo: UpgradeDemo) -> str:
    """Run the role over both clusters, while a client creates snapshots."""
    say(
        "   From now on a client creates valid and invalid snapshots by dry runs. With failurePolicy Fail each of them"
    )
    say("   fails if the webhook does not answer.")
    with _under_load(demo, *NAMES) as (loads, moments):
        output = demo.role("-v")
    for name in NAMES:
        quote("\n".join(_messages(output, "Show the changes", name)))
    made = _no_call_failed(loads, moments)
    for name, load in loads.items():
        accepted = load.accepted(since=moments[name][-1][0])
        if accepted:
            raise Unseen(f"{name}: an invalid create was accepted after the upgrade: {accepted[0].what}")
    if not all(changed(output).get(name) for name in NAMES):
        raise Unseen(f"tasks that changed something, by cluster: {changed(output)}")
    return f"{NEW} on both clusters, {made} creates meanwhile, none failed"


Moments = dict[str, list[tuple[float, str]]]


@contextmanager
def _under_load(demo: UpgradeDemo, *names: str) -> Iterator[tuple[dict[str, SnapshotLoad], Moments]]:
    """Create snapshots on these clusters while the block runs the play, and show its progress.

    Yields the loads, and for each cluster when each step began (time.time) with its id. The last entry is the end.
    """
    loads = {name: SnapshotLoad(demo.fleet[name], NEW) for name in names}
    moments: Moments = {name: [] for name in names}
    with ExitStack() as stack:
        for load in loads.values():
            stack.enter_context(load)
        time.sleep(2)  # so that something is counted before the first step
        with _followed(demo.log, moments):
            yield loads, moments
        for begun in moments.values():
            begun.append((time.time(), "after"))
        time.sleep(2)


@contextmanager
def _followed(log: Path, moments: Moments) -> Iterator[None]:
    """Show the lines of progress that a program writes into this file, and note when each step begins."""
    ended = threading.Event()
    log.unlink(missing_ok=True)  # that of the program before

    def follow() -> None:
        read = 0
        while not ended.wait(0.1):
            text = log.read_text(errors="replace") if log.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            for line in whole[read:].splitlines():
                _note(line, moments)
            read = len(whole)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield
    time.sleep(0.3)  # the last lines
    ended.set()
    thread.join()


def _note(line: str, moments: Moments) -> None:
    name, _space, text = line.partition("  ")
    if name not in moments or not text or text.lstrip().startswith(": "):  # a line of the recap
        return
    step = playbook.STEP.fullmatch(line)
    if step:
        moments[name].append((time.time(), step[3]))
    else:
        say(f"   | {line[:WIDTH]}")


def _no_call_failed(loads: Mapping[str, SnapshotLoad], moments: Moments) -> int:
    """Show the creates by step. Returns their number. Raises Unseen if a valid one was refused, or one had no answer."""
    for name, load in loads.items():
        say(f"   {name}:")
        quote(load.table(moments[name]))
        if load.wrong():
            raise Unseen(f"{name}: a create failed: {load.wrong()[0]}")
    return sum(len(load.answers) for load in loads.values())


def _messages(output: str, task: str, host: str = "") -> list[str]:
    """Return the list that a debug task of this name shows, for one host or the first."""
    shown = output.partition(f"{task}] ***")[2].partition("\nTASK ")[0].partition("\nPLAY ")[0]
    found = re.search(rf"ok: \[{host or '.*?'}\] => (\{{.*?^\}})", shown, re.MULTILINE | re.DOTALL)
    return [str(line) for line in json.loads(found[1])["msg"]] if found else []


def _failure(output: str) -> dict[str, Any]:
    """Return the result that the role published, with the message of the task that failed. {} without them."""
    failed = re.search(r"^fatal: \[.*?\]: FAILED! => (\{.*\})$", output, re.MULTILINE)
    facts = re.search(
        r'^ok: \[.*?\] => (\{"ansible_facts": \{"snapshot_controller_result".*\})$', output, re.MULTILINE
    )
    if not failed or not facts:
        return {}
    return {
        **json.loads(facts[1])["ansible_facts"]["snapshot_controller_result"],
        "msg": json.loads(failed[1])["msg"],
    }


def own_eyes(demo: UpgradeDemo) -> str:
    """Check the clusters without the role: images, a refusal of the webhook, certificate and snapshot."""
    for name, cluster in demo.fleet.items():
        images = lab.kubectl(cluster, "get", "pods", "-A", "-o=jsonpath={..spec.containers[*].image}").split()
        ours = {image.rpartition("/")[2] for image in images if "snapshot" in image}
        if ours != {f"snapshot-controller:v{NEW}", f"snapshot-validation-webhook:v{NEW}"}:
            raise Unseen(f"{name}: these run: {', '.join(sorted(ours))}")
        if not lab.webhook_refuses(cluster, NEW):
            raise Unseen(f"{name}: the webhook did not refuse a second default class")
        if cluster.api("GET", f"{SNAPSHOTS}/{KEPT}")["metadata"]["uid"] != demo.uids[name]:
            raise Unseen(f"{name}: snapshot {KEPT} is another one")
        if _certificate(cluster, NEW) != demo.certificates[name]:
            raise Unseen(
                f"{name}: the certificate is another one, although the old one was valid and trusted"
            )
        say(f"   {name}: {', '.join(sorted(ours))}")
    return "only new pods run, the webhook refuses, and the certificate and the snapshot are the same"


def _certificate(cluster: Cluster, release: str) -> str:
    """Return the certificate in the webhook's Secret."""
    volumes = cluster.api("GET", lab.era(release).deployment_path)["spec"]["template"]["spec"]["volumes"]
    path = f"/api/v1/namespaces/{lab.WEBHOOK_NAMESPACE}/secrets/{volumes[0]['secret']['secretName']}"
    return str(cluster.api("GET", path)["data"]["tls.crt"])


def the_same_again(demo: UpgradeDemo) -> str:
    """Run the play again."""
    output = demo.role()
    quote(output.rpartition("PLAY RECAP")[2].partition("\n")[2])
    if changed(output) != dict.fromkeys(NAMES, 0):
        raise Unseen(f"tasks that changed something, by cluster: {changed(output)}")
    return "changed=0 on both clusters"


def tried(demo: UpgradeDemo) -> str:
    """Run the play in check mode, because no pod can run."""
    before = demo.each(_versions)
    output = demo.role("--check")
    quote(output.rpartition("PLAY RECAP")[2].partition("\n")[2])
    if not all(changed(output).get(name) for name in NAMES):
        raise Unseen(f"steps that would change something, by cluster: {changed(output)}")
    if demo.each(_versions) != before:
        raise Unseen("something was written")
    return "every step was tried by dry runs on both API servers, and nothing was written"


def _versions(cluster: Cluster) -> list[str]:
    """Return the resourceVersions that a write would change."""
    kinds = "crds,clusterroles,clusterrolebindings,roles,rolebindings,services,secrets,validatingwebhookconfigurations"
    found = json.loads(lab.kubectl(cluster, "get", kinds, "-A", "-ojson"))["items"]
    return [f"{obj['kind']} {obj['metadata']['name']} {obj['metadata']['resourceVersion']}" for obj in found]


Step = tuple[str, "Callable[[UpgradeDemo], str]"]
FIRST: tuple[Step, ...] = (
    (f"{OLD}, installed by its own manifests", the_old_release),
    (f"The usual way to {NEW}", the_usual_way),
    ("The plan of this collection", the_plan),
)
WITH_PODS: tuple[Step, ...] = (
    *FIRST,
    ("A run that fails", a_failure),
    ("One play over both clusters, while snapshots are created", one_play),
    ("The state of both clusters", own_eyes),
    ("The same play again", the_same_again),
)
WITHOUT_PODS: tuple[Step, ...] = (*FIRST, ("Every step, in check mode", tried))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-upgrade", description=__doc__)
    parser.add_argument(
        "--without-pods", action="store_true", help="show only what needs no pods, also as root"
    )
    reason = clusters.why_no_node()
    reason = "as requested" if parser.parse_args().without_pods else reason
    return ended(lambda: _tell(reason))


def _tell(reason: str) -> bool:
    """Run the demo. reason: why no pods run, or "" if they run."""
    announce(
        f"Upgrade the snapshot controller and its webhook from {OLD} to {NEW}, on two real Kubernetes clusters.",
        [title for title, _step in (WITHOUT_PODS if reason else WITH_PODS)],
    )
    if reason:
        say(
            f"  No pod runs here: {reason}. So the demo shows the plan, and tries every step on the API servers."
        )
    for release in (OLD, NEW):
        build.snapshot_manifests(release)
        if not reason:
            build.snapshot_programs(release)
    start = time.monotonic()
    suffix = "" if reason else "-node"
    with clusters.running({name: f"{name}{suffix}" for name in NAMES}) as fleet:
        say(f"  ready after {time.monotonic() - start:.0f} s")
        complete = _steps(UpgradeDemo(fleet, has_pods=not reason), WITHOUT_PODS if reason else WITH_PODS)
    say_end(complete, start)
    return complete


def _steps(demo: UpgradeDemo, steps: Sequence[Step]) -> bool:
    demo.prepare()
    if demo.has_pods:
        demo.each(partial(lab.load_images, release=NEW))
    return story.told(demo, steps)


if __name__ == "__main__":
    sys.exit(main())
