# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Send the requests of a probe to the API servers, read their answers, and make API servers reconnect to a webhook.

An API server keeps one client with open connections for each client configuration. The bytes of the bundle are part of the
configuration (k8s.io/apiserver pkg/util/webhook/client.go; client-go transport/cache.go for aggregated APIs). With other bytes
it makes another client. With bytes that it knows it uses the old client and perhaps an old connection. So the number of line
breaks at the end of the bundle counts up and starts again, instead of toggling.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from .._base.accept import Consent
from .._kube import access_review
from .._kube.client import Client
from .._kube.errors import AlreadyExists, ApiError, AuthenticationError, Forbidden, KubeError
from .._kube.lease_state import read_lease
from . import admission_call, bundle_patch, bundle_targets, call_failures, served_chains
from .admission_call import ApiResource, ProbeCall
from .admission_match import AdmissionRequest
from .bundle_patch import BundleChange, TargetChange
from .bundle_targets import ClientConfig, Object, Target
from .probe_verdict import ApiServers, EndpointEvidence, WebhookAnswer
from .served_chains import EndpointScan, ServedChain

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
# KEP-1965: each API server holds one; k8s.io/kubernetes pkg/controlplane/instance.go.
LEASE_LABEL = "apiserver.kubernetes.io/identity=kube-apiserver"
# A load balancer hides which API server a connection reaches, so make several connections for each API server.
PER_SERVER, MOST_REQUESTS = 3, 12


def api_servers(client: Client) -> ApiServers:
    """Count the API servers that hold a Lease which has not expired."""
    try:
        leases = client.list_all(LEASES, {"labelSelector": LEASE_LABEL})["items"]
    except Forbidden as error:
        return ApiServers(problem=f"the number of API servers may not be read: {error.message}")
    except ApiError as error:
        return ApiServers(problem=f"the number of API servers cannot be read: {error.message or error.cause}")
    now = client.now()
    count = sum(read_lease(lease).is_live(now) for lease in leases)
    return ApiServers(count) if count else ApiServers()


def requests_for(servers: ApiServers) -> int:
    """Return how many connections to make."""
    return min(MOST_REQUESTS, PER_SERVER * (servers.count or 1))


def resource(client: Client, manifest: Object) -> ApiResource:
    """Find where objects of this kind are created. Raises ProbeError, KubeError."""
    path = admission_call.discovery_path(*admission_call.group_version(manifest))
    return admission_call.resource_of(manifest, client.find(path))


def namespace_labels(client: Client, creation: AdmissionRequest) -> dict[str, str] | None:
    """Return the labels of the object's namespace, None if this identity may not read them."""
    if not creation.namespace:
        return {}
    try:
        namespace = client.find(f"/api/v1/namespaces/{creation.namespace}")
    except Forbidden:
        return None
    return (namespace or {}).get("metadata", {}).get("labels") or {}


def send_probe(client: Client, call: ProbeCall, count: int) -> tuple[WebhookAnswer, ...]:
    """Send the request several times, each over a new connection, until a call fails.

    Raises ConnectionFailed and AuthenticationError if the API server itself does not answer.
    """
    answers: list[WebhookAnswer] = []
    for _connection in range(count):
        client.reconnect()
        answers.append(_ask(client, call))
        failure = answers[-1].failure
        if failure and failure.about != call_failures.REFUSAL:
            break
    return tuple(answers)


def describe_endpoints(
    scan: EndpointScan, config: ClientConfig, now: datetime
) -> tuple[EndpointEvidence, ...]:
    """Return the certificate of each endpoint, and why the API server would refuse it on a new connection."""
    return tuple(_describe_endpoint(chain, config, now) for chain in scan.served)


def _ask(client: Client, call: ProbeCall) -> WebhookAnswer:
    try:
        if call.body is None:
            client.try_get(call.path)
        else:
            client.try_create(call.path, call.body)
    except (ApiError, AuthenticationError) as error:
        if isinstance(error, AuthenticationError) and call.body is not None:
            raise
        return _answer(error, call)
    return WebhookAnswer()


def _answer(error: KubeError, call: ProbeCall) -> WebhookAnswer:
    words = error.message or error.cause
    if isinstance(error, AlreadyExists) and re.match(r'[^"]*"[^"]*" already exists$', words):
        # The API server checks this last, after admission and conversion (k8s.io/apiserver store.go Create).
        return WebhookAnswer(words=f"accepted ({words})")
    failure = call_failures.of_answer(words, call.kind, call.webhook)
    return WebhookAnswer(failure, words)


def _describe_endpoint(chain: ServedChain, config: ClientConfig, now: datetime) -> EndpointEvidence:
    if chain.certificate is None:
        return EndpointEvidence(str(chain.endpoint), problem=chain.problem)
    judged, facts = served_chains.judge_served(chain, config, now), chain.certificate
    words = f"serves serial {facts.serial}, valid until {facts.not_after:%Y-%m-%d %H:%M} UTC"
    if judged.verdict.ok and judged.breaks[0].certificate != facts:
        words += f" ({judged.breaks[0].in_words(now)})"
    return EndpointEvidence(str(chain.endpoint), certificate=words, refusal=judged.refusal)


# Far more changes than in the 90 s after which an unused connection is closed (client-go, IdleConnTimeout).
MOST_BREAKS = 32
# The time for every API server to see a change. Its watch needs milliseconds.
SETTLE_SECONDS = 1.0


def with_other_line_breaks(bundle: str) -> str:
    """Return a bundle with the same certificates and other bytes."""
    text = bundle.rstrip("\n")
    return text + "\n" * ((len(bundle) - len(text)) % MOST_BREAKS + 1)


def plan_reconnection(client: Client, target: Target, obj: Object, *, consent: Consent) -> TargetChange:
    """Plan the change of one webhook's bundle without writing it.

    Raises OwnedTargetError if another manager owns the object, MissingPermissions, TargetError.
    """
    change = _reconnection(target, obj, consent)
    access_review.require(
        client, [bundle_targets.permission(target, "patch")], f"renew the connections to {target}"
    )
    return change


def write_reconnection(client: Client, change: TargetChange, *, consent: Consent) -> str:
    """Write the change, give the API servers time to see it, and return the new bundle."""

    def replan(fresh: dict[str, Any]) -> TargetChange:
        return _reconnection(change.target, fresh, consent)

    written = bundle_patch.write(client, change, replan)
    time.sleep(SETTLE_SECONDS)
    return written.bundles[0].after or ""


def _reconnection(target: Target, obj: Object, consent: Consent) -> TargetChange:
    bundle_targets.check_managers(target, obj, consent=consent)
    (config,) = bundle_targets.client_configs(target, obj)
    after = with_other_line_breaks(config.ca_bundle)
    return TargetChange(target, obj["metadata"]["resourceVersion"], (BundleChange(config, after),))


def is_bundle_unchanged(client: Client, target: Target, bundle: str) -> bool:
    """Return True if the object still has this bundle. With the old bundle the API servers use old connections again."""
    (config,) = bundle_targets.client_configs(target, bundle_targets.read(client, target))
    return config.ca_bundle == bundle
