#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_probe
short_description: Proves through the API server that a webhook answers
description:
  - Has the API server call a webhook, and looks at the certificate that each of the webhook's endpoints serves.
  - The verdict is V(ok), V(failed) or V(unproven). An API server keeps its connections to webhooks open and does not
    verify them again, so that a call which succeeds says nothing of the certificate that is served now. V(ok) is said
    only where a new connection would succeed too - every endpoint was seen to serve a certificate that the webhook's
    C(caBundle) accepts, or the API servers were made to dial anew.
  - An admission webhook is asked about O(object), as a server dry run. A conversion webhook is asked by the dry run of
    an object at a version that is not stored; a read proves less, since lists come from the API server's cache. Of an
    aggregated API its condition C(Available) and its discovery document are read.
  - Failures are named, in RV(failure.code), with their cause and what to do.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes.probe
  - certflow.kubernetes._auth
options:
  target:
    description:
      - The webhook.
    type: dict
    required: true
    suboptions:
      kind:
        description:
          - The kind of the object that configures it.
        type: str
        required: true
        choices:
          - ValidatingWebhookConfiguration
          - MutatingWebhookConfiguration
          - CustomResourceDefinition
          - APIService
      name:
        description:
          - The name of that object.
        type: str
        required: true
      webhook:
        description:
          - The name of the webhook inside a webhook configuration, where it has several.
        type: str
  object:
    description:
      - A manifest, which is sent as a server dry run and never stored. Required for admission webhooks.
      - Choose one that the webhook denies, with O(expect=denied), wherever there is one. A denial names the webhook that
        it comes from; an object that passes does not tell who was asked about it.
      - For a conversion webhook it has a version that is served and not stored. Without it the smallest object is sent,
        in the namespace C(default) where it needs one; a schema that requires more than that refuses it.
      - Without C(metadata.name) and C(metadata.generateName) a name is generated.
    type: dict
  expect:
    description:
      - What the webhook has to say to O(object).
      - With V(allowed), an object that the webhook's rules and selectors do not name, one whose match cannot be told
        because of C(matchConditions), and C(failurePolicy Ignore) make the verdict V(unproven).
      - With V(denied), an object that passes makes it V(failed) - that shows a webhook which is dead behind
        C(failurePolicy Ignore).
    type: str
    choices: [allowed, denied]
    default: allowed
  denial_message:
    description:
      - A text that the denial has to contain, with O(expect=denied).
    type: str
    default: ''
  renew_connections:
    description:
      - Whether to make the API servers dial anew where nothing else proves the answer - where an endpoint cannot be
        looked at from here, or this identity may not.
      - It changes the number of line breaks at the end of the webhook's C(caBundle), which means nothing to TLS, and asks
        again. It needs the right to patch the object, and does nothing where there is no C(caBundle).
    type: bool
    default: false
  take_over:
    description:
      - Write the line break also where another writer has left its marks, as M(certflow.kubernetes.webhook_cabundle) does.
    type: bool
    default: false
  require_proof:
    description:
      - Whether the task fails with the verdict V(unproven) too. With V(failed) it always does.
    type: bool
    default: false
  pending:
    description:
      - What M(certflow.kubernetes.k8s_csr) returned as RV(certflow.kubernetes.k8s_csr#module:pending). While the
        certificate is still to come there is nothing to prove, and the task is skipped with that reason.
    type: bool
    default: false
  wait:
    description:
      - Whether to repeat the probe every other second, until the verdict is V(ok), or waiting would not change it, or
        O(wait_timeout) is over. Without it the first verdict counts, and a failed call is not repeated.
    type: bool
    default: false
seealso:
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.webhook_cabundle
notes:
  - It needs the right to get the object, and to create what it sends. To look at endpoints it needs to get the Service and
    its EndpointSlices, and to open a port-forward to the pods; without that it says what it could not see.
  - API servers are counted by their Leases. Several requests are made, each over a connection of its own. Behind a load
    balancer nobody can tell which API server answered, so nothing is ever claimed of all of them.
"""

EXAMPLES = r"""
- name: The webhook denies what it has to deny
  certflow.kubernetes.webhook_probe:
    target:
      kind: ValidatingWebhookConfiguration
      name: team-labels.example.com
    object:
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: probe, namespace: demo}
    expect: denied
    denial_message: every ConfigMap needs a label team
    require_proof: true

