# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The certificate flow: gather the state, decide, and act. Each run that writes has its own Lease."""

from __future__ import annotations

from dataclasses import replace

from .._base.errors import CertflowError
from .._base.result import Result, make_left
from .._csr import markers, name_policy
from .._csr.certificate_rules import IssueReason, judge_replacement
from .._csr.name_policy import GuardedNames
from .._csr.request import pending_key
from .._webhook.endpoints.serving_progress import HIDDEN, STALE, UNREACHED, UNSEEN
from . import certificate_report, discover_targets, gather, rotation, target_anchors, use_certificate
from .certificate_run import CertificateInUse, CertificateRun, CertificateState, run_exclusively
from .discover_targets import Discovery
from .gather import decide
from .obtain import obtain
from .remove import remove
from .wait_until_served import Rotation, allow_wait, check_workload, report_endpoints, watch

_UNREACHED = "Make every endpoint reachable, and run the task again"
_OPEN = "Let every endpoint show that it serves it, or check each machine yourself, and run the task with state: present"


def ensure_certificate(run: CertificateRun) -> Result:
    """Bring the certificate, its Secret and its targets to the wanted state, and prove that the certificate is in use.

    Raises CertflowError.
    """
    return run_exclusively(run, _ensure)


def remove_certificate(run: CertificateRun) -> Result:
    """Remove the objects that this collection made for the Secret, and the anchors that it added. Raises CertflowError."""
    return run_exclusively(run, remove)


def _ensure(run: CertificateRun) -> Result:
    wanted = run.intent
    run, discovery, state = _read(run)
    # The annotation of a Secret does not choose which signer of the cluster issues.
    if state.in_use is None and run.intent.signer.is_asked:
        run = replace(run, intent=wanted)
    if rotation.allow_completion(run, state):
        if run.check_mode:
            # A run compares each write of the wait when it is due, because a plan of before the rotation has none of them.
            allow_wait(run)
        else:
            check_workload(run)
    run.client.left[run.intent.secret.path] = None
    result = rotation.complete(run, state, _obtain_or_keep(run, state))
    return discover_targets.report(result, discovery)


def _read(run: CertificateRun) -> tuple[CertificateRun, Discovery, CertificateState]:
    """Return the run with its targets and the signer of a certificate that stays, and what is there."""
    secret = gather.read_secret(run)
    kept = gather.keep_signer(run, secret)
    # The signer decides which key of the Secret has the CA.
    secret = secret if kept.intent.secret == run.intent.secret else gather.read_secret(kept)
    run, discovery = discover_targets.discover(kept, secret)
    return run, discovery, gather.gather(run, secret, discovery.objects)


def _obtain_or_keep(run: CertificateRun, state: CertificateState) -> Result:
    decision = decide(run.intent, state)
    if not isinstance(decision, IssueReason):
        return _keep(run, state, decision)
    decision = judge_replacement(run.intent, state.secret, decision, has_targets=bool(state.targets))
    return discover_targets.suggest(run, obtain(run, state, decision))


def _keep(run: CertificateRun, state: CertificateState, in_use: CertificateInUse) -> Result:
    """Keep the certificate, and delete the stored key of its request, which a killed run left."""
    cluster = GuardedNames(api_server=(run.client.host_name,))
    warnings = name_policy.warnings(run.intent.allow_names, cluster=cluster)
    waiting = state.waiting
    is_left = waiting is not None and waiting.public_key_sha256 == in_use.secret.key_sha256
    if is_left:
        run.allow_to_store()
    result = use_certificate.keep(run, state, in_use, warnings=warnings)
    if waiting is None or not is_left:
        return result
    if not run.check_mode:
        gather.acquire_lease(run, state)
        pending_key.discard(run.client, run.intent.secret, waiting.secret_uid)
    return replace(result, changed=True)


class VerificationError(CertflowError):
    """The certificate is not in use, or its state is not the wanted one."""

    code = "verification-failed"


def verify_certificate(run: CertificateRun) -> Result:
    """Verify the certificate, and write nothing. Raises VerificationError, KubeError."""
    run, _discovery, state = _read(run)
    decision = decide(run.intent, state)
    secret = state.secret
    if isinstance(decision, IssueReason) or secret is None or secret.certificate is None:
        why = decision.message if isinstance(decision, IssueReason) else "it has no certificate"
        raise VerificationError(
            f"the certificate in {run.intent.secret} is to be replaced: {why}",
            remedy="Run the task with state: present",
        )
    watched = Rotation(run, state, secret, secret.certificate)
    progress, scans = watch(watched, only_reads=True)
    seen = {served.endpoint for scan in scans for served in scan.scan.served}
    # Without a Service or a target there are no scans, and nothing shows the certificate.
    if progress.state in (STALE, UNSEEN) and scans:
        first = progress.evidence[0] if progress.evidence else "the webhook has no endpoint"
        raise VerificationError(
            f"the certificate in {run.intent.secret} is not in use: {first}",
            evidence=progress.evidence,
            remedy="Repair the webhook, so that its pods are ready and serve the certificate of the Secret",
        )
    hidden = progress.state in (HIDDEN, UNREACHED, UNSEEN)
    values = certificate_report.values(
        run.client,
        run.intent,
        reason=f"the certificate is {'not proven to be ' * hidden}in use, seen at {len(seen)} endpoints",
        signer=secret.annotations.get(markers.SIGNER),
        facts=secret.certificate,
        anchor=decision.anchor,
    )
    warnings = tuple(progress.evidence) if hidden else ()
    proof = {
        "verdict": "unproven" if hidden else "ok",
        "evidence": list(progress.evidence),
        "served": list(report_endpoints(scans, run.client.now())),
    }
    is_open = target_anchors.is_unproven(secret) and not any(rotation.missing_permissions(run, progress))
    unread = target_anchors.judge_unread(run, secret.annotations, decision.anchor)
    values |= {"proof": proof, "left": certificate_report.left_unread(unread)}
    if is_open or progress.state == UNREACHED:
        why = next(iter(progress.evidence), "the CA of the old certificate is still trusted")
        remedy = _OPEN if is_open else _UNREACHED
        values["left"] = make_left(1, certificate_report.left_unproven(run.intent, why, remedy))
    return Result(changed=False, values=values, warnings=warnings)
