# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The certificate flow: gather the state, decide, and act. Each function is one run with its own Lease."""

from __future__ import annotations

from dataclasses import replace

from .._csr import name_policy, pending_key
from .._csr.certificate_rules import IssueReason
from .._csr.name_policy import GuardedNames
from .._result import Result
from . import discover_targets, gather, rotation, use_certificate
from .certificate_run import CertificateInUse, CertificateRun, CertificateState, run_exclusively
from .gather import decide
from .obtain import obtain
from .remove import remove


def ensure_certificate(run: CertificateRun) -> Result:
    """Bring the certificate, its Secret and its targets to the wanted state, and prove that the certificate is in use.

    Raises CertflowError.
    """
    return run_exclusively(run, _ensure)


def remove_certificate(run: CertificateRun) -> Result:
    """Remove the objects that this collection made for the Secret, and the anchors that it added. Raises CertflowError."""
    return run_exclusively(run, remove)


def _ensure(run: CertificateRun) -> Result:
    secret, wanted = gather.read_secret(run), run.intent
    run, discovery = discover_targets.discover(gather.keep_signer(run, secret), secret)
    state = gather.gather(run, discovery.secret, discovery.objects)
    if state.in_use is None:  # The annotation of a Secret never chooses who issues.
        run = replace(run, intent=wanted)
    rotation.allow_completion(run, state)
    run.client.left[run.intent.secret.path] = None
    result = rotation.complete(run, state, _obtain_or_keep(run, state))
    return discover_targets.report(result, discovery)


def _obtain_or_keep(run: CertificateRun, state: CertificateState) -> Result:
    decision = decide(run.intent, state)
    if not isinstance(decision, IssueReason):
        return _keep(run, state, decision)
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
