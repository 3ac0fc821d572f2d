# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of every module, with what hypothesis draws, in check mode on a real cluster: a result, or one line with a remedy.

An exception of Python would have the code "defect". The audit log shows that nothing was written.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import argument_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)
from hypothesis import strategies as st

from tests.support.certificates import csr_by_hand
from tests.support.certificates.authority import authority, issue
from tests.support.faults.damage import FEW, JSON, PIECES, damaged_object, fuzz
from tests.support.operations import validate
from tests.support.rig import ADMINISTRATORS, ClusterRig, changes, encoded
from tests.support.upgrade.snapshot_rig import release_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation

    from tests.support.clusters import Cluster

MORE = 200  # each is a run of a module
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
HOOK, SECRET = "fuzzed-hook", "fuzzed-tls"
ISSUER = authority("kubernetes")
CA = ISSUER.pem
TARGET = {"kind": "ValidatingWebhookConfiguration", "name": HOOK}
# Module -> options that it takes.
GOOD: dict[str, dict[str, Any]] = {
    "audit_info": {},
    "k8s_csr": {"service": "hook", "namespace": "default", "secret": {"name": SECRET}},
    "k8s_csr_approve": {"label_selectors": ["fuzzed=yes"]},
    "k8s_csr_info": {},
    "k8s_signer_probe": {"signers": ["kubernetes.io/kubelet-serving"], "probe_seconds": 1},
    "snapshot_controller": {"version": "8.7.0"},
    "snapshot_controller_info": {"version": "8.7.0"},
    "webhook_cabundle": {"targets": [TARGET], "ca_bundle": CA},
    "webhook_probe": {"target": TARGET},
    "webhook_repair": {},
}
DEPLOYMENT = {
    "spec": {
        "replicas": 2,
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "containers": [{"env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 1}]}],
            },
        },
    }
}
ROW = {
    "rule": "contains(hosts, 'x')",
    "serving_signer": "example.com/x",
    "longest_lifetime_seconds": 3600,
    "forbidden_prefixes": ["a"],
}
EKS_CA = {
    "id": "ca-1",
    "signingStatus": "IN_USE",
    "data": encoded(CA),
    "scheduledEvents": {},
}
FINDING = {"check": "webhook-down", "fingerprint": "a" * 64, "object": {**TARGET, "namespace": ""}}
# Values of options with a structure that no argument spec has.
SAMPLES: dict[str, Any] = {
    "accept": ["kubectl", {"manager:x": ["Deployment/default/x"]}, {"unseen": [f"ValidatingWebhookConfiguration/{HOOK}"]}],
    "certificate_authorities": {"certificateAuthorities": [{"certificateAuthority": EKS_CA}]},
    "controller": DEPLOYMENT,
    "digests": {"snapshot-controller:v8.7.0": f"sha256:{'a' * 64}"},
    "exceptions": [{"check": "webhook-down", "objects": ["*"], "reason": "x", "until": "2026-12-31"}],
    "findings": [FINDING],
    "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"}}, "data": {"a": "b"}},
    "previous_counters": {f"ValidatingWebhookConfiguration/{HOOK}": 3},
    "providers": {"eks": "beta.eks.amazonaws.com/app-serving", "default": "example.com/x", "mine": ROW},
    "sums": {"8.7.0": {"deploy/kubernetes/snapshot-controller/setup-snapshot-controller.yaml": "a" * 64}},
    "webhook": DEPLOYMENT,
}  # fmt: skip
TEXTS = st.one_of(
    PIECES,
    st.sampled_from(
        ["30d", "99999999999d", "nan", "a=b", "a in (b)", "kubernetes.io/kubelet-serving", "system:masters", "10.1.2.0/99", "::1", "*.*",
         "https://[x", "http://a..b/", "~", "/dev/null", "9999-12-31", "kube-system", "auto", "8.7.0", "--x=y", "default/x", CA]
    ),
)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, -1, 65536, 2**31, 2**63, 10**30])
# What leads to the cluster, and where the task may write on this machine.
KEPT = {
    *argument_specs.AUTH,
    "source",
    "cache_directory",
    "backup",
    "step_timeout",
    "probe_seconds",
    "wait",
} - {"impersonate_user"}


