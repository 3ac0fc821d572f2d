# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `make demo-ca`: the rotation of the CA of two real control planes, of which only one is prepared.

The exit status is 0 only if every step succeeded.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.certificate_facts import describe_pem
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain.issuer_index import is_signed_by

from examples.demo import objects, story
from examples.demo.clusters import FleetPlaybooks, Unseen, announce, ended, progress, quote, say, say_end
from tests.support import clusters
from tests.support.certificates.authority import Issued, dns, issue
from tests.support.clusters import AdminApiError, kubeconfig
from tests.support.waiting import now, wait_for
from tests.support.webhooks.forwarded_pods import ForwardedPods
from tests.support.webhooks.https_webhook import OneRequestHandler, WebhookServer, allow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.support.clusters import Cluster, Fleet
    from tests.support.clusters.pki import KeyPair

PREPARED, UNPREPARED = "berlin", "dublin"
HOSTS = (PREPARED, UNPREPARED)
#: The webhook whose certificate is from the playbook `certificates`, and the webhooks of other programs -> their failure policies.
OWN = objects.SERVICE
OTHERS = {"image-policy": "Fail", "pod-identity": "Ignore"}
POLICIES = {OWN: "Fail", **OTHERS}
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
YEAR, DAY = datetime.timedelta(days=365), datetime.timedelta(days=1)
CALLED, SKIPPED, REFUSED = "accepted", "accepted, but the webhook was NOT called", "refused"
WITHOUT = "bundle-without-successor"
NEVER = ("-e", "certflow_fail_on=never")
FINISH = ("-e", "certflow_ca_phase=finish")


class Pair(NamedTuple):
    """A certificate and its key, as a webhook serves them."""

    certificate_pem: bytes
    key_pem: bytes


