#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_signer_probe
short_description: Which signers really issue certificates here, under which CA, and for how long
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Sends one throw-away CertificateSigningRequest to each signer, approves all of them, waits for all of them together, says
    what came back, and deletes every one of them again, whatever ends the task.
  - The private keys are gone before anything is sent. The names are random and nobody's, the certificates are asked for
    600 seconds, stored nowhere and not returned. Labels, annotation and approval say what the requests are for.
  - An approval shows in the audit log and may alarm those who watch it. Announce the probe, or start in check mode, which
    sends nothing and returns what would be approved.
  - Reports no change, because nothing stays. Only where a request could not be deleted again it reports a change, with
    a warning.
  - What a probe that was killed left behind is deleted by the next one, once it is ten minutes old.
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
attributes:
  check_mode:
    description:
      - Sends nothing but access reviews and returns the requests that it would send and approve.
    support: full
  diff_mode:
    description:
      - Leaves nothing behind, so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - Leaves nothing behind.
    support: full
options:
  signers:
    description:
      - The signers to ask.
      - By default those that issue serving certificates on any provider that this collection knows -
        C(kubernetes.io/kubelet-serving) and C(beta.eks.amazonaws.com/app-serving).
      - Client certificates log their holder in, so a signer of those, such as C(kubernetes.io/kube-apiserver-client), is asked
        only where it is named here. The user of that certificate is a random name without groups.
    type: list
    elements: str
  probe_seconds:
    description:
      - How long to wait for all certificates together, in seconds after the approvals. Signers answer within a few seconds.
        A signer that has not answered by then is reported as one that does not issue.
      - Of O(wait_timeout), and of the task's own timeout, five seconds are kept for deleting the requests. Where that leaves
        less than this, a warning says so.
    type: int
    default: 15
seealso:
  - module: certflow.kubernetes.k8s_csr_info
  - module: certflow.kubernetes.k8s_csr
"""

EXAMPLES = r"""
- name: What would be sent and approved
  certflow.kubernetes.k8s_signer_probe:
  check_mode: true
  register: plan

- name: Which signers issue here
  certflow.kubernetes.k8s_signer_probe:
    signers:
      - kubernetes.io/kubelet-serving
      - beta.eks.amazonaws.com/app-serving
      - kubernetes.io/kube-apiserver-client
    probe_seconds: 5
  register: probe

- name: Show it
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
        - Whether it issued a certificate; V(null) where it was not asked, in check mode or because this identity may not
          approve for it.
      type: bool
      returned: success
    seconds: {description: "How long it took after the approval; V(null) without an answer.", type: float, returned: success}
    request:
      description:
        - What was asked for, or in check mode would be - C(name), C(common_name), C(organizations), C(names), C(usages),
          C(expiration_seconds). Names are made anew at each run.
      type: dict
      returned: success
    certificate:
      description:
        - What was issued, as M(certflow.kubernetes.k8s_csr) returns it, with C(lifetime_seconds), from the request to its
          end; the signer may have given less, or more, than the 600 that were asked for. V(null) where nothing was.
      type: dict
      returned: success
    ca_source:
      description:
        - Where the CA is published that vouches for the certificate; V(null) where none does. It is found by
          verifying, in the places where M(certflow.kubernetes.k8s_csr) looks too.
      type: str
      returned: success
      sample: ConfigMap kube-system/kube-root-ca.crt
    ca_fingerprints: {description: SHA-256 of that CA., type: list, elements: str, returned: success}
    ca_problem:
      description:
        - Why no CA is known for a certificate that was issued, with each place that was tried; V(null) otherwise.
      type: str
      returned: success
    diagnosis:
      description:
        - Why nothing was issued, or nothing that could be used; V(null) where all is well.
        - Keys C(code), C(cause), C(certainty) (V(proven), V(likely) or V(one of)), C(evidence), C(remedy).
      type: dict
      returned: success
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
  sample: missing-permissions
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

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_signer_probe import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
