# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task whose signer gives a chosen answer, or during which another client acts, on a real API server."""

from __future__ import annotations

import base64
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

from tests.support.certificates.csr_rig import CSRS, CsrRig
from tests.support.clusters import AdminApiError
from tests.system.fault_injection import signer_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.fault_injection.interference import Interference
    from tests.system.fault_injection.signer_answers import SignerAnswer


@dataclass(frozen=True)
class RequestPoint:
    """A request of the task."""

    #: "before" the request is sent, or "after" its answer.
    when: str
    #: Regular expression for method and URL.
    request: str


APPROVED = RequestPoint("after", r"PUT .*/approval$")


@contextlib.contextmanager
def acting_at(point: RequestPoint, act: Callable[[], Any], *, always: bool = False) -> Iterator[list[str]]:
    """Call ``act`` at the first matching request, or at each of them.

    Yield the requests at which it was called.
    """
    done: list[str] = []
    send = Client._open

    def act_at(when: str, request: str) -> None:
        if when == point.when and (always or not done) and re.search(point.request, request):
            done.append(request)
            act()

    def opened(client: Client, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        request = f"{method} {url}"
        act_at("before", request)
        answer = send(client, method, url, *arguments, **options)
        act_at("after", request)
        return answer

    with mock.patch.object(Client, "_open", opened):
        yield done


@dataclass(frozen=True)
class InUse:
    """The data of a Service's Secret and the bundle of its webhook."""

    data: dict[str, str]
    bundle: str


class SignerRig:
    """A Service with a certificate in use. Its next task requests one from the test signer."""

    def __init__(self, rig: CsrRig) -> None:
        self.rig = rig
        self.target = rig.hook()
        first = rig.run(targets=[self.target])
        assert first["changed"], first

    def in_use(self) -> InUse:
        return InUse(self.rig.data(), self.rig.bundle(self.target))

    def run(self, **options: Any) -> dict[str, Any]:
        given = {
            "signer_name": signer_answers.TEST_SIGNER,
            "ca_bundle": signer_answers.root().pem,
            "targets": [self.target],
            "wait_timeout": 20,
            "wait": False,
        }
        return self.rig.run(**{**given, **options})

    def newest(self) -> dict[str, Any]:
        """Return the task's newest request."""
        return max(self.rig.csrs(), key=lambda csr: int(csr["metadata"]["resourceVersion"]))

    def issue(self, answer: SignerAnswer) -> None:
        """Write the signer's answer. The API server may refuse it."""
        csr = self.newest()
        pem = answer.build(signer_answers.signer_request(csr))
        text = pem.encode() if isinstance(pem, str) else pem
        status = {**csr["status"], "certificate": base64.b64encode(text).decode()}
        if answer.failed:
            failed = {
                "type": "Failed",
                "status": "True",
                "reason": "SigningFailed",
                "message": "the CA is offline",
            }
            status["conditions"] = [*status["conditions"], failed]
        with contextlib.suppress(AdminApiError):
            path = f"{CSRS}/{csr['metadata']['name']}/status"
            self.rig.cluster.api("PUT", path, {**csr, "status": status})

    def run_with_interference(self, row: Interference) -> dict[str, Any]:
        """Run the task while an administrator acts.

        The signer gives the right answer if the request still exists.
        """
        with contextlib.ExitStack() as stack:
            done = stack.enter_context(acting_at(row.point, lambda: row.act(self)))
            if row.point != APPROVED:
                stack.enter_context(
                    acting_at(APPROVED, lambda: self.issue(signer_answers.RIGHT_ANSWERS[0]), always=True)
                )
            result = self.run(**row.options)
        assert done, result
        return result

    def run_with_answer(self, answer: SignerAnswer) -> dict[str, Any]:
        """Run the task. The signer answers after the task has approved its request."""
        with acting_at(APPROVED, lambda: self.issue(answer)) as done:
            result = self.run(**answer.options)
        assert done, result
        return result
