# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `make demo-fleet`: audit, plan, canary, soak, budget, report and repair of a fleet.

The fleet has six clusters. Each is a kubeconfig context with a namespace and a webhook of its own, and three of them share a real
control plane. The exit status is 0 only if every step succeeded.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import yaml

from examples.demo import objects, story
from examples.demo.clusters import FleetPlaybooks, Unseen, announce, ended, progress, quote, say, say_end
from examples.demo.webhook import DemoWebhook, judge
from tests.support import clusters
from tests.support.clusters import AdminApiError, kubeconfig, pki
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

#: Host -> its control plane.
HOSTS = {
    "berlin-1": "onprem",
    "berlin-2": "onprem",
    "berlin-3": "onprem",
    "dublin-1": "eks",
    "dublin-2": "eks",
    "dublin-3": "eks",
}
CANARY, BROKEN, STALE = "berlin-1", "dublin-1", "berlin-2"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
NAMESPACES = "/api/v1/namespaces"
FAILED_STATUS = 2
#: Two clusters at a time, so the clusters after the failed one have not started when it fails.
STAGES = [
    {"name": "canary", "hosts": CANARY, "soak": "5s"},
    {"name": "fleet", "hosts": "rest", "max_concurrency": 2},
]
#: The webhooks of the demo are on this machine, outside of the clusters.
OUTSIDE = {
    "certflow_audit_options": {"probe_urls": True},
    "certflow_repair_options": {"probe_urls": True, "proof_after": 2},
}


class FleetDemo(FleetPlaybooks):
    """The hosts, a webhook on this machine for each, and a thread that gives each webhook its certificate."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self.webhooks = {host: DemoWebhook(judge) for host in HOSTS}
        self._ended = threading.Event()
        self._kubelet = threading.Thread(target=self._deliver, daemon=True)

    def close(self) -> None:
        self._ended.set()
        if self._kubelet.is_alive():
            self._kubelet.join()
        for webhook in self.webhooks.values():
            webhook.close()

    def cluster(self, host: str) -> Cluster:
        return self.fleet[HOSTS[host]]

    def prepare(self) -> None:
        """Create a namespace, a Service, a webhook configuration and a user for each host, and write the inventory."""
        parts = []
        for host in HOSTS:
            cluster = self.cluster(host)
            cluster.api("POST", NAMESPACES, {"metadata": {"name": host}})
            cluster.api("POST", f"{NAMESPACES}/{host}/services", objects.service())
            cluster.api("POST", objects.CONFIGURATIONS, self._configuration(host))
            self.permit(host)
            parts.append(self._context(host))
        kubeconfig.merge(self.directory / "kubeconfig", parts)
        self._write_inventory()
        self._kubelet.start()

    def permit(self, host: str) -> None:
        """Give the host's user its permissions."""
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": host}
        body = {"metadata": {"name": host}, "roleRef": role, "subjects": [subject]}
        self.cluster(host).api("POST", BINDINGS, body)

    def forbid(self, host: str) -> None:
        self.cluster(host).api("DELETE", f"{BINDINGS}/{host}")

    def _configuration(self, host: str) -> dict[str, Any]:
        """Return the webhook configuration of the host, which calls the webhook of its namespace."""
        found = objects.configuration(self.webhooks[host].port)
        (webhook,) = found["webhooks"]
        found["metadata"]["name"] = webhook["name"] = f"{host}.example.com"
        webhook["clientConfig"]["service"]["namespace"] = host
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": host}}
        return found

    def _context(self, host: str) -> Path:
        """Return a kubeconfig with one context, which has the name of the host."""
        content = yaml.safe_load(self.cluster(host).kubeconfig_for(host).read_text())
        for section in ("clusters", "users", "contexts"):
            content[section] = [{**content[section][0], "name": host}]
        content["contexts"][0]["context"] = {"cluster": host, "user": host}
        content["current-context"] = host
        path = self.directory / f"kubeconfig-{host}"
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path

    def _write_inventory(self) -> None:
        variables = {
            "certflow_kubeconfig": str(self.directory / "kubeconfig"),
            "certflow_context": "{{ inventory_hostname }}",
            "certflow_allow_shared_cluster": True,
            "webhook_certificate_service": objects.SERVICE,
            "webhook_certificate_namespace": "{{ inventory_hostname }}",
            "webhook_certificate_secret": {"name": objects.SECRET},
            "webhook_certificate_targets": [
                {"kind": "ValidatingWebhookConfiguration", "name": "{{ inventory_hostname }}.example.com"}
            ],
        }
        content = {"clusters": {"hosts": dict.fromkeys(HOSTS), "vars": variables}}
        (self.directory / "fleet.yml").write_text(yaml.safe_dump(content, sort_keys=False))
        (self.directory / "stages.yml").write_text(yaml.safe_dump({"certflow_stages": STAGES}))
        (self.directory / "outside.yml").write_text(yaml.safe_dump(OUTSIDE))

    def _deliver(self) -> None:
        """Give each webhook the certificate of its Secret, as kubelet and a webhook do that reloads its files."""
        waiting = set(HOSTS)
        while waiting and not self._ended.wait(0.3):
            for host in sorted(waiting):
                with contextlib.suppress(AdminApiError, OSError):
                    if self.holds(host):
                        self.webhooks[host].serve(*self._pair(host))
                        waiting.discard(host)

    def holds(self, host: str) -> bool:
        """Return True if the host has a certificate."""
        items = self.cluster(host).api("GET", f"{NAMESPACES}/{host}/secrets")["items"]
        return any(item["metadata"]["name"] == objects.SECRET for item in items)

    def _pair(self, host: str) -> tuple[str, str]:
        path = f"{NAMESPACES}/{host}/secrets/{objects.SECRET}"
        return objects.pair(self.cluster(host).api("GET", path))

    def findings(self, name: str) -> list[dict[str, Any]]:
        """Return the findings in the report of an audit."""
        return [finding for row in self.rows(name) for finding in row["findings"]]

    def faults(self, name: str) -> set[str]:
        """Return the checks that find an error about the webhook with the stale bundle, in the report of an audit."""
        return {
            finding["check"]
            for finding in self.findings(name)
            if finding["severity"] == "error" and finding["object"].get("name") == f"{STALE}.example.com"
        }

    def call(self, host: str) -> str:
        """Return the answer of an API server to a ConfigMap that its webhook allows, "accepted" for none."""
        path = f"{NAMESPACES}/{host}/configmaps?dryRun=All"
        try:
            self.cluster(host).api("POST", path, objects.config_map("colours", team="paint"))
        except AdminApiError as error:
            return error.message
        return "accepted"