def of_spec(row: Mapping[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """What a task can have for an option, by its row in the argument spec."""
    if name in SAMPLES:
        return st.one_of(damaged_object(SAMPLES[name]), of_spec(row))
    if row["type"] == "list":
        return st.lists(of_spec({**row, "type": row.get("elements", "raw")}), max_size=3)
    if row.get("choices"):
        return st.sampled_from(list(row["choices"]))
    if row.get("options"):
        return st.fixed_dictionaries(
            {}, optional={key: of_spec(inner, key) for key, inner in row["options"].items()}
        )
    return {
        "bool": st.booleans(),
        "int": NUMBERS,
        "dict": st.dictionaries(TEXTS, JSON, max_size=3),
        "raw": JSON,
    }.get(row["type"], TEXTS)


def changed_options(operation: Operation, good: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The options with one or two others, or other values."""
    free = sorted(set(operation.argument_spec) - KEPT)
    drawn = {name: of_spec(operation.argument_spec[name], name) for name in free}
    chosen = st.lists(st.sampled_from(free), min_size=1, max_size=2, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: drawn[name] for name in names})).map(
        lambda more: {**good, **more}
    )


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with release_server("8.7.0") as url:
        yield url


@pytest.fixture(params=[ADMINISTRATORS, []], ids=["administrator", "without permissions"])
def rig(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[ClusterRig]:
    with contextlib.closing(ClusterRig(cluster, "fuzz")) as rig:
        rig.kubeconfig = cluster.kubeconfig_for(rig.user, request.param)
        service = {"namespace": "default", "name": "hook"}
        hook = {
            "name": "a.fuzzed.example.com",
            "clientConfig": {"service": service, "caBundle": encoded(CA)},
            "rules": [{"apiGroups": ["fuzzed.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "timeoutSeconds": 1,
        }  # fmt: skip
        rig.make(
            f"{ADMISSION}/validatingwebhookconfigurations", {"metadata": {"name": HOOK}, "webhooks": [hook]}
        )
        data = {"tls.crt": encoded(issue("hook", ISSUER).pem), "tls.key": encoded("x")}
        rig.make(
            "/api/v1/namespaces/default/secrets",
            {"metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "data": data},
        )
        spec = {
            "request": encoded(csr_by_hand.pem(CertificateRequest())),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["server auth"],
        }
        csr = {"metadata": {"name": f"fuzzed-{rig.id}", "labels": {"fuzzed": "yes"}}, "spec": spec}
        rig.make("/apis/certificates.k8s.io/v1/certificatesigningrequests", csr)
        yield rig


def run(rig: ClusterRig, operation: Operation, options: dict[str, Any]) -> None:
    """Run the operation if Ansible would: it refuses other types itself."""
    if validate(operation, options).error_messages:
        return
    result = rig.operate(operation, check_mode=True, **options)
    assert not result.get("failed") or ("\n" not in result["msg"] and result["remedy"]), result


@pytest.mark.parametrize("examples", [FEW, pytest.param(MORE, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", GOOD)
def test_a_result_or_one_line_with_a_remedy(
    rig: ClusterRig, source: str, tmp_path: Any, name: str, examples: int
) -> None:
    module = "ansible_collections.certflow.kubernetes.plugins.module_utils._operations"
    operation = importlib.import_module(f"{module}.{name}").OPERATION
    here = (
        {"source": source, "cache_directory": str(tmp_path / "cache")}
        if name == "snapshot_controller"
        else {}
    )
    good = {**GOOD[name], **here, "wait_timeout": 200 if name == "snapshot_controller" else 3}
    fuzz(functools.partial(run, rig, operation), changed_options(operation, good), good, examples)
    assert changes(rig.cluster, rig.user, 0) == []
