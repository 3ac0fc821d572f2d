# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig whose plugin logs an administrator in, with a token that the test chooses."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import yaml

from tests.support.permissions import rbac

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rig import ClusterRig

_EXEC = "client.authentication.k8s.io/v1"


class TokenPlugin:
    """A ServiceAccount with all permissions in the namespace of a rig, and its kubeconfig."""

    def __init__(self, rig: ClusterRig, account: str) -> None:
        self._rig, self._account = rig, account
        self.user = f"system:serviceaccount:{rig.name}:{account}"
        self.kubeconfig = rig.cluster.token_kubeconfig(account, rig.name)
        rig.made.append(rbac.make_administrator(rig.cluster, account, rig.name))
        #: The file that the plugin prints.
        self.printed = self.kubeconfig.with_suffix(".token")
        arguments = {"command": "cat", "args": [str(self.printed)]}
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {
            "exec": {"apiVersion": _EXEC, "interactiveMode": "Never", **arguments},
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    @contextlib.contextmanager
    def logging_in(self) -> Iterator[None]:
        """Let it log in the runs of the rig in the block."""
        before = self._rig.user, self._rig.kubeconfig
        self._rig.user, self._rig.kubeconfig = self.user, self.kubeconfig
        try:
            yield
        finally:
            self._rig.user, self._rig.kubeconfig = before

    def credential(self, seconds: int) -> str:
        """Return what the plugin may print: a new token of this lifetime."""
        path = f"/api/v1/namespaces/{self._rig.name}/serviceaccounts/{self._account}/token"
        status = self._rig.cluster.api("POST", path, {"spec": {"expirationSeconds": seconds}})["status"]
        return json.dumps({"apiVersion": _EXEC, "kind": "ExecCredential", "status": status})
