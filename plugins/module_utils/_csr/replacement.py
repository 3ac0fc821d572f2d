# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare a certificate that this collection did not issue with the one that is to replace it. Pure.

What the new certificate would lack is a loss, unless an option of the task asks for it or the user accepts it. The old private key
is gone after the replacement, so no run can undo it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from .._base.accept import OTHER_CONTENT
from .._base.owners import accept_option
from .._x509 import certificate_facts, go_parser, pem_text
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from . import name_policy
from .certificate_rules import IssueReason
from .errors import SecretError
from .intent import Intent
from .secret_content import ExistingSecret
from .usages import CLIENT_AUTH, is_client_identity, purposes

# A comma or a plus sign of RFC 4514 text that is not escaped.
_BETWEEN_PARTS = re.compile(r"(?<!\\)[,+]")


def judge_replacement(
    intent: Intent, secret: ExistingSecret | None, reason: IssueReason, *, has_targets: bool
) -> IssueReason:
    """Return the reason with what the replacement changes. Raises SecretError for a loss that the user does not accept.

    has_targets: True if caBundles showed that no CA of them verifies the certificate.
    """
    if secret is None or secret.is_ours:
        return reason
    held, is_accepted = secret.certificate, intent.accept.covers(OTHER_CONTENT, intent.secret)
    if held is None:
        if not is_accepted and _is_read_by_go(secret.certificate_pem):
            raise SecretError(
                f"{reason.message}. Another owner made this certificate, and it is not known what the new one would lack",
                remedy="Run the task with another release of the library cryptography. To replace the certificate, set "
                + accept_option([OTHER_CONTENT], intent.secret),
            )
        return reason
    if not is_accepted:
        _refuse(intent, held, reason, has_targets=has_targets)
    changes = (
        f"CA {held.issuer} -> signer {intent.signer.name}",
        f"valid until {held.not_after:%Y-%m-%d} -> {_lifetime(intent)}",
        f"key {secret.key_type or 'of an unlisted type'} -> {intent.request.key_type}",
    )
    return replace(reason, message=f"{reason.message}. This replaces: {', '.join(changes)}")


def _is_read_by_go(pem: str) -> bool:
    """Return True if the first certificate of a text, which the library of this run does not read, may be in use."""
    block = next((block for block in pem_text.blocks(pem) if block.label == certificate_facts.LABEL), None)
    if block is None:
        return False
    try:
        go_parser.read(pem_text.der(block))
    except CertificateError:
        return False
    return True


def _lifetime(intent: Intent) -> str:
    seconds = intent.request.expiration_seconds
    return f"{seconds} seconds" if seconds else "what the signer grants"


def _refuse(intent: Intent, held: CertificateFacts, reason: IssueReason, *, has_targets: bool) -> None:
    option = accept_option([OTHER_CONTENT], intent.secret)
    own = name_policy.service_names(intent.service, intent.namespace)[-1:] if intent.service else ()
    is_called = {*own} <= {*held.dns_names}
    if (reason.code == "Names" and is_called) or (reason.code == "Untrusted" and not has_targets):
        raise SecretError(
            f"{reason.message}. Another owner made this certificate, and it is valid until {held.not_after:%Y-%m-%d %H:%M} UTC",
            remedy="Let its owner issue a certificate that fits the task, or change the task: names, targets or ca_bundle. "
            f"To replace the certificate, set {option}",
        )
    losses = tuple(find_losses(intent, held))
    if losses:
        raise SecretError(
            f"{reason.message}. Another owner made this certificate, and the new one would lack: {'; '.join(losses)}",
            evidence=losses,
            remedy="Ask for it with names, usages, common_name or organizations. To lose it, set " + option,
        )


def find_losses(intent: Intent, held: CertificateFacts) -> Iterator[str]:
    """Yield what a certificate has and the requested one would lack. CA, lifetime and type of key are no losses."""
    request = intent.request
    names = [name for name in held.dns_names if name not in request.dns_names]
    yield from (f"the name {name}" for name in names)
    yield from (f"the address {name}" for name in held.ip_addresses if name not in request.ip_addresses)
    yield from (f"the URI {name}" for name in held.uris)
    yield from (f"the e-mail address {name}" for name in held.emails)
    extended = purposes(held.usages)
    yield from (f"the usage {usage}" for usage in extended if usage not in request.usages)
    if not extended and not is_client_identity(request.usages):
        yield f"the usage {CLIENT_AUTH}, which a certificate without extended usages has"
    yield from (
        f"the organization {name}" for name in held.organizations if name not in request.organizations
    )
    own = name_policy.service_names(intent.service, intent.namespace) if intent.service else ()
    # create-cert.sh of external-snapshotter makes system:node:hook.demo.svc; with the semicolon.
    bare = held.common_name.rpartition(":")[2].rstrip(";")
    if bare and bare not in (*own, *held.dns_names) and held.common_name != request.common_name:
        yield f"the common name {held.common_name}"
    for part in _BETWEEN_PARTS.split(held.subject):
        if part and not part.startswith(("CN=", "O=")):
            yield f"the part {part} of the subject"