class Site:
    """A control plane with three webhooks on this machine, each of them the port of a pod."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rotation = cluster.rotation()
        self._pods = ForwardedPods(cluster)
        self.servers: dict[str, WebhookServer] = {}
        self._delivered = ""
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": objects.NAMESPACE}})
        wait_for(lambda: self._names("serviceaccounts") and self._names("configmaps"))
        for name in POLICIES:
            self._create(name)

    def close(self) -> None:
        self._pods.close()
        for server in self.servers.values():
            server.close()

    def _names(self, kind: str) -> list[str]:
        items = self.cluster.api("GET", f"{objects.NAMESPACED}/{kind}")["items"]
        return [item["metadata"]["name"] for item in items]

    def _create(self, name: str) -> None:
        """Create a webhook, its Service and its configuration. The configuration of another program has a caBundle."""
        server = WebhookServer(allow, self._pods.next_address())
        server.RequestHandlerClass = OneRequestHandler
        self.servers[name] = server
        address = (str(server.server_address[0]), server.port)
        self._pods.create(
            lambda path, body: self.cluster.api("POST", path, body), objects.NAMESPACE, name, address
        )
        body = objects.configuration(server.port)
        (webhook,) = body["webhooks"]
        body["metadata"]["name"] = webhook["name"] = f"{name}.example.com"
        webhook["clientConfig"]["service"]["name"] = name
        webhook["objectSelector"] = {"matchLabels": {"webhook": name}}
        webhook["failurePolicy"] = POLICIES[name]
        if name in OTHERS:
            self.issue(name, self.rotation.outgoing)
            pem = self.rotation.outgoing.certificate_pem
            webhook["clientConfig"]["caBundle"] = base64.b64encode(pem).decode()
        self.cluster.api("POST", f"{objects.CONFIGURATIONS}?fieldManager=kubectl-create", body)
        server.serve()

    def issue(self, name: str, ca: KeyPair, *, age: datetime.timedelta = datetime.timedelta()) -> None:
        """Give a webhook of another program a certificate that this CA of the cluster issued, with this age."""
        begin = now() - age - datetime.timedelta(minutes=5)
        names = dns(f"{name}.{objects.NAMESPACE}.svc")
        issuer = Issued(ca.certificate, ca.key)
        made = issue("webhook", issuer, names=names, not_before=begin, not_after=begin + YEAR)
        self.servers[name].present(clusters.pki.KeyPair(made.certificate, made.key))

    def deliver(self) -> None:
        """Give the own webhook the certificate of its Secret. In a cluster, kubelet does this, and the webhook reloads its files."""
        if objects.SECRET in self._names("secrets"):
            certificate, key = self._pair()
            if certificate != self._delivered:
                self.servers[OWN].present(Pair(certificate.encode(), key.encode()))
                self._delivered = certificate

    def is_renewed(self) -> bool:
        """Return True if the successor issued the certificate of the own webhook."""
        return is_signed_by(
            describe_pem(self._pair()[0]), describe_pem(self.rotation.successor.certificate_pem.decode())
        )

    def _pair(self) -> tuple[str, str]:
        return objects.pair(self.cluster.api("GET", f"{objects.NAMESPACED}/secrets/{objects.SECRET}"))

    def call(self, name: str) -> tuple[str, str]:
        """Create a ConfigMap that only this webhook matches, as a dry run. Return the outcome and the message of the API server."""
        calls = self.servers[name].calls
        before = len(calls)
        try:
            body = objects.config_map("colours", webhook=name)
            self.cluster.api("POST", f"{objects.CONFIG_MAPS}?dryRun=All", body)
        except AdminApiError as error:
            return REFUSED, error.message
        return (CALLED if len(calls) > before else SKIPPED), ""

    def trusts(self, name: str, ca: KeyPair) -> bool:
        """Return True if the caBundle of a webhook has this CA."""
        (webhook,) = self.cluster.api("GET", f"{objects.CONFIGURATIONS}/{name}.example.com")["webhooks"]
        return ca.certificate_pem in base64.b64decode(webhook["clientConfig"].get("caBundle", ""))


class CaDemo(FleetPlaybooks):
    """Both sites, and a thread that delivers the certificates of Secrets."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._ended = threading.Event()
        self._kubelet = threading.Thread(target=self._deliver, daemon=True)
        self.sites = {host: Site(fleet[host]) for host in HOSTS}
        self._kubelet.start()
        self.write_kubeconfig()
        self._write_inventory()

    def close(self) -> None:
        self._ended.set()
        self._kubelet.join()
        for site in self.sites.values():
            site.close()

    def write_kubeconfig(self) -> None:
        """Write the kubeconfig with the CAs that each cluster publishes now."""
        parts = [site.cluster.kubeconfig_for("operator", ["system:masters"]) for site in self.sites.values()]
        kubeconfig.merge(self.directory / "kubeconfig", parts)

    def _write_inventory(self) -> None:
        variables = {
            "certflow_kubeconfig": str(self.directory / "kubeconfig"),
            "certflow_context": "{{ inventory_hostname }}",
            "certflow_repair_options": {"proof_after": 1},
            # An API server of the demo publishes an address that no program listens at, so the audit cannot ask it.
            "certflow_cluster_ca": {"confirmed": True},
            "webhook_certificate_service": OWN,
            "webhook_certificate_namespace": objects.NAMESPACE,
            "webhook_certificate_secret": {"name": objects.SECRET},
            "webhook_certificate_targets": [
                {"kind": "ValidatingWebhookConfiguration", "name": f"{OWN}.example.com"}
            ],
        }
        content = {"clusters": {"hosts": dict.fromkeys(HOSTS), "vars": variables}}
        (self.directory / "fleet.yml").write_text(yaml.safe_dump(content, sort_keys=False))

    def _deliver(self) -> None:
        while not self._ended.wait(0.3):
            for site in self.sites.values():
                with contextlib.suppress(AdminApiError, OSError):
                    site.deliver()

    def work(self, name: str, expected: dict[str, str], *words: str) -> str:
        """Run a playbook that ends with these statuses of its hosts, and return its summary. Raises Unseen."""
        limit = ("--limit", ",".join(expected)) if len(expected) < len(HOSTS) else ()
        status, output = self.play(name, *limit, *words, "-e", "certflow_report=report.json")
        summary = progress(output, HOSTS)
        if status or self.report() != expected:
            quote(output)
            raise Unseen(f"the playbook ended with status {status}: {self.report()}")
        quote(summary)
        return summary

    def audit(self, hosts: Iterable[str]) -> dict[str, dict[str, str]]:
        """Audit hosts. Return for each host the webhooks whose caBundle lacks the successor, with the severity."""
        words = ("--limit", ",".join(hosts), *NEVER, "-e", "certflow_report=audit.json")
        self.play("audit", *words)
        lacking: dict[str, dict[str, str]] = {}
        for row in self.rows("audit.json"):
            for finding in row["findings"]:
                if finding["status"] == "fail" and finding["check"] == WITHOUT:
                    name = finding["object"]["name"].removesuffix(".example.com")
                    lacking.setdefault(row["name"], {})[name] = finding["severity"]
                    quote(f"{row['name']}: {finding['severity']}: {finding['cause']}")
        return lacking

    def calls(self, expected: dict[str, dict[str, str]]) -> None:
        """Send a request for each webhook, and print its end. Fail if a request does not end as expected in time."""
        for host, ends in expected.items():
            for name, end in ends.items():
                call = functools.partial(self.sites[host].call, name)
                wait_for(functools.partial(ends_as, call, end), evidence=call)
                message = call()[1]
                say(f"     {host:7} {name:13} {POLICIES[name]:7} {end}{': ' if message else ''}{message}")