def the_audit(demo: FleetDemo) -> str:
    """Audit one cluster of each control plane before the roll-out. It shows the webhooks of all clusters there."""
    words = (
        "--limit",
        f"{CANARY},{BROKEN}",
        "-e",
        "certflow_fail_on=never",
        "-e",
        "certflow_report=before.json",
    )
    _status, output = demo.play("audit", *words)
    told = output.rpartition("TASK [")[2].partition("PLAY RECAP")[0]
    quote("\n".join(told.splitlines()[1:14]))
    named = {finding["object"].get("name") for finding in demo.findings("before.json")}
    if not {f"{host}.example.com" for host in HOSTS} <= named:
        raise Unseen("the audit does not name the webhooks")
    return "no API server can call a webhook, because none has a CA bundle"


def the_plan(demo: FleetDemo) -> str:
    """Plan the run. Nothing is written."""
    status, output = demo.play("certificates", "--check", "-e", "certflow_report=report.json")
    quote(progress(output, HOSTS))
    if status or set(demo.report().values()) != {"planned"}:
        raise Unseen(f"the plan ended with status {status}: {demo.report()}")
    if any(map(demo.holds, HOSTS)):
        raise Unseen("the plan has written a Secret")
    return "six certificates would be issued, and nothing was written"


def the_stopped_run(demo: FleetDemo) -> str:
    """Run in stages. One cluster fails, so the budget is spent."""
    say(
        f"   The user of {BROKEN} loses its permissions. The budget is 0, so the first failure stops the run."
    )
    demo.forbid(BROKEN)
    status, output = demo.play("certificates", "-e", "@stages.yml", "-e", "certflow_report=report.json")
    quote(progress(output, HOSTS))
    found = demo.report()
    if status != FAILED_STATUS or found[CANARY] != "changed" or found[BROKEN] != "failed":
        raise Unseen(f"the run ended with status {status}: {found}")
    held = {host for host in HOSTS if demo.holds(host)}
    if held != {host for host, status in found.items() if status == "changed"}:
        raise Unseen(f"the report is {found}, and these hosts have a certificate: {', '.join(sorted(held))}")
    if "not started" not in found.values():
        raise Unseen(f"every cluster was started: {found}")
    return f"the canary was verified after its soak, {BROKEN} failed, and no further cluster was started"


