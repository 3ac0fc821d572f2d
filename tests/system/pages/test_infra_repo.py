# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run examples/infra-repo as it is, with encrypted kubeconfigs."""

from __future__ import annotations

import base64
import datetime
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from cryptography import x509

from tests.support.failures import absent
from tests.support.playbooks import playbook
from tests.support.webhooks import called_objects
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Fleet

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SECRET = "/api/v1/namespaces/kube-system/secrets/audit-webhook-tls"
ARN = "arn:aws:eks:eu-west-1:111122223333:cluster/shop"


def kubeconfig(cluster: Cluster, context: str, entry: str) -> dict[str, Any]:
    """Return the administrator's kubeconfig with other names."""
    content: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    content["clusters"][0]["name"] = entry
    content["contexts"][0]["name"] = content["current-context"] = context
    content["contexts"][0]["context"]["cluster"] = entry
    return content


def lifetime(cluster: Cluster) -> datetime.timedelta:
    data = cluster.api("GET", SECRET)["data"]
    leaf = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    return leaf.not_valid_after_utc - leaf.not_valid_before_utc


def webhook() -> dict[str, Any]:
    """Return the webhook configuration that the example names as a target. Its webhook is never called."""
    config = called_objects.service("kube-system", "audit-webhook")
    entry = called_objects.webhook("audit.certflow.test", config)
    return called_objects.configuration("audit-webhook", entry)


def test_the_example_repository_runs(fleet: Fleet, tmp_path: Path) -> None:
    """The EKS cluster is reached through its context and group variables, the other one through its build
    host.
    """
    for cluster in fleet.values():
        cluster.api("POST", CONFIGURATIONS, webhook())
    place = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "examples" / "infra-repo", place)
    (place / "kubeconfigs").mkdir()
    (tmp_path / "password").write_text("open sesame\n")
    for name, content in (
        ("shop", kubeconfig(fleet["eks"], "shop", ARN)),
        ("build", kubeconfig(fleet["onprem"], "build", "build")),
    ):
        path = place / "kubeconfigs" / f"{name}.yml"
        path.write_text(yaml.safe_dump(content))
        vault = ("encrypt", "--vault-password-file", str(tmp_path / "password"))
        assert playbook.play(place, path, *vault, program="ansible-vault").status == 0
    arguments = ("--vault-password-file", str(tmp_path / "password"))
    run = playbook.play(place, place / "site.yml", *arguments)
    assert run.status == 0, run.output
    assert run.recap("changed") == 2, run.output
    assert lifetime(fleet["eks"]) < datetime.timedelta(days=91) < lifetime(fleet["onprem"])
    again = playbook.play(place, Path("certflow.kubernetes.certificates"), *arguments)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    assert not absent(["[1/1]", "shop"], again.output), again.output
    for text in (run.output, again.output):
        assert "PRIVATE KEY" not in text
        assert "REDACTED" not in text  # names in an encrypted file are not secrets
    for cluster in fleet.values():
        found = cluster.api("GET", f"{CONFIGURATIONS}/audit-webhook")["webhooks"][0]["clientConfig"]
        assert base64.b64decode(found["caBundle"]).decode() == cluster.ca_pem
        cluster.api("DELETE", SECRET)
        cluster.api("DELETE", f"{CONFIGURATIONS}/audit-webhook")
