# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about the renewal of certificates, the number of endpoints, and CustomResourceDefinitions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.renewal_checks import (
    check_renewal,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.webhook_settings import (
    check_definitions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    Backend,
    DefinitionState,
    IssuedCertificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import AuditedObject

from tests.support.certificates.authority import DAY, NOW
from tests.unit.plugins.module_utils._audit.world import (
    NAME,
    YEAR,
    cluster,
    failures,
    leaf,
    point,
    served,
)

pytestmark = pytest.mark.quick

HOUR = timedelta(hours=1)
OURS = ("shop", "hook-tls")
#: The newest certificate of cert-manager -> the status. The served one begins 30 days ago.
ISSUED: list[tuple[IssuedCertificate | None, str]] = [
    (None, "skip"),
    (IssuedCertificate(NOW - 30 * DAY, (NAME,)), "pass"),
    (IssuedCertificate(NOW - 2 * HOUR, (NAME,)), "fail"),
    (IssuedCertificate(NOW - HOUR / 2, (NAME,)), "pass"),  # the kubelet has not updated the files yet
    (IssuedCertificate(NOW - 2 * HOUR, ("other.shop.svc",)), "skip"),  # only its CA is injected
]


@pytest.mark.parametrize(("issued", "status"), ISSUED)
def test_a_certificate_that_the_program_did_not_load(issued: Any, status: str) -> None:
    called = point(certificate=OURS)
    found = check_renewal(cluster(called, certificates={OURS: issued} if issued else {}))
    assert [finding.status for finding in found if finding.check == "not-reloaded"] == [status]


def lasting(days: int) -> Backend:
    """Return a backend whose certificate lasts some days, of which one is over."""
    return Backend(ready=2, chains=(served(leaf(not_before=NOW - DAY, not_after=NOW + (days - 1) * DAY)),))


LONG = Backend(ready=2, chains=(served(leaf(not_after=NOW + 10 * YEAR)),))
#: Field managers of the caBundle, the manager of the object, and what is served -> the statuses.
WRITERS: list[tuple[tuple[str, ...], str, Backend | None, list[str]]] = [
    (("kubectl-create",), "unmanaged", None, ["fail"]),
    (("kubectl", "kubectl-client-side-apply"), "unmanaged", None, ["fail"]),
    (("kubectl-create", "kyverno"), "unmanaged", None, ["pass"]),
    (("some-operator",), "unmanaged", None, ["pass"]),
    (("kubectl-create",), "Helm", None, ["pass"]),
    ((), "unmanaged", None, ["skip"]),
    (("kubectl-create",), "unmanaged", LONG, ["pass"]),
    (("kubectl-create",), "unmanaged", lasting(366), ["fail"]),
    (("kubectl-create",), "unmanaged", lasting(367), ["pass"]),
    (("kubectl-create",), "unmanaged", Backend(exists=False), []),
]


@pytest.mark.parametrize(("writers", "manager", "backend", "statuses"), WRITERS)
def test_a_certificate_that_only_a_person_renews(
    writers: tuple[str, ...], manager: str, backend: Backend | None, statuses: list[str]
) -> None:
    plain = point(bundle_writers=writers)
    called = type(plain)(**{**vars(plain), "object": AuditedObject("X", "hooks", manager=manager)})
    data = cluster(
        called, backend=backend or Backend(ready=2, chains=(served(leaf(not_after=NOW + YEAR / 2)),))
    )
    found = [finding for finding in check_renewal(data) if finding.check == "renewal-unmanaged"]
    assert [finding.status for finding in found] == statuses


def state(**fields: Any) -> DefinitionState:
    subject = AuditedObject("CustomResourceDefinition", "things.example.com")
    given = {"served": ("v1",), "stored": ("v1",), "created": NOW - DAY, **fields}
    return DefinitionState(subject, "example.com", "things", **given)


def conditions(**statuses: str) -> dict[str, tuple[str, str]]:
    return {kind: (status, "a reason") for kind, status in statuses.items()}


DEFINITIONS: list[tuple[DefinitionState, list[tuple[str, str]]]] = [
    (state(), []),
    (state(conditions=conditions(Established="True", NamesAccepted="True", NonStructuralSchema="False")), []),
    (state(conditions=conditions(NamesAccepted="False")), [("crd-not-ready", "")]),
    (state(conditions=conditions(NonStructuralSchema="True")), [("crd-not-ready", "")]),
    (state(conditions=conditions(Established="False")), [("crd-not-ready", "")]),
    (state(conditions=conditions(Established="False"), created=NOW), []),
    (state(conditions=conditions(KubernetesAPIApprovalPolicyConformant="False")), []),
    (state(conditions=conditions(Terminating="True"), deleted=NOW - HOUR / 2), []),
    (state(conditions=conditions(Terminating="True"), deleted=NOW - 2 * HOUR), [("crd-not-ready", "")]),
    (state(stored=("v1beta1", "v1")), [("stored-versions", "warning")]),
    (state(stored=("v1beta1", "v1"), served=("v1beta1", "v1")), []),
    (state(stored=("a", "v1"), served=("a", "v1"), has_webhook=True), [("stored-versions", "info")]),
]


@pytest.mark.parametrize(("definition", "wanted"), DEFINITIONS)
def test_definitions(definition: DefinitionState, wanted: list[tuple[str, str]]) -> None:
    found = list(check_definitions(cluster(definitions=(definition,))))
    assert failures(found) == wanted
    assert len(found) == 2


def test_a_deletion_that_does_not_end_has_the_reason_of_the_server() -> None:
    def evidence(**fields: Any) -> tuple[str, ...]:
        definition = state(deleted=NOW - 2 * HOUR, **fields)
        found = check_definitions(cluster(definitions=(definition,)))
        return next(finding.evidence for finding in found if finding.check == "crd-not-ready")

    assert evidence(conditions=conditions(Terminating="True")) == ("a reason",)
    assert evidence() == ()