def ends_as(call: Callable[[], tuple[str, str]], end: str) -> bool:
    return call()[0] == end


WORKING = {host: dict.fromkeys(POLICIES, CALLED) for host in HOSTS}


def the_certificates(demo: CaDemo) -> str:
    """Issue the certificate of the own webhook on both clusters, before the rotation."""
    demo.work("certificates", dict.fromkeys(HOSTS, "changed"))
    demo.calls(WORKING)
    return (
        f"each cluster has a webhook of the weekly playbook, and two of other programs ({', '.join(OTHERS)})"
    )


def the_audit(demo: CaDemo) -> str:
    """Publish the successor, and audit."""
    say("   Both clusters publish a successor beside their CA. The outgoing CA still signs.")
    for site in demo.sites.values():
        site.rotation.publish()
    say("   The owner of the kubeconfig adds the successor to it.")
    demo.write_kubeconfig()
    lacking = demo.audit(HOSTS)
    if lacking != {host: dict.fromkeys(POLICIES, "warning") for host in HOSTS}:
        raise Unseen(f"the audit names {lacking}")
    return "the audit names each webhook that the switch breaks, and no call has failed yet"


def the_preparation(demo: CaDemo) -> str:
    """Plan and prepare one cluster."""
    say(f"   {UNPREPARED} is left out, to show what happens to a cluster without this phase.")
    demo.work("cluster_ca", {PREPARED: "planned"}, "--check")
    plan = demo.directory / "plan.json"
    (demo.directory / "report.json").rename(plan)
    demo.work("cluster_ca", {PREPARED: "changed"}, "-e", "certflow_plan=plan.json")
    site = demo.sites[PREPARED]
    if not all(site.trusts(name, ca) for name in POLICIES for ca in both(site)):
        raise Unseen("not every caBundle has both CAs")
    return f"every caBundle of {PREPARED} has both CAs, and those of {UNPREPARED} have one"


def both(site: Site) -> tuple[KeyPair, KeyPair]:
    return site.rotation.outgoing, site.rotation.successor


