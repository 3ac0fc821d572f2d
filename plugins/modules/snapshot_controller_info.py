#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller_info
short_description: Read the snapshot controller of a cluster, and plan its upgrade
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Reads the parts of external-snapshotter that a cluster has. It recognises CRDs by their fingerprint, and finds controllers in all
    namespaces, webhooks with their certificates, and the manager of each object, such as Helm.
  - Plans the steps to a release, in the order that is right for these two releases. Each step has its reason. The way has further
    releases in between, called hops, only if a hazard needs them.
  - The plan follows from the current state of the cluster. After an interrupted run the plan is the rest of the way. For a cluster that
    has the release, the plan repairs and verifies it.
  - If a hazard or another manager prevents the upgrade, RV(refused) has the reason and the remedy.
  - Knows the releases 4.2 to 8.7 of external-snapshotter. Older ones are recognised and refused, with the way to upgrade them by hand.
extends_documentation_fragment:
  - certflow.kubernetes._accept
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
  - certflow.kubernetes._snapshot_plan
seealso:
  - module: certflow.kubernetes.snapshot_controller
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.webhook_probe
notes:
  - It needs to get and list the objects that it reads in all namespaces. RV(installed.unreadable) names the lists that it may not read.
    The plan is refused if the decision rests on one of them.
  - It lists snapshots only if a rule needs them. That is so if the rules of 8.0 are new to the cluster, or if v1beta1 is still served.
"""

EXAMPLES = r"""
- name: Read what is installed, and plan the way to 8.7.0
  certflow.kubernetes.snapshot_controller_info:
    version: 8.7.0
    accept: [kubectl]
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ plan.lines }}"

- name: Write the plan for a change ticket
  ansible.builtin.copy:
    content: "{{ plan.lines | join('\n') }}"
    dest: "{{ playbook_dir }}/snapshot-controller.txt"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
installed:
  description: The parts of external-snapshotter that the cluster has.
  returned: once the cluster was read
  type: dict
  contains:
    version: {description: "The release of the controller. Empty if no controller runs, or if its image does not tell.", type: str, returned: success}
    kubernetes: {description: The version of Kubernetes., type: str, returned: success}
    crds:
      description:
        - The CustomResourceDefinitions. Each has C(name), C(releases) (the releases that have it in this form, empty if no release has),
          C(versions) (each is C(stored), C(served) or C(listed)), C(stored_versions) and C(conversion).
      type: list
      elements: dict
      returned: success
    controllers:
      description: "Each has C(kind), C(namespace), C(name), C(image), C(version), C(arguments), C(replicas), C(available)."
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
        - The ValidatingWebhookConfigurations of the validation webhook. They are recognised by upstream's name, or because every
          webhook in them has rules for snapshots only and calls a Service whose pods run the webhook's program.
        - Each has C(name) and C(webhooks). Each webhook has C(name), C(service), C(path), C(failure_policy) and
          C(resources).
        - Other configurations that name snapshots or call the webhook are in RV(hazards). The upgrade does not change them.
      type: list
      elements: dict
      returned: success
    secrets:
      description:
        - Secrets of the webhooks. Each has C(namespace), C(name), C(type), C(keys), C(writers) and C(users).
      type: list
      elements: dict
      returned: success
    sidecars:
      description: The csi-snapshotters of CSI drivers, as RV(installed.controllers). The upgrade does not change them.
      type: list
      elements: dict
      returned: success
    default_classes: {description: Names of the default classes by driver., type: dict, returned: success}
    group_objects: {description: "The numbers of stored group snapshots: C(classes), C(snapshots), C(contents).", type: dict, returned: success}
    unreadable: {description: "The lists that could not be read, with the reason.", type: dict, returned: success}
managers:
  description:
    - Objects that another manager applied, such as Helm. Each has C(object), C(manager), C(name), C(evidence) and C(accepted).
  returned: once the cluster was read
  type: list
  elements: dict
refused:
  description:
    - The reasons why the plan may not be carried out, each with C(id), C(reason), C(evidence) and C(remedy). Empty if it may.
  returned: once the cluster was read
  type: list
  elements: dict
hazards:
  description:
    - The hazards on this way, each with C(id), C(title), C(handling) (V(refuse), V(ask), V(step) or V(report)), C(answer),
      C(evidence), C(remedy) and C(source).
  returned: once the cluster was read
  type: list
  elements: dict
reports:
  description: The hazards of handling C(report), one line each. An operator should know them. The upgrade does nothing about them.
  returned: once the cluster was read
  type: list
  elements: str
hops:
  description:
    - The releases on the way. Each has C(start) (empty if no release was installed), C(release), C(reason) (why the way needs this
      hop) and C(steps), the ids of its steps.
  returned: once the cluster was read
  type: list
  elements: dict
plan:
  description: The steps of all hops, in their order. A refused plan has them too.
  returned: once the cluster was read
  type: list
  elements: dict
  contains:
    id: {description: "A stable word, unique within its hop.", type: str, returned: success}
    hop: {description: The release of its hop., type: str, returned: success}
    title: {description: The step in a few words., type: str, returned: success}
    reason: {description: "Why it is needed, and why at this place.", type: str, returned: success}
    action: {description: The kind of step., type: str, returned: success, sample: apply}
    parameters: {description: The parameters of the action., type: dict, returned: success}
lines:
  description:
    - The plan as text. The first line is the way. Then each line has a sign, a verb and an object. C(+) creates, C(~) changes, C(-) deletes,
      C(?) verifies, C(x) is a reason to refuse the plan, and C(!) is a note.
  returned: success
  type: list
  elements: str
refusal:
  description: RV(refused) as one message. Empty if the plan may be carried out.
  returned: success
  type: str
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, once they are known
  type: dict
  contains:
    host:
      description: URL of the API server.
      type: str
      returned: always
      sample: https://203.0.113.7:6443
    auth_source:
      description: The source of the address and of the credentials.
      type: str
      returned: always
      sample: kubeconfig /home/me/.kube/config, context prod
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: release-unavailable
cause:
  description: The cause of the failure.
  returned: failure
  type: str
evidence:
  description: The observations behind it.
  returned: failure
  type: list
  elements: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller_info import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
