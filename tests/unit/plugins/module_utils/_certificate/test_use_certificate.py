# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storing a certificate while another run stores one, and the warnings about its lifetime."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    gather,
    rotation,
    use_certificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    CertificateState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import obtain
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import (
    certificate_rules,
    markers,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.certificate_rules import IssueReason
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
    SecretContent,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Conflict,
    MissingPermissions,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys

from tests.support.certificates.authority import DAY, NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._certificate.runs import (
    COLLECTION,
    HOOK,
    PATH,
    PLACE,
    newer,
    webhook,
)
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    SERVER_AND_CLIENT,
    ScriptedApi,
    api_error,
    applied,
    ca,
    found,
    intent,
    key_pem,
    leaf,
    secret_object,
)

pytestmark = pytest.mark.quick


def store(api: ScriptedApi, held: ExistingSecret | None, own: Any) -> ExistingSecret | None:
    run = CertificateRun(api, intent())  # type: ignore[arg-type]
    key = private_keys.public_key_sha256(own.key.public_key())
    content = SecretContent(own.pem, key_pem(own), ca().pem, "", key_sha256=key)
    return use_certificate._store(run, held, content, ())


def raced(theirs: dict[str, Any]) -> ScriptedApi:
    """Return an API server whose first write conflicts with the Secret of another run."""
    api = ScriptedApi({PATH: theirs})
    answers = iter([api_error(AlreadyExists), {}])
    api.on_write = lambda *_: next(answers)
    return api


def test_another_runs_good_certificate_stays_and_is_in_the_result() -> None:
    theirs = leaf()
    there = store(raced(secret_object(theirs)), None, leaf())
    assert there is not None
    assert there.certificate_pem == theirs.pem


def test_another_runs_bad_certificate_is_replaced() -> None:
    api = raced(secret_object(leaf(not_after=NOW)))
    assert store(api, None, leaf()) is None
    assert api.writes()[-1] == ("PATCH", PATH)


def test_what_another_owner_stores_meanwhile_is_not_lost() -> None:
    """The certificate was not there when the run decided. It is judged as one that was."""
    richer = leaf(usages=SERVER_AND_CLIENT, not_after=NOW)
    for held in (None, found(leaf())):
        api = raced(newer(secret_object(richer)))
        with fails("secret-unusable", "client", "foreign-secret"):
            store(api, held, leaf())
        assert len(api.writes()) == 1


def test_a_label_that_another_client_adds_does_not_stop_a_renewal() -> None:
    """The Secret still has the key that is to be replaced."""
    old = leaf()
    api = ScriptedApi({PATH: newer(secret_object(old))})
    answers = iter([api_error(Conflict), {}])
    api.on_write = lambda *_: next(answers)
    assert store(api, found(old), leaf()) is None
    assert len(api.writes()) == 2


def test_our_own_write_is_recognised_after_a_lost_answer() -> None:
    own = leaf()
    api = raced(secret_object(own))
    assert store(api, None, own) is None
    assert len(api.writes()) == 1


def test_a_secret_with_another_services_certificate_is_refused() -> None:
    api = raced(secret_object(leaf("other.apps.svc")))
    with fails("secret-unusable", "other.apps.svc"):
        store(api, None, leaf())


def test_a_due_renewal_that_gains_no_lifetime_is_left() -> None:
    """The CA of the signer ends with the certificate in use. A green run would hide that until both have expired."""
    held, offered = leaf(), leaf()
    api = ScriptedApi({PATH: secret_object(held, **MARKED)})
    run = CertificateRun(api, intent(ca_bundle=ca().pem))  # type: ignore[arg-type]
    state = CertificateState(found(held, **MARKED), (), NOW)
    reason = IssueReason(certificate_rules.RENEWAL_DUE, "due")
    issued = use_certificate.IssuedCertificate(offered.pem, offered.key, {"name": "csr"})
    result = rotation.complete(run, state, use_certificate.use(run, state, reason, issued, ()))
    assert result.values["certificate"]["serial"] == found(held).certificate.serial  # type: ignore[union-attr]
    assert (result.values["left"]["count"], result.values["left"]["first"]["code"]) == (1, "not-issued")
    assert not [entry for sent in api.sent for entry in sent if entry["path"].startswith("/data")]


