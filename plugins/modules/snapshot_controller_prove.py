#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller_prove
short_description: Proves that the snapshot controller, its webhook or its CRDs work
description:
  - Carries out one step of a plan whose action is C(prove), as M(certflow.kubernetes.snapshot_controller_plan) makes it. That a
    Deployment is available proves nothing here - upstream's pods have no probes, and failurePolicy V(Ignore) hides a
    webhook that is dead. What counts is what only the thing itself can say or do.
  - C(webhook) - it refuses a dry run in its own words, which the rules of the CRDs do not refuse before it.
  - C(conversion) - a content at a version that is not stored passes as a dry run, for which the webhook is needed.
  - C(schema) - dry runs of what the rules of the CRDs forbid are refused with the rules' messages.
  - C(controller), C(groups) - of a snapshot, or a group snapshot, that names a missing class the controller says so in its
    status. The object is removed again.
  - C(version) - all pods of the Deployment are of the release, by what they log when they start, or where that cannot be read
    by the tag of their image; no other pod of a controller is left in the namespace; and one of them holds the Lease.
  - Asked before and after a change, it tells what was broken before from what is broken now (O(before)).
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes.proof
  - certflow.kubernetes._auth
options:
  step:
    description:
      - One entry of C(steps) or C(proofs) of M(certflow.kubernetes.snapshot_controller_plan), as it is. Its action is C(prove).
    type: dict
    required: true
  namespace:
    description:
      - Where the snapshot of C(controller) and C(groups) is made, and where the snapshots of dry runs are said to be. By default
        the step's namespace, which is the controller's; for dry runs without one V(default).
    type: str
  before:
    description:
      - What this module returned for the same thing before it was changed. Empty where that is not known.
    type: dict
    default: {}
  lease:
    description:
      - The RV(certflow.kubernetes.snapshot_controller_apply#module:lease) of the run's step C(take_turn). The task renews the
        Lease while it works. It fails with the code C(lease-lost) if another run has held the Lease since then.
    type: dict
    default: {}
  require:
    description:
      - Whether the task fails with the verdict V(failed), and outside check mode with V(unproven). It does not where a webhook
        refused in its own words and nobody could look at the certificates that its pods serve; that is a warning.
      - V(false) never fails for a verdict, which is for the look before a change.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds after which what was not seen is not there. A controller whose holder of the Lease has ended takes up to 120 to
        go on, and needs half a minute to start. For a look at what should run already 10 are enough.
    type: int
    default: 180
seealso:
  - module: certflow.kubernetes.snapshot_controller_plan
  - module: certflow.kubernetes.snapshot_controller_apply
  - module: certflow.kubernetes.webhook_probe
notes:
  - Objects that are created for a while have the label C(certflow.kubernetes/snapshot-probe). They are removed at the end,
    whatever the verdict and also on Ctrl-C; those of a run that was killed are removed by a later one, once its time was
    over. They are a VolumeSnapshot or VolumeGroupSnapshot without finalizers, and, where no driver has a default class and
    only a second one is refused by the webhook, the default class of a driver that does not exist.
  - In check mode nothing is created. What needs it is V(unproven) then, with that reason, and no failure.
"""

EXAMPLES = r"""
- name: What there is to prove now
  certflow.kubernetes.snapshot_controller_plan:
    version: 8.7.0
    adopt: [kubectl]
  register: plan

- name: What works before the upgrade
  certflow.kubernetes.snapshot_controller_prove:
    step: "{{ item }}"
    require: false
    wait_timeout: 10
  loop: "{{ plan.proofs }}"
  loop_control:
    label: "{{ item.id }}"
  register: before

- name: The rules of the CRDs hold
  certflow.kubernetes.snapshot_controller_prove:
    step:
      id: prove-rules
      title: The CRDs refuse what their rules forbid
      reason: on a cluster where they did not, nothing would
      action: prove
      parameters:
        what: schema
    before: "{{ before.results | selectattr('item.id', 'eq', 'prove-rules') | first | default({}) }}"
    require: false
    wait_timeout: 10
"""

RETURN = r"""
verdict:
  description:
    - V(ok) - it was seen to work.
    - V(failed) - it was seen not to.
    - V(unproven) - nothing that was seen shows either.
  returned: always, unless the step is none or the API server does not answer
  type: str
  sample: ok
what:
  description: What the step is about, such as C(webhook).
  returned: with RV(verdict)
  type: str
  sample: controller
summary:
  description: One sentence that says what was seen.
  returned: with RV(verdict)
  type: str
was_broken_before:
  description: Whether it was broken before, by O(before); V(null) where that is not known.
  returned: with RV(verdict)
  type: bool
evidence:
  description: What was seen, one fact an entry.
  returned: with RV(verdict)
  type: list
  elements: str
remedy:
  description: What to do about it, empty where nothing is wrong.
  returned: with RV(verdict)
  type: str
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: verification-failed
cause:
  description: What is wrong, and whether it was before.
  returned: failure
  type: str
cluster:
  description: The API server that was spoken to, and where its address came from.
  returned: always, unless the connection could not be determined
  type: dict
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._run._module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._snapshot_controller_prove import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
