# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years.credential DIRECTORY NAMESPACE` is a plugin of a kubeconfig: it prints a token that ends after ten minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.clusters import Cluster

API = "client.authentication.k8s.io/v1"
#: The ServiceAccount of the token.
ACCOUNT = "runs"


def main(directory: str, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"
    answer = Cluster(Path(directory)).api("POST", path, {"spec": {"expirationSeconds": 600}})
    print(json.dumps({"apiVersion": API, "kind": "ExecCredential", "status": answer["status"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
