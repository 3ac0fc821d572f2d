# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.support.faults.killed AFTER [SIGNAL]` runs k8s_csr with the options on standard input, and kills
itself.

It kills itself right after the answer of the AFTER-th write, without cleaning up, as after a power failure.
SIGNAL is another signal, such as INT for Ctrl-C. With fewer writes it ends with 0 and prints the result.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr import OPERATION

from tests.support.operations import operate


def main(after: int, kind: signal.Signals = signal.SIGKILL) -> None:
    # a shell starts its background jobs with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    noted = Client._note

    def note(client: Client, method: str, path: str, answer: Mapping[str, Any]) -> None:
        noted(client, method, path, answer)
        if len(client.written) == after:
            print(client.written[-1], file=sys.stderr, flush=True)
            os.kill(os.getpid(), kind)

    setattr(Client, "_note", note)  # noqa: B010
    print(json.dumps(operate(OPERATION, json.load(sys.stdin))))


if __name__ == "__main__":
    main(int(sys.argv[1]), *(signal.Signals[f"SIG{name}"] for name in sys.argv[2:]))
