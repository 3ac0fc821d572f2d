# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test rig that tests on a test cluster share: a user, objects, operations, and the requests in the audit log."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.clusters import AdminApiError
from tests.support.operations import operate

if TYPE_CHECKING:
    import datetime

    from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation

    from tests.support.clusters import Cluster

#: Verbs of the audit log that change objects.
WRITES = frozenset(["create", "update", "patch", "delete", "deletecollection"])
#: Resources of writes that change nothing for longer than a run: what it asks by a write, and Leases and probes that it deletes again.
_OF_A_RUN = (
    *("leases", "volumesnapshots"),
    *("selfsubjectaccessreviews", "selfsubjectrulesreviews", "pods/portforward"),
)
ADMINISTRATORS = ["system:masters"]


def requests(
    cluster: Cluster, user: str, since: datetime.datetime | None = None
) -> list[tuple[str, str, str]]:
    """Return verb, resource and URI of each request of a user.

    The verb is "dry" for a dry run and "review" for an access review.
    """
    found = []
    for event in cluster.requests(since=since, user=user):
        reference = event.get("objectRef", {})  # paths such as /version have none
        resource = "/".join(filter(None, [reference.get("resource"), reference.get("subresource")]))
        verb = "dry" if "dryRun=All" in event["requestURI"] else event["verb"]
        verb = "review" if resource == "selfsubjectaccessreviews" else verb
        found.append((verb, resource, event["requestURI"]))
    return found


def written(cluster: Cluster, user: str, since: datetime.datetime | None = None) -> list[str]:
    """Return "verb URI" of each request of a user that changes an object."""
    return [f"{verb} {uri}" for verb, _resource, uri in requests(cluster, user, since) if verb in WRITES]


class Change(NamedTuple):
    """A request that changed an object for longer than a run."""

    verb: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}/{self.name}"


def changes(cluster: Cluster, user: str, start: int) -> list[Change]:
    """Return what a user has changed since a position of the audit log, without dry runs and without _OF_A_RUN."""
    made = []
    for event in cluster.requests(user=user, start=start):
        reference = event.get("objectRef", {})
        resource = "/".join(filter(None, [reference.get("resource"), reference.get("subresource")]))
        is_change = event["verb"] in WRITES and resource not in _OF_A_RUN
        if is_change and event["responseStatus"]["code"] < 300 and "dryRun=" not in event["requestURI"]:
            made.append(Change(event["verb"], resource, reference.get("name", "")))
    return made


def encoded(text: str) -> str:
    """Return a text in Base64, as fields of Secrets and caBundles have it."""
    return base64.b64encode(text.encode()).decode()


class ClusterRig:
    """A user of one test on one test cluster, and the objects that go with the test.

    The user is an administrator. The audit log tells its requests from those of other tests.
    """

    def __init__(self, cluster: Cluster, purpose: str) -> None:
        self.cluster = cluster
        self.id = uuid.uuid4().hex[:8]
        self.name = f"{purpose}-{self.id}"
        self.user = f"user-{self.name}"
        self.kubeconfig = cluster.kubeconfig_for(self.user, ADMINISTRATORS)
        self.made: list[str] = []  # paths

    def close(self) -> None:
        """Delete what the test has created."""
        for path in reversed(self.made):
            try:
                self.cluster.api("DELETE", path)
            except AdminApiError as error:
                assert error.status == 404, error

    def make(self, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object that goes with the test."""
        made = self.cluster.api("POST", collection, body)
        self.made.append(f"{collection}/{made['metadata']['name']}")
        return made

    def operate(self, operation: Operation, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run an operation as the user, and return its result."""
        given = {"kubeconfig": str(self.kubeconfig), **options}
        return operate(operation, given, check_mode=check_mode)

    def asked(self, since: datetime.datetime | None = None, user: str | None = None) -> list[tuple[str, str]]:
        """Return verb and resource of each request of the user, as `requests`."""
        return [(verb, resource) for verb, resource, _uri in requests(self.cluster, user or self.user, since)]

    def writes(self, user: str | None = None) -> list[tuple[str, str]]:
        """Return verb and resource of each request of the user that changes an object."""
        return [entry for entry in self.asked(user=user) if entry[0] in WRITES]
