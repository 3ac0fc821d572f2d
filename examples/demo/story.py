# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of the demo. Each returns one sentence about its result, or raises Unseen."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any, TypeVar

from examples.demo import objects, rotation
from examples.demo.clusters import CertificateDemo, Unseen, changed, quote, say, secret
from examples.demo.webhook import RULE
from tests.support import clusters
from tests.support.clusters import APP_SERVING, AdminApiError, ClusterError, pki, snapshotter_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.clusters import Fleet

REQUEST = f"{objects.SERVICE}.{objects.NAMESPACE}"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNERS = {"onprem": "kubernetes.io/kubelet-serving", "eks": APP_SERVING}
Where = TypeVar("Where")


def the_usual_script(demo: CertificateDemo) -> str:
    """Run create-cert.sh of external-snapshotter on the EKS-like cluster."""
    cluster = demo.fleet["eks"]
    script = snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example" / "create-cert.sh"
    words = ["--service", objects.SERVICE, "--namespace", objects.NAMESPACE, "--secret", objects.SECRET]
    say("   The script of external-snapshotter 7.0.2. It asks the signer kubernetes.io/kubelet-serving.")
    say(f"   $ create-cert.sh {' '.join(words)}        (about 12 s)")
    scratch = demo.directory / "scratch"
    scratch.mkdir(mode=0o700)
    try:
        status, output = demo.run(
            "bash", script, *words, KUBECONFIG=str(cluster.kubeconfig), TMPDIR=str(scratch)
        )
        keys = list(scratch.glob("*/server-key.pem"))
    finally:
        shutil.rmtree(scratch)
    quote(output)
    request = cluster.api("GET", f"{REQUESTS}/{REQUEST}")
    conditions = [condition["type"] for condition in request["status"].get("conditions", [])]
    if status == 0 or conditions != ["Approved"] or request["status"].get("certificate"):
        raise Unseen(
            f"the script ended with status {status}, its request is {conditions}: not stuck at Approved"
        )
    say("   It failed, and its message has no cause.")
    for key in keys:
        say(f"   It left the private key in a file, {key.name} in its tmpdir, which the demo removes.")
    return f"request {REQUEST} is approved and never issued, and the script failed"


def the_explanation(demo: CertificateDemo) -> str:
    """Run k8s_csr_info on the request that the script left."""
    start = time.monotonic()
    output = demo.playbook("diagnose.yml")
    seconds = time.monotonic() - start
    quote(output.partition("TASK [Show the diagnosis]")[2].partition("PLAY RECAP")[0].partition("\n")[2])
    words = " ".join(output.split())
    if "code: signer-not-served" not in words or f"Use signer_name: {APP_SERVING}." not in words:
        raise Unseen("the diagnosis does not name the signer as the cause")
    return f"it names the signer as the cause, and the signer to use instead, after {seconds:.1f} s"


def one_play(demo: CertificateDemo) -> str:
    """Run the role on both clusters."""
    output = demo.playbook("play.yml")
    quote(output.partition("TASK [Show the result]")[2].partition("\n")[2])
    for name, signer in SIGNERS.items():
        if not changed(output).get(name):
            raise Unseen(f"the play changed nothing on {name}")
        issued = [
            request
            for request in demo.fleet[name].api("GET", REQUESTS)["items"]
            if request["metadata"]["name"].startswith("certflow-") and request["status"].get("certificate")
        ]
        if [request["spec"]["signerName"] for request in issued] != [signer]:
            raise Unseen(f"{name}: {signer} has not issued exactly one certificate")
        secret(demo.fleet[name])
    return f"a certificate on onprem (kubelet-serving) and on eks ({APP_SERVING.partition('/')[2]})"


