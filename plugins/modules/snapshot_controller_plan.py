#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller_plan
short_description: What of external-snapshotter is installed, and the steps to another release
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Looks at a cluster and says what of external-snapshotter runs there - its CRDs by their fingerprint, controllers in all
    namespaces, webhooks with their certificates - and whose it is.
  - Says what stands in the way of a release, and gives the steps to it in the order that is right for these two releases,
    each with its reason. Between the two there are stages only where a hazard demands one.
  - The plan is made from what is there, not from what was done last. The plan of a run that was cut off is what is left, and
    the plan of a cluster that has the release already is its repair.
  - What cannot be done safely is in RV(refused), with the reason and what to do, and then there are no steps.
  - Knows the releases 4.2 to 8.7 of external-snapshotter. Older ones are recognised, and refused with the way by hand.
extends_documentation_fragment:
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._auth
options:
  version:
    description:
      - The release to go to, such as V(8.7.0). Older than what is installed is the way back, where there is one.
      - A release that does not exist, or must never be installed, is an error before anything is read.
    type: str
    required: true
  installed_version:
    description:
      - The release that is installed, where the controller's image does not tell, because it has a digest alone or a tag of
        its own.
    type: str
  namespace:
    description:
      - Namespace of a new controller, C(kube-system) by default. One that is there stays where it is; another value is refused.
    type: str
  webhook_namespace:
    description:
      - Namespace of a new webhook, that of the controller by default. One that is there stays where it is; another value is
        refused.
    type: str
  validation_webhook:
    description:
      - Whether the releases to 8.1 get their validation webhook. By default it is there where it was, where nothing was
        installed, and on the way back from a release that has none.
    type: bool
  conversion_webhook:
    description:
      - Whether the releases 8.4 and 8.5 get their conversion webhook. By default it is there where group snapshots are stored or
        asked for at v1beta1, and where one works already.
    type: bool
  group_snapshots:
    description:
      - Whether the controller works on group snapshots. By default as it does now.
      - The release 8.7 does unless it is told otherwise, so that it is always told.
    type: bool
  failure_policy:
    description:
      - The validation webhook's failurePolicy once it is proven, V(Ignore) or V(Fail). By default each configuration keeps the
        one that it has, and a new one gets V(Ignore), as upstream has it.
      - A dictionary gives a failurePolicy for each configuration by its name. A configuration that it does not name keeps its
        failurePolicy.
    type: raw
  controller_arguments:
    description:
      - Arguments of the controller beside C(--v), C(--leader-election) and the gate of group snapshots. One that the release
        does not know is refused.
    type: list
    elements: str
    default: []
  webhook_arguments:
    description:
      - Arguments of the webhook beside its certificate's. One that the release does not know is refused.
    type: list
    elements: str
    default: []
  webhook_port:
    description:
      - Where the webhook's pods listen. A change of it, and of upstream's 443, needs steps of its own.
    type: int
    default: 8443
  webhook_host_network:
    description:
      - Whether the webhook's pods use the network of their nodes.
    type: bool
    default: false
  adopt:
    description:
      - Whose objects may be taken over. Without it, objects of anybody else are refused, with how they are upgraded there.
      - V(kubectl) is whatever has kubectl's mark and no other, which is no proof that nobody owns it - kubespray and the scripts
        of CSI drivers leave no other either. V(unmarked) is what has no mark at all, V(hosted) are CRDs without a controller.
    type: list
    elements: str
    choices: [rke2, eks, kops, kubeone, addon-manager, argocd, flux, helm, kubectl, hosted, unmarked]
    default: []
  accept:
    description:
      - Hazards of handling C(ask) that are accepted, by their id.
    type: list
    elements: str
    choices: [sidecars-at-v1beta1, arguments-dropped]
    default: []
  remove_controllers:
    description:
      - Controllers that are deleted, as C(namespace/name), where several run or one has another name than upstream's.
      - A controller that shares its pods with other containers, such as a CSI driver's, is never deleted.
    type: list
    elements: str
    default: []
seealso:
  - module: certflow.kubernetes.snapshot_controller_apply
  - module: certflow.kubernetes.snapshot_controller_prove
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.webhook_probe
notes:
  - It needs to get and list what it looks at in all namespaces. What it may not read is named, and refused where the
    decision rests on it.
  - Snapshots are listed only where a rule needs them, which is when the rules of 8.0 are new to the cluster, or v1beta1 is
    still served there.
