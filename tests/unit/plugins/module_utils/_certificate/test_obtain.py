# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Obtaining a certificate: the one in use while another is awaited, and certificates of an ephemeral CA."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    TargetState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import obtain
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import (
    certificate_rules,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import AnchorError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Conflict,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_targets,
)

from tests.support.certificates.authority import DAY, NOW
from tests.unit.plugins.module_utils._certificate.runs import (
    COLLECTION,
    CSR_NAME,
    HOOK,
    KEY,
    MARK,
    NEW,
    OLD,
    PATH,
    PENDING,
    api_with,
    created,
    issue_here,
    its_csr,
    newer,
    pem,
    planted,
    state_of,
    waiting,
    webhook,
)
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    found,
    intent,
    leaf,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import approved, encoded

pytestmark = pytest.mark.quick


def renewing(api: ScriptedApi, held: ExistingSecret, *, check_mode: bool = False, **changed: Any) -> Any:
    options = {"approve": False, "wait": False, "renew_before": "400d", **changed}
    run = CertificateRun(api, intent(**options), (HOOK,), check_mode=check_mode)  # type: ignore[arg-type]
    reason = certificate_rules.reason_to_issue(run.intent, held, NOW)
    assert reason is not None
    return obtain(run, state_of(run, held, TargetState(HOOK, webhook())), reason)


def renewal_api(pending: Any = None, request_: Any = None) -> ScriptedApi:
    api = api_with(pending, request_)
    api.connection = replace(api.connection, ca_pem=pem("cluster"))
    api.objects.update({PATH: secret_object(), bundle_targets.path(HOOK): webhook()})
    api.on_write = created
    return api


@pytest.mark.parametrize("changed", [{}, {"signer_name": "example.com/signer"}])
@pytest.mark.parametrize("check_mode", [False, True])
def test_the_certificate_in_use_is_kept_up_to_date_while_another_one_is_awaited(
    check_mode: bool, changed: dict[str, Any]
) -> None:
    marks = secret_object(**MARKED)["metadata"]
    held, api = found(labels=marks["labels"], annotations=marks["annotations"]), renewal_api()
    result = renewing(api, held, check_mode=check_mode, **changed)
    assert held.certificate is not None
    assert (result.changed, result.values["pending"]) == (True, True)
    assert result.values["certificate"]["serial"] == held.certificate.serial
    assert result.values["ca_bundle"] == pem("cluster")
    assert [target["changed"] for target in result.values["targets"]] == [True], "it lacked the CA"
    assert ("waits for its approval" in result.values["reason"]) is not check_mode
    written = {path for _verb, path in api.writes()}
    assert (bundle_targets.path(HOOK) in written) is not check_mode


def test_an_approved_request_does_not_wait_for_its_approval() -> None:
    api = api_with(waiting(), its_csr(approved()))
    run = CertificateRun(api, intent(approve=False, wait=False))  # type: ignore[arg-type]
    result = obtain(run, state_of(run, None), certificate_rules.missing_secret(run.intent))
    assert result.values["pending"]
    assert "waits for its approval" not in result.values["reason"]


def test_a_second_run_that_finds_the_renewal_waiting_changes_nothing() -> None:
    marked = f"{MARK}{NEW}"
    held = found(annotations={"certflow.kubernetes/added-anchors": marked})
    api = renewal_api(waiting(), its_csr())
    run = CertificateRun(api, intent(approve=False, wait=False, renew_before="400d"), (HOOK,))  # type: ignore[arg-type]
    state = state_of(run, held, TargetState(HOOK, webhook("cluster")))
    result = obtain(run, state, certificate_rules.IssueReason(certificate_rules.RENEWAL_DUE, "due"))
    assert (result.changed, result.values["pending"]) == (False, True)
    assert result.values["csr"]["name"] == CSR_NAME
    assert result.values["ca_bundle"] == pem("cluster")


@pytest.mark.parametrize("held", [leaf(not_after=NOW - DAY / 2), leaf("hook"), leaf(by=ca("strange"))])
def test_an_unusable_certificate_is_not_in_the_result(held: Any) -> None:
    result = renewing(renewal_api(), found(held))
    assert (result.values["certificate"], result.values["ca_bundle"]) == (None, None)
    assert result.values["pending"]


