# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a case: what the next run of the task does, what was wrong meanwhile, and which objects are
left over.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

if TYPE_CHECKING:
    from tests.system.fault_injection.flows import Flow, OperationCall
    from tests.system.fault_injection.served_webhook import ServedWebhook

COMPLETES, SAYS, FAILS = "completes", "says what to do", "fails"
WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))


@dataclass(frozen=True)
class CaseVerdict:
    """The verdict on a case."""

    #: The end of the next run.
    outcome: str
    #: Descriptions of what was wrong, empty if nothing was.
    wrong: tuple[str, ...] = ()
    #: Objects that are left over.
    left: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return self.outcome != FAILS and not self.wrong and not self.left

    def __str__(self) -> str:
        return "; ".join((self.outcome, *self.wrong, *(f"left over: {text}" for text in self.left)))


def of_next_run(
    webhook: ServedWebhook, flow: Flow, task: OperationCall, before: dict[str, str]
) -> CaseVerdict:
    """Run the task again, and check after each write that the certificate is trusted.

    A run that fails and says what to do is repeated once. before: the Secret's data before the case.
    """
    wrong = [f"after the fault: {text}" for text in lost(webhook, flow, before)]
    with watched(lambda: wrong.extend(f"in the next run: {text}" for text in lost(webhook, flow, before))):
        result = task.run()
    outcome = COMPLETES
    if result.get("failed"):
        outcome = SAYS
        wrong += [text for text in [unclear(result)] if text]
        result = task.run()
    if result.get("failed"):
        return CaseVerdict(FAILS, (*wrong, str(result["msg"])))
    try:
        flow.finish(webhook, task)
    except AssertionError as error:
        return CaseVerdict(FAILS, (*wrong, str(error)))
    wrong += lost(webhook, flow, before)
    left = [text for text in webhook.leftovers() if not any(ca in text for ca in flow.kept)]
    wrong += _restless(task)
    return CaseVerdict(outcome, tuple(dict.fromkeys(wrong)), tuple(left))


def lost(webhook: ServedWebhook, flow: Flow, before: dict[str, str]) -> list[str]:
    """Return what is wrong with the certificate in use.

    It must still exist, or its successor must be trusted by the targets.
    """
    if not flow.keeps_trust:
        return []
    gone = ["the Secret is gone"] if before and not webhook.data() else []
    return [*gone, *webhook.faults()]


def unclear(result: dict[str, Any]) -> str:
    """Return the reason why a failure message does not help a user, "" if it does."""
    text, message = json.dumps(result), str(result.get("msg"))
    if "PRIVATE KEY" in text:
        return "a private key in the result"
    if result.get("code") == "defect" or "Traceback" in text:
        return message
    if "\n" in message or not result.get("cause") or not result.get("remedy"):
        return f"not one clear line with a remedy: {message}"
    return ""


def _restless(task: OperationCall) -> Iterator[str]:
    """Run the task once more. It must change nothing."""
    result = task.run()
    if result.get("failed") or result["changed"]:
        yield f"a run after that is not without change: {result.get('msg') or result.get('reason')}"


@contextlib.contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` after each request of this process that may have changed an object."""
    send = Client._open

    def sent(client: Client, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        answer = send(client, method, url, *arguments, **options)
        if method in WRITES and "selfsubjectaccessreviews" not in url and "dryRun=" not in url:
            look()
        return answer

    setattr(Client, "_open", sent)  # noqa: B010
    try:
        yield
    finally:
        setattr(Client, "_open", send)  # noqa: B010