def the_switch(demo: CaDemo) -> str:
    """Switch both clusters, and let the other programs renew their certificates."""
    say(f"   Both clusters switch. Then {' and '.join(OTHERS)} renew their certificates by themselves.")
    for site in demo.sites.values():
        site.rotation.switch()
        for name in OTHERS:
            site.issue(name, site.rotation.successor)
    demo.calls(
        {
            PREPARED: WORKING[PREPARED],
            UNPREPARED: {OWN: CALLED, "image-policy": REFUSED, "pod-identity": SKIPPED},
        }
    )
    return f"on {PREPARED} every call works. On {UNPREPARED} one webhook refuses all, and one is skipped silently"


def the_renewal(demo: CaDemo) -> str:
    """Run the weekly playbook."""
    demo.work("certificates", dict.fromkeys(HOSTS, "changed"))
    for host, site in demo.sites.items():
        if not site.is_renewed():
            raise Unseen(f"the certificate of {OWN} on {host} is not of the successor")
    demo.calls({host: {OWN: CALLED} for host in HOSTS})
    return f"{OWN} has a certificate of the successor on both clusters, also without the preparation"


def the_repair(demo: CaDemo) -> str:
    """Audit the cluster that was not prepared, and run the phase prepare after the switch."""
    lacking = demo.audit([UNPREPARED])
    if lacking != {UNPREPARED: dict.fromkeys(OTHERS, "error")}:
        raise Unseen(f"the audit names {lacking}")
    demo.work("cluster_ca", {UNPREPARED: "changed"})
    demo.calls({UNPREPARED: WORKING[UNPREPARED]})
    return f"the phase prepare repairs {UNPREPARED} after the switch"


def the_early_finish(demo: CaDemo) -> str:
    """Run the phase finish on the day of the switch."""
    summary = demo.work("cluster_ca", dict.fromkeys(HOSTS, "waiting"), *FINISH)
    if "not-settled" not in summary:
        raise Unseen("the clusters do not wait for a day")
    return (
        "both clusters wait, because a signer may still return to the outgoing CA, and no failure is counted"
    )


def the_finish(demo: CaDemo) -> str:
    """Run the phase finish as on the next day, and let the clusters remove the outgoing CA."""
    say(
        "   The demo does not wait for a day. It removes the old requests, as each cluster does after an hour,"
    )
    say("   and gives the other programs certificates that are two days old.")
    for site in demo.sites.values():
        site.cluster.api("DELETE", REQUESTS)
        for name in OTHERS:
            site.issue(name, site.rotation.successor, age=2 * DAY)
    demo.work("cluster_ca", dict.fromkeys(HOSTS, "changed"), *FINISH)
    for host, site in demo.sites.items():
        if any(site.trusts(name, site.rotation.outgoing) for name in POLICIES):
            raise Unseen(f"a caBundle of {host} has the outgoing CA")
        site.rotation.drop_outgoing()
    say("   Both clusters have removed the outgoing CA.")
    demo.calls(WORKING)
    return "every caBundle has only the successor, the outgoing CA is gone, and every call works"


STEPS: Sequence[tuple[str, Callable[[CaDemo], str]]] = (
    ("Certificates of two clusters", the_certificates),
    ("A successor, and the audit", the_audit),
    ("The phase prepare on one cluster", the_preparation),
    ("The switch", the_switch),
    ("The weekly playbook", the_renewal),
    ("The cluster that was not prepared", the_repair),
    ("The phase finish, too early", the_early_finish),
    ("The phase finish, a day later", the_finish),
)


def main() -> int:
    return ended(_show)


def _show() -> bool:
    announce(
        "Rotate the CA of two real control planes, of which only one is prepared.",
        [title for title, _step in STEPS],
    )
    start = time.monotonic()
    profiles: dict[str, Any] = dict.fromkeys(HOSTS, "local-services")
    with clusters.running(profiles) as fleet, contextlib.closing(CaDemo(fleet)) as demo:
        is_complete = story.told(demo, STEPS)
    say_end(is_complete, start)
    return is_complete


if __name__ == "__main__":
    sys.exit(main())