def test_a_due_certificate_that_no_ca_verifies_is_replaced_by_a_shorter_one() -> None:
    held = leaf(by=ca("gone"), not_before=NOW - 350 * DAY, not_after=NOW + 15 * DAY)
    offered = leaf(lifetime=2 * DAY)
    api = ScriptedApi({PATH: secret_object(held, **MARKED)})
    run = CertificateRun(api, intent(ca_bundle=ca().pem))  # type: ignore[arg-type]
    state = gather.find_in_use(run, CertificateState(found(held, **MARKED), (), NOW))
    reason = gather.decide(run.intent, state)
    assert isinstance(reason, IssueReason)
    issued = use_certificate.IssuedCertificate(offered.pem, offered.key, {"name": "csr"})
    assert (reason.code, use_certificate.use(run, state, reason, issued, ()).changed) == ("RenewalDue", True)
    assert api.writes()


def test_a_certificate_of_a_new_ca_is_not_stored_while_a_recorded_target_may_refuse_it() -> None:
    """The record names the target of another task, which this run may not read."""
    record = {**MARKED["annotations"], markers.ANCHORS: f"{PLACE}/h0={ca('old').fingerprint}"}
    held = found(leaf(by=ca("old")), **{**MARKED, "annotations": record})
    offered, hidden = leaf(not_after=NOW + 400 * DAY), {HOOK: MissingPermissions("no permission")}
    reason = IssueReason(certificate_rules.RENEWAL_DUE, "due")
    for accept, number in (([], 0), (["unseen"], 1)):
        api = ScriptedApi({PATH: secret_object()})
        wanted = intent(ca_bundle=ca().pem, accept=accept)
        run = CertificateRun(api, wanted, unread=hidden)  # type: ignore[arg-type]
        issued = use_certificate.IssuedCertificate(offered.pem, offered.key, {"name": "csr"})
        state = CertificateState(held, (), NOW)
        if number:
            use_certificate.use(run, state, reason, issued, ())
        else:
            with fails("missing-permissions", "ValidatingWebhookConfiguration"):
                use_certificate.use(run, state, reason, issued, ())
        assert len(api.writes()) == number


def test_warnings_about_the_lifetime() -> None:
    issued = leaf()
    facts = found(issued).certificate
    assert facts is not None
    assert use_certificate._renews_every_run(intent(), facts, NOW) == ()
    assert use_certificate._renews_every_run(intent(renew_before="30d"), facts, NOW) == ()
    [warning] = use_certificate._renews_every_run(intent(renew_before="400d"), facts, NOW)
    assert "every run renews it" in warning
    assert certificate_rules.reason_to_issue(intent(renew_before="400d"), found(issued), NOW) is not None


@pytest.mark.parametrize("is_deaf", [False, True])
def test_a_ca_that_was_made_for_nothing_is_taken_off_again(is_deaf: bool) -> None:
    """The API server refuses the second target. Without the Secret, the next run makes another CA."""
    second = replace(HOOK, name="second")
    paths = [bundle_targets.path(target) for target in (HOOK, second)]
    api, wanted = ScriptedApi({path: webhook("old") for path in paths}), intent(signer_name="ephemeral-ca")

    def refuse_second(method: str, path: str, body: Any) -> Any:
        if path == paths[1] or (is_deaf and f"PATCH {paths[0]}" in api.written):
            return api_error(UnprocessableObject, "a policy denied it")
        if method == "PATCH":
            api.objects[path] = applied(copy.deepcopy(api.objects[path]), body)
        return body

    api.on_write = refuse_second
    seen = gather.read_targets(api, [HOOK, second])  # type: ignore[arg-type]
    run = CertificateRun(api, wanted, (HOOK, second))  # type: ignore[arg-type]
    with fails("object-refused", "policy", HOOK.name):
        obtain(run, CertificateState(None, seen, NOW), certificate_rules.missing_secret(wanted))
    assert (api.objects[paths[0]] == webhook("old")) is not is_deaf
    assert api.written == [f"POST {COLLECTION}", *([f"PATCH {paths[0]}"] * (1 if is_deaf else 2))]
