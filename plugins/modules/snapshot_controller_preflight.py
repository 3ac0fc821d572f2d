#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller_preflight
short_description: Tries the steps of a plan for the snapshot controller before the first of them writes
description:
  - Sends what each step would write as a server dry run, so that RBAC with its escalation check, admission, policies and
    schemas speak before anything is changed, and says what each step would change.
  - Asks for the rights that no dry run shows - of what steps wait for, and of what proofs create - by access reviews.
  - Tries a pod of each Deployment as well, since policies and quotas refuse pods long after their Deployment was accepted.
  - Says whether another run is at work, and which images no node holds yet.
  - Writes nothing, in check mode or not. Warnings of the API server, such as those of PodSecurity, are this task's warnings.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._snapshot_release
  - certflow.kubernetes._auth
options:
  steps:
    description:
      - The steps of a plan, as they are. What steps before one would have changed is taken into account; certificates and
        proofs are passed over, but for the rights that proofs need.
    type: list
    elements: dict
    required: true
  backup_directory:
    description:
      - Directory on the machine that runs this task for a backup file. The file holds every object that the steps will change or
        delete, with the command to restore it. Of a Secret it holds only the certificates.
      - No file is written if nothing is due, in check mode, or without this option.
    type: path
  require:
    description:
      - Whether the task fails where there are problems. Without it they are returned.
    type: bool
    default: true
  run_id:
    description:
      - The run that asks. Whether another one is at work is among RV(notes).
    type: str
    default: ""
  probe_namespace:
    description:
      - Where the proofs will create a snapshot, if not in the controller's namespace. Their rights are asked for there.
    type: str
    default: ""
  wait_timeout:
    description:
      - Seconds after which the task fails if it has not come to its end.
    type: int
    default: 300
seealso:
  - module: certflow.kubernetes.snapshot_controller_plan
  - module: certflow.kubernetes.snapshot_controller_apply
notes:
  - The cache of manifests is written, and the backup.
  - Whether an image can be pulled is known where a node holds it already, and else when the first pod starts.
"""

EXAMPLES = r"""
- name: The way to 8.7.0
  certflow.kubernetes.snapshot_controller_plan:
    version: 8.7.0
    adopt: [kubectl]
  register: plan

- name: Would each step be accepted?
  certflow.kubernetes.snapshot_controller_preflight:
    steps: "{{ plan.steps }}"
  register: preflight

- name: What would be changed
  ansible.builtin.debug:
    msg: "{{ preflight.foreseen | map(attribute='title') | list }}"
"""

RETURN = r"""
due:
  description: Ids of the steps that would write.
  returned: success
  type: list
  elements: str
  sample: [crds, controller-rbac, controller]
foreseen:
  description:
    - What these steps would do, each with C(id), C(title), C(objects) as M(certflow.kubernetes.snapshot_controller_apply) returns
      them, and C(note), why it could not be tried as things stand.
  returned: always, once the plan was tried
  type: list
  elements: dict
problems:
  description: What would fail, each with C(step), C(cause), C(evidence) and C(remedy).
  returned: always, once the plan was tried
  type: list
  elements: dict
notes:
  description: What cannot be known beforehand, and why.
  returned: always, once the plan was tried
  type: list
  elements: str
new_namespaces:
  description: Namespaces that are still to be made.
  returned: always, once the plan was tried
  type: list
  elements: str
originals:
  description: The Deployments that the steps will change or delete, as they are now; for the way back.
  returned: success
  type: list
  elements: dict
backup:
  description: Path of the file with everything that they will change or delete, empty where none was written.
  returned: success
  type: str
  sample: /home/me/.local/state/certflow.kubernetes/203.0.113.7-6443-20260301T030000Z.yaml
cluster:
  description: The API server that was spoken to, and where its address came from.
  returned: always, unless the connection could not be determined
  type: dict
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: preflight-failed
cause:
  description: What is wrong.
  returned: failure
  type: str
evidence:
  description: What was seen.
  returned: failure
  type: list
  elements: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._run._module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._snapshot_controller_preflight import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