def real_calls(demo: CertificateDemo) -> str:
    """Create ConfigMaps, so that each API server calls the webhook with the certificate of the Secret."""
    for name, cluster in demo.fleet.items():
        webhook = demo.webhooks[name]
        if demo.broken == "certificate":
            what, pair = "a certificate of its own", _self_signed()
        else:
            what, pair = "the Secret's certificate", secret(cluster)
        webhook.serve(*pair)
        say(f"   {name}: the webhook serves {what} on 127.0.0.1:{webhook.port}")
        good, bad = objects.config_map("colours", team="paint"), objects.config_map("shapes")
        try:
            cluster.api("POST", f"{objects.CONFIG_MAPS}?dryRun=All", good)
        except AdminApiError as error:
            raise Unseen(f"{name}: a good ConfigMap was refused: {error.message}") from error
        say("     ConfigMap colours, with a label team: accepted")
        try:
            cluster.api("POST", f"{objects.CONFIG_MAPS}?dryRun=All", bad)
        except AdminApiError as error:
            if RULE not in error.message:
                raise Unseen(
                    f"{name}: a bad ConfigMap was refused, but not by the webhook: {error}"
                ) from error
            say(f"     ConfigMap shapes, without one: {error.message}")
        else:
            raise Unseen(f"{name}: a bad ConfigMap was accepted")
        if webhook.calls != ["colours", "shapes"]:
            raise Unseen(f"{name}: the webhook was called for {webhook.calls}")
    return "each API server called its webhook twice: it accepted a good ConfigMap and refused a bad one"


def the_same_again(demo: CertificateDemo) -> str:
    """Run the play again."""
    before = {name: secret(cluster) for name, cluster in demo.fleet.items()}
    output = demo.playbook("play.yml")
    quote(output.rpartition("PLAY RECAP")[2].partition("\n")[2])
    if changed(output) != dict.fromkeys(SIGNERS, 0):
        raise Unseen(f"tasks that changed something, by cluster: {changed(output)}")
    if before != {name: secret(cluster) for name, cluster in demo.fleet.items()}:
        raise Unseen("a Secret has other content than before")
    return "changed=0 on both clusters, and the Secrets are the same"


Step = tuple[str, "Callable[[CertificateDemo], str]"]
ON_A_NODE: Step = ("Two renewals while the webhook is called", rotation.under_load)
STEPS: tuple[Step, ...] = (
    ("The usual way, on the EKS-like cluster", the_usual_script),
    ("The diagnosis of that request", the_explanation),
    ("One play over both clusters", one_play),
    ("Each API server calls its webhook", real_calls),
    ("The same play again", the_same_again),
)


def tell(fleet: Fleet, steps: Sequence[Step], broken: str = "") -> bool:
    """Run the steps on the clusters `onprem` and `eks`. Return True if every step succeeded."""
    demo = CertificateDemo(fleet, broken)
    with contextlib.closing(demo):
        demo.prepare()
        return told(demo, steps)


def told(place: Where, steps: Sequence[tuple[str, Callable[[Where], str]]]) -> bool:
    """Run the steps until one fails, and print a summary. Return True if every step succeeded."""
    seen: list[tuple[str, str, str]] = []
    for number, (title, step) in enumerate(steps, 1):
        say(f"\n{number}. {title}")
        start = time.monotonic()
        try:
            answer, result = step(place), "seen"
        except (Unseen, AdminApiError, ClusterError, OSError, AssertionError) as error:
            answer, result = str(error), "FAILED"
        say(f"   => {answer}")
        seen.append((result, f"{time.monotonic() - start:4.1f} s", f"{title}: {answer}"))
        if result == "FAILED":
            break
    _summary(seen, [title for title, _step in steps[len(seen) :]])
    return len(seen) == len(steps) and all(result == "seen" for result, _time, _text in seen)


def steps_of(broken: str = "") -> tuple[Step, ...]:
    """Return the steps that can run on this machine. broken: the part that is broken on purpose, or ""."""
    if broken:
        return STEPS[2:]  # the earlier steps do not use the broken parts
    steps = STEPS
    if reason := clusters.why_no_build():
        say(f"  The first two steps, with create-cert.sh, do not run: {reason} to download the script.")
        steps = STEPS[2:]
    if reason := clusters.why_no_node():
        say(f"  The last step, a renewal under load, does not run: {reason}.")
        return steps
    return (*steps, ON_A_NODE)


def _summary(seen: list[tuple[str, str, str]], missing: list[str]) -> None:
    say("\nSummary")
    for result, seconds, text in seen:
        say(f"  {result:6}  {seconds:>7}  {text}")
    for title in missing:
        say(f"  {'-':6}  {'':7}  {title}: not reached")


def _self_signed() -> tuple[str, str]:
    """Return certificate and key with the right names, signed by a CA that the cluster does not trust."""
    ca: Any = pki.make_ca("unknown")
    pair = pki.issue(ca, "webhook", names=(f"{objects.SERVICE}.{objects.NAMESPACE}.svc",))
    return pair.certificate_pem.decode(), pair.key_pem.decode()
