# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changed chains and bundles, judged as an audit judges them, and by Go with the options of the API server."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import verify
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates.authority import NOW, authority, dns
from tests.unit.plugins.module_utils._x509 import cases, mutated
from tests.unit.plugins.module_utils._x509.chain.test_verify import GO_CODES
from tests.unit.plugins.module_utils._x509.mutated import ServedCase

#: A wide run: CERTFLOW_SERVED_CASES=110000. It takes four minutes.
CASES, SEED = int(os.environ.get("CERTFLOW_SERVED_CASES", "600")), 41
UNREAD = "certificate-unread"
#: Keys that only Go uses.
MOST_UNREAD = 0.01


def as_here(case: ServedCase) -> str:
    """Return the code of the verdict of an audit."""
    if not verify.anchors(case.bundle):
        return "bundle-broken"
    seen = served_chains._understood(Endpoint("hook", 443, is_outside=True), list(case.chain))
    if seen.problem:
        return "certificate-refused"
    leaf, *sent = certificate_facts.load(seen.chain_pem)
    now = datetime.fromtimestamp(case.time, timezone.utc)
    return verify.verify(leaf, case.bundle, name=case.name, intermediates=sent, now=now).code


def as_go(program: Path, sample: list[ServedCase]) -> list[str]:
    asked = [
        {
            "leaf": ssl.DER_cert_to_PEM_cert(case.chain[0]),
            "intermediates": [ssl.DER_cert_to_PEM_cert(der) for der in case.chain[1:]],
            "bundle": case.bundle,
            "name": case.name or "",
            "time": case.time,
            "usage": "server auth",
        }
        for case in sample
    ]
    done = subprocess.run([program], input=json.dumps(asked), capture_output=True, text=True, check=True)
    return [
        "ok"
        if answer["ok"]
        else next(code for start, code in GO_CODES.items() if answer["error"].startswith(start))
        for answer in json.loads(done.stdout)
    ]


@pytest.mark.filterwarnings("ignore")  # cryptography warns of odd names and numbers
def test_changed_chains_as_go_judges_them(go_program: Path) -> None:
    sample = list(mutated.served_cases(CASES, SEED))
    verdicts = list(zip(sample, as_go(go_program, sample), map(as_here, sample)))
    wrong = [(case, go, here) for case, go, here in verdicts if here not in (go, UNREAD)]
    assert wrong == []
    unread = sum(here == UNREAD for _case, _go, here in verdicts)
    accepted = sum(go == "ok" for _case, go, _here in verdicts)
    print(f"{len(sample)} cases, {accepted} accepted, {unread} unread")
    assert unread <= MOST_UNREAD * len(sample)
    assert len(sample) / 10 < accepted < len(sample) / 2


def test_bytes_that_go_skips_are_skipped(go_program: Path) -> None:
    """One CA of the bundle refuses the names. The other has its name and its key, and something after the extensions."""
    strict = authority("kubernetes", extensions=[(x509.NameConstraints(dns("com"), None), True)])
    (tree,) = mutated.parsed(authority("kubernetes", key=strict.key).certificate.public_bytes(Encoding.DER))
    tree.children[0].children.append(mutated.Node(0x05))
    twin = ssl.DER_cert_to_PEM_cert(tree.encoded())
    leaf = cases.server(strict)
    now = int(NOW.timestamp())
    chain = (leaf.certificate.public_bytes(Encoding.DER),)
    sample = [ServedCase(chain, text, cases.NAME, now) for text in (strict.pem, strict.pem + twin)]
    assert as_go(go_program, sample) == [*map(as_here, sample)] == ["name-constraint", "ok"]