- name: The webhook of a release that was just rolled out gets ready in a minute, and is proven by new connections
  certflow.kubernetes.webhook_probe:
    target:
      kind: ValidatingWebhookConfiguration
      name: team-labels.example.com
      webhook: team-labels.example.com
    object:
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: probe, namespace: demo, labels: {team: red}}
    renew_connections: true
    wait: true
    wait_timeout: 60

- name: Objects are converted
  certflow.kubernetes.webhook_probe:
    target:
      kind: CustomResourceDefinition
      name: teams.example.com
  register: conversion

- name: What is served, and until when
  ansible.builtin.debug:
    msg: "{{ conversion.served | map(attribute='certificate.not_after') | list }}"
"""

RETURN = r"""
verdict:
  description:
    - V(ok) - the webhook answers as expected, and would over a new connection.
    - V(failed) - it does not, or does not as expected.
    - V(unproven) - nothing that was seen shows either.
  returned: always, unless it could not be asked
  type: str
  sample: ok
msg:
  description: The verdict in one line.
  returned: always
  type: str
failure:
  description: What keeps the verdict from V(ok), V(null) where nothing does.
  returned: always, unless it could not be asked
  type: dict
  contains:
    code:
      description:
        - For programs. A call that fails - C(service-missing), C(service-port), C(service-type), C(no-endpoints), C(refused),
          C(timed-out), C(no-network-path), C(address-not-allowed), C(name-not-resolved), C(connection-closed), C(not-tls),
          C(tls-failed), C(bad-bundle), C(unknown-authority), C(wrong-name), C(expired), C(wrong-usages), C(certificate-refused),
          C(wrong-path), C(not-let-in), C(invalid-response), C(server-error), C(conversion-refused), C(unnamed).
        - An answer that is not the expected one - C(denied), C(other-message), C(accepted), C(not-asked).
        - Nothing proven - C(old-connection), C(hidden-by-ignore), C(not-asked), C(perhaps-not-asked), C(nothing-to-convert),
          C(pending), and C(another-webhook), C(policy), C(no-right), C(namespace), C(invalid-object), C(no-dry-run),
          C(refused-elsewhere) for requests that ended before the webhook or behind it.
      type: str
      returned: always
    cause: {description: What is wrong., type: str, returned: always}
    remedy: {description: What to do about it., type: str, returned: always}
evidence:
  description: What was seen, one fact an entry - what was said to the requests, what each endpoint serves, how far it goes.
  returned: always, unless it could not be asked
  type: list
  elements: str
served:
  description: What each endpoint serves, empty where none could be seen.
  returned: always, unless it could not be asked
  type: list
  elements: dict
  contains:
    endpoint: {description: "The pod, or the address.", type: str, returned: always}
    certificate:
      description:
        - Subject, names, issuer, serial, fingerprint, usages, C(not_before) and C(not_after) of the served certificate, as
          M(certflow.kubernetes.k8s_csr) returns them; V(null) where nothing was seen.
      type: dict
      returned: always
    verifies:
      description: Whether the API server would accept it on a new connection, by the C(caBundle) and the name that it calls.
      type: bool
      returned: always
    problem: {description: "Why not, or why nothing was seen.", type: str, returned: always}
skip_reason:
  description: Why nothing was probed.
  returned: with O(pending)
  type: str
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
  sample: webhook-unproven
cause:
  description: What is wrong.
  returned: failure
  type: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_probe import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