def the_second_run(demo: FleetDemo) -> str:
    """Repair the cluster and run again."""
    demo.permit(BROKEN)
    status, output = demo.play("certificates", "-e", "@stages.yml", "-e", "certflow_report=report.json")
    quote(progress(output, HOSTS))
    if status or not all(map(demo.holds, HOSTS)):
        raise Unseen(f"the run ended with status {status}: {demo.report()}")
    return "the same command continued: clusters with a certificate kept it, the others got one"


def the_report(demo: FleetDemo) -> str:
    """Show the report, and call each webhook through its API server."""
    found = demo.report()
    quote("\n".join(f"{host}  {status}" for host, status in found.items()))
    answers = {host: demo.call(host) for host in HOSTS}
    if {*answers.values()} != {"accepted"}:
        raise Unseen(f"the answers are {answers}")
    return "the report has every cluster, and each API server has called its webhook"


def the_stale_bundle(demo: FleetDemo) -> str:
    """Replace the CA bundle of a webhook by that of another CA, and audit its cluster."""
    say(f"   A person pastes the CA of another cluster into the CA bundle of {STALE}.")
    cluster, path = demo.cluster(STALE), f"{objects.CONFIGURATIONS}/{STALE}.example.com"
    found = cluster.api("GET", path)
    client = found["webhooks"][0]["clientConfig"]
    client["caBundle"] = base64.b64encode(pki.make_ca("another cluster").certificate_pem).decode()
    cluster.api("PUT", f"{path}?fieldManager=kubectl-edit", found)
    wait_for(lambda: demo.call(STALE) != "accepted")
    quote(demo.call(STALE))
    words = (
        "--limit",
        STALE,
        "-e",
        "@outside.yml",
        "-e",
        "certflow_report=audit.json",
        "-e",
        "certflow_fail_on=never",
    )
    _status, output = demo.play("audit", *words)
    if "ca-mismatch" not in demo.faults("audit.json"):
        quote(output)
        raise Unseen("the audit does not find the stale bundle")
    return "the API server refuses every ConfigMap there, and the audit names the bundle"


def the_repair(demo: FleetDemo) -> str:
    """Plan the repair of what the audit found, and carry it out."""
    words = ("--limit", STALE, "-e", "@outside.yml", "-e", "certflow_findings=audit.json")
    status, output = demo.play("repair", *words, "--check", "-e", "certflow_report=plan.json")
    quote(progress(output, HOSTS))
    if status or demo.call(STALE) == "accepted":
        raise Unseen(f"the plan ended with status {status}, or wrote something")
    plan = ("-e", "certflow_plan=plan.json", "-e", "certflow_report=report.json")
    status, output = demo.play("repair", *words, *plan)
    quote(progress(output, HOSTS))
    if status or demo.report() != {STALE: "changed"}:
        raise Unseen(f"the repair ended with status {status}: {demo.report()}")
    return "one write added the CA that the cluster publishes, and a second audit inside the run proved it"


def the_clean_audit(demo: FleetDemo) -> str:
    """Audit the cluster again."""
    words = ("--limit", STALE, "-e", "@outside.yml", "-e", "certflow_report=clean.json")
    demo.play("audit", *words, "-e", "certflow_compare_with=audit.json", "-e", "certflow_fail_on=never")
    if demo.faults("clean.json") or demo.call(STALE) != "accepted":
        raise Unseen(
            f"the audit finds {demo.faults('clean.json')}, and the API server answers {demo.call(STALE)}"
        )
    return "the finding is gone, and the API server calls the webhook again"


STEPS: Sequence[tuple[str, Callable[[FleetDemo], str]]] = (
    ("Audit", the_audit),
    ("Plan", the_plan),
    ("Canary, soak and budget", the_stopped_run),
    ("The same command again", the_second_run),
    ("Report", the_report),
    ("A stale CA bundle", the_stale_bundle),
    ("Plan and repair", the_repair),
    ("Clean audit", the_clean_audit),
)


def main() -> int:
    return ended(_show)


def _show() -> bool:
    announce(
        f"Roll out a webhook's certificate to {len(HOSTS)} clusters on two real control planes.",
        [title for title, _step in STEPS],
    )
    start = time.monotonic()
    with (
        clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet,
        contextlib.closing(FleetDemo(fleet)) as demo,
    ):
        demo.prepare()
        is_complete = story.told(demo, STEPS)
    say_end(is_complete, start)
    return is_complete


if __name__ == "__main__":
    sys.exit(main())