"""

EXAMPLES = r"""
- name: What is installed, and the way to 8.7.0
  certflow.kubernetes.snapshot_controller_plan:
    version: 8.7.0
    adopt: [kubectl]
  register: plan

- name: What stands in the way
  ansible.builtin.debug:
    msg: "{{ plan.refused }}"

- name: The steps, each with its reason
  ansible.builtin.debug:
    msg: "{{ plan.steps | map(attribute='title') | list }}"
"""

RETURN = r"""
installed:
  description: What is there.
  returned: success
  type: dict
  contains:
    version: {description: "The release of the controller, empty where none runs or nobody can tell.", type: str, returned: success}
    kubernetes: {description: Version of Kubernetes., type: str, returned: success}
    crds:
      description:
        - The CustomResourceDefinitions, each with C(name), C(releases) (which shipped it so, empty where none did), C(versions) (to C(stored),
          C(served) or C(listed)), C(stored_versions) and C(conversion).
      type: list
      elements: dict
      returned: success
    controllers:
      description: "Each with C(kind), C(namespace), C(name), C(image), C(version), C(arguments), C(replicas), C(available)."
      type: list
      elements: dict
      returned: success
    webhooks:
      description: As RV(installed.controllers), with C(program) and C(port).
      type: list
      elements: dict
      returned: success
    configurations:
      description:
        - The validation webhook's ValidatingWebhookConfigurations. They are recognised by upstream's name, or because every
          webhook in them is asked about snapshots only and calls a Service whose pods run the webhook's program.
        - Each has C(name) and C(webhooks). Each webhook has C(name), C(service), C(path), C(failure_policy), C(resources) and
          C(versions).
        - Other configurations that name snapshots or call the webhook are in RV(hazards). The upgrade does not change them.
      type: list
      elements: dict
      returned: success
    secrets:
      description:
        - Secrets of the webhooks. Each has C(namespace), C(name), C(type), C(keys), C(writers) and C(users), and C(subject), C(names) and
          C(not_after) of its certificate.
      type: list
      elements: dict
      returned: success
    sidecars:
      description: The csi-snapshotters of CSI drivers, as RV(installed.controllers). They are not touched.
      type: list
      elements: dict
      returned: success
    default_classes: {description: Names of the default classes by driver., type: dict, returned: success}
    group_objects: {description: "How many group snapshots are stored: C(classes), C(snapshots), C(contents).", type: dict, returned: success}
    leases: {description: "Who leads, by namespace.", type: list, elements: dict, returned: success}
    unreadable: {description: "What could not be read, and why.", type: dict, returned: success}
owners:
  description: Objects that somebody else applied, each with C(object), C(owner), C(name), C(evidence) and C(adopted).
  returned: success
  type: list
  elements: dict
refused:
  description:
    - Why nothing may be written, each with C(id), C(reason), C(evidence) and C(remedy). Empty where the steps may be gone.
  returned: success
  type: list
  elements: dict
hazards:
  description:
    - What can go wrong on this way, each with C(id), C(title), C(handling) (V(refuse), V(ask), V(step) or V(report)), C(answer),
      C(evidence), C(remedy) and C(source).
  returned: success
  type: list
  elements: dict
reports:
  description: Hazards of handling C(report), one line each. A person should know them; nothing is done about them.
  returned: success
  type: list
  elements: str
stages:
  description:
    - The releases on the way. Each has C(start) (empty where nothing was there), C(release), C(reason) (why it is a stage of its
      own) and C(steps), the ids of its steps.
  returned: success
  type: list
  elements: dict
steps:
  description: The steps of all stages, in their order; none where anything is refused.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: "A stable word, unique within its stage.", type: str, returned: success}
    stage: {description: The release of its stage., type: str, returned: success}
    title: {description: What is done., type: str, returned: success}
    reason: {description: "Why, and why now.", type: str, returned: success}
    action: {description: How., type: str, returned: success, sample: apply}
    parameters: {description: With what., type: dict, returned: success}
    hazards: {description: Ids of the hazards that it is the answer to., type: list, elements: str, returned: success}
proofs:
  description:
    - Steps of action C(prove) for what is installed now, whatever is refused. They are for the look before the first step, by
      M(certflow.kubernetes.snapshot_controller_prove); their C(id) is that of the proof of the same thing among RV(steps).
    - Each is about something that is there - a webhook that is asked, a conversion that is in use, CRDs with rules, a
      controller whose release is known, group snapshots that are worked on.
  returned: success
  type: list
  elements: dict
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
  sample: release-unavailable
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._snapshot_controller_plan import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