def test_a_target_that_another_client_wrote_during_the_wait_is_read_again() -> None:
    """The version of the patch shows it, so that no target is read again without a reason."""
    issued = leaf(key=KEY)
    api = renewal_api(waiting(), its_csr(approved(), certificate=issued.pem))
    api.objects[bundle_targets.path(HOOK)] = lambda: newer(webhook("old"), "2")
    api.objects[PATH] = None

    def answer(method: str, path: str, body: Any) -> Any:
        is_stale = path == bundle_targets.path(HOOK) and body[0]["value"] != "2"
        return api_error(Conflict) if is_stale else created(method, path, body)

    api.on_write = answer
    run = CertificateRun(api, intent(approve=False), (HOOK,))  # type: ignore[arg-type]
    state = state_of(run, None, TargetState(HOOK, webhook()))
    result = obtain(run, state, certificate_rules.missing_secret(run.intent))
    patches = [
        body for (verb, path), body in zip(api.writes(), api.sent) if path == bundle_targets.path(HOOK)
    ]
    assert [body[0]["value"] for body in patches] == ["1", "2"]
    assert result.values["targets"][0]["webhooks"][0]["before"] == [OLD]


def test_an_ephemeral_ca_needs_no_request_and_no_permission_for_one() -> None:
    api = ScriptedApi()
    api.lacking = {
        (verb, resource)
        for verb in ("create", "get", "list", "watch", "update", "approve")
        for resource in ("certificatesigningrequests", "certificatesigningrequests/approval", "signers")
    }
    result = issue_here(api)
    assert result.values["csr"] is None
    assert result.values["ca_source"].startswith("the CA made only for this certificate")
    assert not [path for _verb, path in api.asked if "certificatesigningrequests" in path]
    patched, stored = api.sent[-2:]
    assert patched[2]["value"] == encoded(pem("old") + result.values["ca_bundle"]), "the bundle first"
    assert stored["data"]["ca.crt"] == encoded(result.values["ca_bundle"])
    facts = result.values["certificate"]
    print_ = bundle_content.certificates(result.values["ca_bundle"])[0].fingerprint
    assert stored["metadata"]["annotations"]["certflow.kubernetes/added-anchors"] == f"{MARK}{print_}"
    assert "CN=ephemeral-ca " in facts["issuer"]


def test_a_ca_that_a_killed_run_left_on_a_target_is_recorded_for_removal() -> None:
    """That CA verifies a certificate that was never stored. Only a look at the endpoints can tell which certificate they serve."""
    killed = ScriptedApi()
    issue_here(killed)
    orphan = base64.b64decode(killed.sent[-1]["data"]["ca.crt"]).decode()
    api = ScriptedApi({bundle_targets.path(HOOK): webhook("old")})
    api.objects[bundle_targets.path(HOOK)]["webhooks"][0]["clientConfig"]["caBundle"] = encoded(
        pem("old") + orphan
    )
    issue_here(api)
    marks = api.sent[-1]["metadata"]["annotations"]
    serial, *goes = marks["certflow.kubernetes/unproven"].split()
    assert serial
    assert goes == [f"{MARK}{bundle_content.certificates(orphan)[0].fingerprint}"]
    assert "certflow.kubernetes/unproven" not in killed.sent[-1]["metadata"]["annotations"]


def test_a_secret_that_is_planted_while_a_run_works_is_not_used() -> None:
    theirs = planted()
    api = ScriptedApi({PATH: theirs})

    def answer(_method: str, path: str, body: Any) -> Any:
        return api_error(AlreadyExists) if path == COLLECTION else body

    api.on_write = answer
    with pytest.raises(AnchorError):
        issue_here(api)
    assert theirs["data"]["ca.crt"] not in json.dumps(api.sent)


def test_check_mode_makes_no_certificate() -> None:
    api = ScriptedApi()
    result = issue_here(api, check_mode=True)
    assert (result.changed, result.values["pending"], result.values["ca_bundle"]) == (True, True, None)
    assert [path for _verb, path in api.asked if path == PENDING] == []


def test_of_two_parallel_runs_the_slower_one_removes_its_ca() -> None:
    """Its certificate will never be served. The CA that the faster run added to the targets stays."""
    theirs = planted()
    api = ScriptedApi({PATH: theirs})
    standing = webhook("old")
    trusted = pem("old").encode() + base64.b64decode(theirs["data"]["ca.crt"])
    standing["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(trusted).decode()

    def answer(method: str, path: str, body: Any) -> Any:
        if path == bundle_targets.path(HOOK):
            if body[0]["value"] != standing["metadata"]["resourceVersion"]:
                return api_error(Conflict)
            standing["metadata"]["resourceVersion"] += "1"
            standing["webhooks"][0]["clientConfig"]["caBundle"] = body[2]["value"]
        return api_error(AlreadyExists) if path == COLLECTION else body

    api.objects[bundle_targets.path(HOOK)] = lambda: standing
    api.on_write = answer
    result = issue_here(api)
    assert result.values["certificate"]["serial"]
    bundle = base64.b64decode(standing["webhooks"][0]["clientConfig"]["caBundle"]).decode()
    assert bundle == pem("old") + result.values["ca_bundle"]
    assert encoded(result.values["ca_bundle"]) == theirs["data"]["ca.crt"]
