#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_signer_probe
short_description: Test which signers of a cluster issue certificates
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Sends one temporary CertificateSigningRequest to each signer, approves all of them, and waits for the certificates. It returns
    which signers issued a certificate, for how long, and which CA verifies it. It deletes the requests at the end, also if the task
    fails.
  - The module discards the private keys before it sends a request. The names are random and belong to no program. The module requests
    600 seconds, and neither stores nor returns the certificates. Labels, an annotation and the approval show the purpose of the
    requests.
  - The audit log shows the approvals, which may raise an alarm. Announce the probe, or run it in check mode first. Check mode sends
    nothing and returns the requests that it would approve.
  - The module reports no change, because it leaves nothing behind. If it cannot delete a request, it reports a change with a warning.
  - Requests that a killed probe left behind are deleted by the next probe when they are ten minutes old.
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
attributes:
  check_mode:
    description:
      - Sends only access reviews, and returns the requests that it would send and approve.
    support: full
  diff_mode:
    description:
      - Leaves nothing behind, so no difference exists.
    support: N/A
  idempotent:
    description:
      - Leaves nothing behind.
    support: full
options:
  signers:
    description:
      - The signers to test.
      - If unset, the signers that issue serving certificates on the providers that this collection knows, such as
        C(kubernetes.io/kubelet-serving). The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_providers.html)
        lists them.
      - A client certificate authenticates its holder to the API server. So a signer of client certificates, such as
        C(kubernetes.io/kube-apiserver-client), is tested only if it is listed here. The user of that certificate is a random name
        without groups.
    type: list
    elements: str
  probe_seconds:
    description:
      - The time in seconds to wait for all certificates, counted from the approvals. Signers answer within a few seconds. A signer that
        has not answered by then is reported as one that does not issue.
      - The module keeps five seconds of O(wait_timeout) and of the C(timeout) of the task for the deletion of the requests. A warning
        tells if less than this time is left.
    type: int
    default: 15
seealso:
  - module: certflow.kubernetes.k8s_csr_info
  - module: certflow.kubernetes.k8s_csr
"""

EXAMPLES = r"""
- name: Show the requests that would be sent and approved
  certflow.kubernetes.k8s_signer_probe:
  check_mode: true
  register: plan

- name: Test which signers issue certificates
  certflow.kubernetes.k8s_signer_probe:
    signers:
      - kubernetes.io/kubelet-serving
      - beta.eks.amazonaws.com/app-serving
      - kubernetes.io/kube-apiserver-client
    probe_seconds: 5
  register: probe

- name: Show the signers that issue
  ansible.builtin.debug:
    msg: "{{ probe.signers | selectattr('issued') | map(attribute='signer_name') | list }}"
"""

RETURN = r"""
signers:
  description: One entry for each signer, in the order of O(signers).
  returned: success
  type: list
  elements: dict
  contains:
    signer_name: {description: Signer., type: str, returned: success}
    issued:
      description:
        - Whether the signer issued a certificate. V(null) in check mode, and if this identity may not approve requests for the signer.
      type: bool
      returned: success
    seconds: {description: "Time in seconds from the approval to the certificate. V(null) without an answer.", type: float, returned: success}
    request:
      description:
        - The request, or in check mode the planned one, with C(name), C(common_name), C(organizations), C(names), C(usages) and
          C(expiration_seconds). Each run makes new names.
      type: dict
      returned: success
    certificate:
      description:
        - The issued certificate, as M(certflow.kubernetes.k8s_csr) returns it. V(null) if no certificate was issued.
        - C(lifetime_seconds) is the time from the request to the expiry. The signer may choose another lifetime than the requested 600
          seconds.
      type: dict
      returned: success
    ca_source:
      description:
        - The place that publishes the CA with which the certificate verifies. V(null) if no known place does. The module tries the same
          places as M(certflow.kubernetes.k8s_csr).
      type: str
      returned: success
      sample: ConfigMap kube-system/kube-root-ca.crt
    ca_fingerprints: {description: SHA-256 of that CA., type: list, elements: str, returned: success}
    ca_problem:
      description:
        - The reason why no CA is known for the issued certificate, with each place that was tried. V(null) otherwise.
      type: str
      returned: success
    diagnosis:
      description:
        - The reason why the signer issued no certificate, or an unusable one. V(null) if the certificate is usable.
        - It has the keys C(code), C(cause), C(certainty) (V(proven), V(likely) or V(one of)), C(evidence) and C(remedy).
      type: dict
      returned: success
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, unless the connection could not be determined
  type: dict
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

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_signer_probe import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
