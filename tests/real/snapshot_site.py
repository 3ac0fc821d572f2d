# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps of snapshot_controller_apply on a real control plane, with manifests from a Go module proxy on loopback."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import subprocess
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations._snapshot_controller import (
    OPERATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._operation import execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._changes import Change, changes

from tests.clusters import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clusters import Cluster

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        pass


@contextlib.contextmanager
def module_proxy(*releases: str) -> Iterator[str]:
    """The URL of a server that speaks the GOPROXY protocol: the go command's own cache has its layout."""
    for release in releases:
        build.snapshot_manifests(release)  # so that it is in that cache
    done = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    directory = Path(done.stdout.strip(), "cache", "download")
    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class Site:
    """A cluster, as a user whose requests are told from all others' in the audit log."""

    def __init__(self, cluster: Cluster, source: str, cache: Path) -> None:
        self.cluster = cluster
        self.user = f"apply-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = cluster.kubeconfig_for(self.user, ["system:masters"])
        self.where = {"source": source, "cache_directory": str(cache)}

    def run(
        self,
        action: str,
        *,
        check_mode: bool = False,
        options: dict[str, Any] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """The result of one step."""
        step = {
            "id": action,
            "title": action,
            "reason": f"{action} is tested",
            "action": action,
            "parameters": parameters,
        }
        given = {
            "kubeconfig": str(self.kubeconfig),
            "step": step,
            "wait_timeout": 90,
            **self.where,
            **(options or {}),
        }
        checked = ArgumentSpecValidator(dict(OPERATION.argument_spec)).validate(given)
        assert not checked.error_messages, checked.error_messages
        result = execute(OPERATION, checked.validated_parameters, check_mode=check_mode)
        json.dumps(result)
        return result

    def done(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Foreseen by check mode, done, and no change the second time."""
        foreseen = self.run(action, check_mode=True, **parameters)
        assert not foreseen.get("failed"), foreseen["msg"]
        result = self.run(action, **parameters)
        assert not result.get("failed"), result["msg"]
        assert foreseen["changed"] == result["changed"], foreseen
        assert foreseen.get("diff") == result.get("diff"), (foreseen["objects"], result["objects"])
        again = self.run(action, **parameters)
        assert again["changed"] is False, again
        return result

    def crd(self, name: str) -> dict[str, Any]:
        return self.cluster.api("GET", f"{CRDS}/{name}")

    def writes(self) -> list[str]:
        """What this user has written, that no dry run was."""
        verbs = ("create", "update", "patch", "delete", "deletecollection")
        return [
            f"{event['verb']} {event['requestURI']}"
            for event in self.cluster.requests(user=self.user)
            if event["verb"] in verbs
            and "dryRun=All" not in event["requestURI"]
            and "/selfsubjectaccessreviews" not in event["requestURI"]
        ]


def difference(one: dict[str, Any], other: dict[str, Any]) -> list[Change]:
    """What two objects differ in, but for certificates' bytes."""
    return [change for change in changes(one, other) if not change.path.endswith("caBundle")]
