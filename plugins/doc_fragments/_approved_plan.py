# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The option with the approved plan of a task."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  approved_plan:
    description:
      - The value RV(plan_digests) of the same task in check mode. The task writes at most what it covers. If it would write more or something
        else, it fails with the code V(plan-differs) before its first write. Fewer writes are no difference, so the plan also completes a run
        that was killed.
      - The module compares after its checks, and again when it holds the Lease. It needs the permission to get the namespace
        C(kube-system).
      - Time-outs, the connection, caches and backups are not covered.
    type: dict
    suboptions:
      cluster:
        description: The digest of the UID of the namespace C(kube-system).
        type: str
        required: true
      options:
        description: The name and the digest of each option that is not the default.
        type: list
        elements: str
        required: true
      writes:
        description: The step and the digest of each write.
        type: list
        elements: str
        required: true
"""
