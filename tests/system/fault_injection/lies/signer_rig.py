# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task during which an administrator acts at one of its requests, on the real API server."""

from __future__ import annotations

import base64
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

from tests.support.clusters import AdminApiError
from tests.support.csr_rig import CSRS, CsrRig
from tests.system.fault_injection.lies import signers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.fault_injection.lies.meddlers import Meddling
    from tests.system.fault_injection.lies.signers import Lie


@dataclass(frozen=True)
class Moment:
    """A request of the task: ``when`` ("before" it is sent, "after" its answer) and what it looks like, as an expression."""

    when: str
    request: str


APPROVED = Moment("after", r"PUT .*/approval$")


@contextlib.contextmanager
def meddled(moment: Moment, act: Callable[[], Any], *, always: bool = False) -> Iterator[list[str]]:
    """``act`` is called at the first such request, or at each. Yields the requests at which it was."""
    done: list[str] = []
    send = Client._open

    def meddle(when: str, request: str) -> None:
        if when == moment.when and (always or not done) and re.search(moment.request, request):
            done.append(request)
            act()

    def opened(client: Client, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        request = f"{method} {url}"
        meddle("before", request)
        answer = send(client, method, url, *arguments, **options)
        meddle("after", request)
        return answer

    with mock.patch.object(Client, "_open", opened):
        yield done


@dataclass(frozen=True)
class InUse:
    """What a Service has in use: the data of its Secret, and the bundle of its webhook."""

    data: dict[str, str]
    bundle: str


class SignerRig:
    """A Service whose certificate is in use, and whose next task asks a signer that lies."""

    def __init__(self, rig: CsrRig) -> None:
        self.rig = rig
        self.target = rig.hook()
        first = rig.run(targets=[self.target])
        assert first["changed"], first

    def in_use(self) -> InUse:
        return InUse(self.rig.data(), self.rig.bundle(self.target))

    def run(self, **options: Any) -> dict[str, Any]:
        given = {
            "signer_name": signers.LIAR,
            "ca_bundle": signers.root().pem,
            "targets": [self.target],
            "wait_timeout": 20,
            "served_timeout": 1,
        }
        return self.rig.run(**{**given, **options})

    def newest(self) -> dict[str, Any]:
        """The request that the task has just made."""
        return max(self.rig.csrs(), key=lambda csr: int(csr["metadata"]["resourceVersion"]))

    def issue(self, lie: Lie) -> None:
        """What the signer writes. The API server may refuse it."""
        csr = self.newest()
        pem = lie.answer(signers.asked(csr))
        text = pem.encode() if isinstance(pem, str) else pem
        status = {**csr["status"], "certificate": base64.b64encode(text).decode()}
        if lie.failed:
            failed = {"type": "Failed", "status": "True", "reason": "Lied", "message": "or not"}
            status["conditions"] = [*status["conditions"], failed]
        with contextlib.suppress(AdminApiError):
            path = f"{CSRS}/{csr['metadata']['name']}/status"
            self.rig.cluster.api("PUT", path, {**csr, "status": status})

    def meddled_with(self, meddling: Meddling) -> dict[str, Any]:
        """Run the task while an administrator acts. The signer issues what was requested, if the task still asks it."""
        with contextlib.ExitStack() as stack:
            done = stack.enter_context(meddled(meddling.moment, lambda: meddling.act(self)))
            if meddling.moment != APPROVED:
                stack.enter_context(meddled(APPROVED, lambda: self.issue(signers.TRUTHS[0]), always=True))
            result = self.run(**meddling.options)
        assert done, result
        return result

    def lied_to(self, lie: Lie) -> dict[str, Any]:
        """The task, answered so once it has approved its request."""
        with meddled(APPROVED, lambda: self.issue(lie)) as done:
            result = self.run(**lie.options)
        assert done, result
        return result
