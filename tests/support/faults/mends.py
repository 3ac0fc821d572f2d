# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mends of the collection, and how a test reverts one of them in a copy, so that it shows what finds the fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.pages import collection_copy

if TYPE_CHECKING:
    from pathlib import Path

#: Each mend, a file of plugins, and how it is reverted: lines, or parts of one line, that the file has once (-), and what they become (+).
_TABLE = r"""
a removal looks at all that serves: module_utils/_webhook/trust_removal.py
-    chains = tuple(chains)
+    return Serving((), ())
the outgoing CA stays while it is served: module_utils/_repair/rotation_repairs.py
-    for chain in case.serves.seen:
+    return plan_edit(case, pem, mode=ABSENT)
+    for chain in case.serves.seen:
a caBundle needs each CA that is younger: module_utils/_csr/ca_rotation.py
-return self._from(self.in_use[0])
+return self.in_use[:1]
green means done: plugin_utils/_fleet/outcome_of_result.py
-elif left.get("count") and not run.is_planned:
+elif False:
the audit alarms when no chain is left: module_utils/_audit/checks/certificate_faults.py
-yield CertificateFault(f"{prefix}expired", words, entry.at)
+continue
an expiry is named before it comes: module_utils/_audit/checks/certificate_faults.py
-yield CertificateFault(f"{prefix}expiring", words, entry.at, severity)
+continue
a chain is judged by the caBundle: module_utils/_audit/checks/certificate_faults.py
-else _trust_faults(leaf, sent, judged, bundle, now)
+else ()
a target that lost its CA gets it again: module_utils/_certificate/use_certificate.py
-        changes = target_anchors.write(run, changes, anchor, leaf_pem=pem, now=state.now)
-        secret_store
+        secret_store
an addition comes before the Secret, and stays: module_utils/_repair/bundle_repairs.py
-    if not secures and not refusal_of(case, point.config.ca_bundle, seen):
-        return None
state absent removes what a task made: module_utils/_certificate/remove.py
-        if removal.own:
-            left
+        if False:
+            left
"""


@dataclass(frozen=True)
class Mend:
    """A mend, and how it is reverted: this text, which a file of plugins has once, becomes another one."""

    name: str
    file: str
    text: str
    reverted: str


def _mend(entry: str) -> Mend:
    head, *lines = entry.splitlines()
    text, reverted = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    name, _colon, file = head.partition(": ")
    return Mend(name, file, text, reverted)


MENDS = tuple(_mend(entry) for entry in re.split(r"\n(?=\w)", _TABLE.strip()))


def revert(mend: Mend, directory: Path) -> None:
    """Make a copy of the collection without a mend in this directory of collections."""
    file = collection_copy.make(directory) / "plugins" / mend.file
    file.write_text(file.read_text().replace(mend.text, mend.reverted))
