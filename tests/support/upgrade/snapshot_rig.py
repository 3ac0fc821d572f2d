# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single actions of an upgrade on a real control plane, with manifests from a server on loopback."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import (
    execute,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import NOTHING, Consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import parse
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions, preflight
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.preflight import Preflight
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import (
    FieldChange,
    changes,
)

from tests.support.clusters import build
from tests.support.operations import validated
from tests.support.rig import ClusterRig
from tests.support.upgrade.plan_actions import parse_action

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.clusters import Cluster

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACE = "kube-system"
SECONDS = 90


class _ReleaseHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        pass


@contextlib.contextmanager
def release_server(*releases: str) -> Iterator[str]:
    """Serve the archives of releases. Yield their URL, in which {version} stands for the release."""
    handler = functools.partial(_ReleaseHandler, directory=str(build.release_archives(*releases)))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v{{version}}.tar.gz"
    server.shutdown()
    server.server_close()
    thread.join()


class SnapshotRig(ClusterRig):
    """Single actions of an upgrade, and what they change."""

    def __init__(self, cluster: Cluster, source: str, cache: Path) -> None:
        super().__init__(cluster, "apply")
        self.where = {"source": source, "cache_directory": str(cache)}

    def run(
        self,
        action: str,
        *,
        check_mode: bool = False,
        options: Mapping[str, Any] | None = None,
        consent: Consent = NOTHING,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Carry out one action as the engine does, and return its outcomes as a module would.

        options: of snapshot_controller. consent: the managers whose objects are written too.
        """

        def act(client: Client, given: Mapping[str, Any], check_mode: bool) -> Result:
            context = replace(self._context(client, given, check_mode=check_mode), consent=consent)
            outcomes = actions.carry_out(context, parse_action(action, parameters))
            changed = [outcome for outcome in outcomes if outcome.is_changed]
            return Result(
                bool(changed),
                {"objects": [actions.report(outcome) for outcome in outcomes]},
                diff=actions.diff(changed) if changed else None,
                warnings=tuple(
                    outcome.note for outcome in outcomes if outcome.note and not outcome.is_changed
                ),
            )

        operation = replace(snapshot_controller.OPERATION, run=act)
        result = execute(operation, self._given(options), check_mode=check_mode)
        json.dumps(result)
        return result

    def foresee(self, *steps: tuple[str, Mapping[str, Any]]) -> Preflight:
        """Try actions with their parameters one after the other, as before the first write of an upgrade."""
        named = [
            Step(f"{number}", name, "", parse_action(name, given))
            for number, (name, given) in enumerate(steps)
        ]
        given = self._given({})
        client = Client(
            resolve(given, os.environ), user_agent="certflow-test", deadline=time.monotonic() + SECONDS
        )
        with contextlib.closing(client):
            context = self._context(client, given, check_mode=True)
            return preflight.try_actions(context, named)

    def _given(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters of snapshot_controller as Ansible checks them."""
        given = {
            "kubeconfig": str(self.kubeconfig),
            "version": "8.7.0",
            "wait_timeout": SECONDS,
            **self.where,
            **(options or {}),
        }
        return validated(snapshot_controller.OPERATION, given)

    @staticmethod
    def _context(client: Client, given: Mapping[str, Any], *, check_mode: bool) -> ActionContext:
        request = snapshot_controller.parse_request(given)
        version = parse(client.get("/version")["gitVersion"]) or (0, 0, 0)
        state = UpgradeContext(InstalledState(kubernetes=version[:2]), request.release, request.options)
        return actions.make_context(client, request, state, check_mode=check_mode)

    def done(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Run an action in check mode, run it, and run it again without a change. Return the result."""
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


def difference(before: dict[str, Any], other: dict[str, Any]) -> list[FieldChange]:
    """Return the fields in which two objects differ, except certificates."""
    return [change for change in changes(before, other) if not change.path.endswith("caBundle")]
