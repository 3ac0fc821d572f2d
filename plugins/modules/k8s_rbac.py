#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_rbac
short_description: Write RBAC roles, and bind them to users, groups and ServiceAccounts
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Writes each role, and one binding for each role and subject, by server-side apply. A second run changes nothing.
  - The directory C(docs/rbac) of the collection has a role for each operation of its modules. The playbook C(certflow.kubernetes.rbac)
    binds these roles on all clusters of an inventory.
  - The module reads all objects, and tries each write by a dry run, before the first write.
  - It never removes a subject from a binding of another client, and never deletes a role.
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  roles:
    description:
      - Manifests of ClusterRoles and Roles, each with C(kind), C(metadata) and C(rules).
      - A ClusterRole is bound in the whole cluster by a ClusterRoleBinding. A Role is bound in its namespace by a RoleBinding.
    type: list
    elements: dict
    required: true
  subjects:
    description:
      - The users, groups and ServiceAccounts that get the roles. The name of a binding is the name of the role, a colon, and the subject,
        such as C(certflow-request:serviceaccount:automation:certflow).
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - The kind of the subject.
        type: str
        required: true
        choices: [User, Group, ServiceAccount]
      name:
        description:
          - The name of the subject.
        type: str
        required: true
      namespace:
        description:
          - The namespace of a ServiceAccount. The other kinds have none.
        type: str
  signers:
    description:
      - The signers for each rule that names signers. If empty, the rule keeps its own.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) writes the roles and the bindings.
      - V(absent) deletes the bindings of these roles to these subjects. The roles stay, because other subjects may have them.
    type: str
    choices: [present, absent]
    default: present
  take_over:
    description:
      - Whether to write a role or binding of another client that exists with other content. If V(false), the task fails for such an
        object.
    type: bool
    default: false
seealso:
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.snapshot_controller
notes:
  - RBAC allows an identity to write or bind a role only in two cases. The identity holds all permissions of that role itself, or it has
    the verbs C(escalate) and C(bind) on the role. See
    U(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
  - The module needs the permissions to get, create, patch and delete roles and bindings.
"""

EXAMPLES = r"""
- name: Let a ServiceAccount request certificates
  certflow.kubernetes.k8s_rbac:
    roles: "{{ lookup('ansible.builtin.file', 'request.yaml') | from_yaml_all | list }}"
    subjects:
      - kind: ServiceAccount
        name: certflow
        namespace: automation

- name: Let a group approve the requests for one signer
  certflow.kubernetes.k8s_rbac:
    roles: "{{ lookup('ansible.builtin.file', 'approve.yaml') | from_yaml_all | list }}"
    signers: [example.com/serving]
    subjects:
      - kind: Group
        name: platform-approvers
"""

RETURN = r"""
objects:
  description: The roles and bindings. In check mode, what a run would do with them.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the object.
      type: str
      returned: always
      sample: ClusterRole
    name:
      description: The name of the object.
      type: str
      returned: always
      sample: certflow-request
    namespace:
      description: The namespace of the object. Empty for a ClusterRole and a ClusterRoleBinding.
      type: str
      returned: always
      sample: ""
    action:
      description: One of V(created), V(changed), V(deleted) and V(unchanged).
      type: str
      returned: always
      sample: created
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
  sample: missing-permissions
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

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_rbac import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
