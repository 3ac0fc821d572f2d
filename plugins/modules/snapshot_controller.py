#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller_apply
short_description: Carries out one step of a plan for the snapshot controller
description:
  - Does one thing that an upgrade of external-snapshotter consists of, such as applying its custom resource definitions,
    migrating stored objects, or taking a Service away from old pods. The role snapshot_controller
    calls it for each step of its plan, in the plan's order; the order is what makes an upgrade safe.
  - Manifests are upstream's own, fetched once and verified file by file; this collection ships none.
  - Objects are written by server-side apply under the field manager C(certflow.kubernetes). Fields that kubectl and the
    like wrote are moved to it first, so that those which a newer release no longer has are gone, as after a fresh install.
    A C(caBundle) and the conversion of a custom resource definition are never part of what is applied.
  - Each step may be repeated. What is done already is no change.
  - The module never deletes a workload that also runs other containers. It fails with the code V(other-containers). It keeps
    a Secret that changed since the plan or that has another user, and shows a warning.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._snapshot_release
  - certflow.kubernetes._auth
options:
  step:
    description:
      - One entry of a plan's steps, as it is - a dictionary with C(id), C(title), C(reason), C(action) and C(parameters).
      - The actions are C(apply), C(conversion_none), C(conversion_webhook), C(migrate_storage), C(narrow_rules),
        C(failure_policy), C(detach), C(switch_service), C(redial), C(wait_available) and C(delete). Those that certify
        and prove are the role's.
    type: dict
    required: true
  run_id:
    description:
      - The unique name of the run that acquires or releases the Lease, such as a UUID. Only for a step whose C(action) is
        C(take_turn) or C(end_turn).
      - C(take_turn) waits until no other run holds the Lease C(certflow-snapshot-controller) in namespace C(kube-system),
        and acquires it. It needs the permission to create, read, update and delete that Lease. C(end_turn) releases it.
    type: str
    default: ""
  lease:
    description:
      - The RV(lease) that the run's step C(take_turn) returned. If another run has held the Lease since then, the step fails
        with the code C(lease-lost) before its first write. The step renews the Lease while it works.
      - With this option, a step C(take_turn) only checks and renews the Lease.
      - Without this option, the step ignores other runs.
    type: dict
    default: {}
  originals:
    description:
      - Deployments as they were, which RV(certflow.kubernetes.snapshot_controller_preflight#module:originals) returned. A step
        that applies one of them puts it back as it was, instead of making it anew from the release's manifests.
    type: list
    elements: dict
    default: []
  pending:
    description:
      - In check mode, whether steps before this one would have changed the cluster. Then what the API server refuses as
        things stand is reported as foreseen, with its words as the note, and is no failure.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds after which the step fails if it has not come to its end.
    type: int
    default: 600
seealso:
  - name: Upgrading from client-side apply to server-side apply
    description: Whose fields an apply removes.
    link: https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
notes:
  - The cache is written in check mode as well.
  - It never deletes the custom resource definitions of VolumeSnapshots, and those of group snapshots only while they have
    no objects.
"""

EXAMPLES = r"""
- name: The custom resource definitions are those of a release
  certflow.kubernetes.snapshot_controller_apply:
    step:
      id: crds
      title: apply the CustomResourceDefinitions
      reason: a controller ends at once where its resources are not served
      action: apply
      parameters:
        release: 8.7.0
        parts: [crds]

- name: Its controller runs, from a mirror of the registry
  certflow.kubernetes.snapshot_controller_apply:
    step:
      id: controller
      title: roll the controller
      reason: it is of an older release
      action: apply
      parameters:
        release: 8.7.0
        parts: [controller_rbac, controller]
        arguments: ["--feature-gates=CSIVolumeGroupSnapshot=false"]
    image_registry: registry.example.com/sig-storage
    pull_secrets: [mirror]
    controller:
      tolerations:
        - key: node-role.kubernetes.io/control-plane
          operator: Exists
      resources:
        requests: {cpu: 10m, memory: 50Mi}

- name: No object is stored at an old version any more
  certflow.kubernetes.snapshot_controller_apply:
    step:
      id: migrate
      title: write every VolumeSnapshot back
      reason: storedVersions names a version that a release to come no longer has
      action: migrate_storage
      parameters:
        crd: volumesnapshots.snapshot.storage.k8s.io
        version: v1
"""

RETURN = r"""
action:
  description: The step's action.
  returned: success
  type: str
  sample: apply
reason:
  description: Why something was to be done, or that nothing was.
  returned: success
  type: str
  sample: everything is as this step would have it
lease:
  description: The value for O(lease) of the run's other steps. Empty in check mode. It is not a secret.
  returned: for the actions C(take_turn) and C(end_turn)
  type: dict
  sample: {holder: prod-eu_12345678_1767225600, uid: 6f0f3c1e-5f0c-4f0a-9d0e-1a2b3c4d5e6f, transitions: 0}
objects:
  description: What became of each object; in check mode, what would.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the object.
      type: str
      returned: always
      sample: Deployment
    namespace:
      description: Its namespace, empty where it has none.
      type: str
      returned: always
      sample: kube-system
    name:
      description: Its name.
      type: str
      returned: always
      sample: snapshot-controller
    change:
      description: One of C(created), C(changed), C(deleted), C(unchanged).
      type: str
      returned: always
      sample: changed
    changes:
      description: The fields that differ in meaning; certificates and schemas by their fingerprints.
      type: list
      elements: dict
      returned: always
      contains:
        path:
          description: The field.
          type: str
          returned: always
          sample: spec.template.spec.containers[snapshot-controller].image
        before:
          description: Its value before, null where there was none.
          type: raw
          returned: always
          sample: registry.k8s.io/sig-storage/snapshot-controller:v8.4.0
        after:
          description: Its value after, null where there is none.
          type: raw
          returned: always
          sample: registry.k8s.io/sig-storage/snapshot-controller:v8.7.0
    left:
      description: Fields of the object that other field managers own and that were left to them.
      type: list
      elements: str
      returned: always
      sample: ["kubectl-label: metadata.labels.team"]
    note:
      description: Why the object is not deleted, or in check mode why the change could not be tried. Empty otherwise.
      type: str
      returned: always
      sample: ""
cluster:
  description: Which API server this was about, and where its address and credentials came from.
  returned: always, once they are known
  type: dict
  contains:
    host:
      description: URL of the API server.
      type: str
      returned: always
      sample: https://203.0.113.7:6443
    auth_source:
      description: Where address and credentials came from.
      type: str
      returned: always
      sample: kubeconfig /home/me/.kube/config, context prod
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: lease-lost
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._snapshot_controller_apply import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
