#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_probe
short_description: Verify through the API server that a webhook answers
description:
  - Makes the API server call a webhook, and reads the certificate that each endpoint of the webhook serves.
  - The verdict is V(ok), V(failed) or V(unproven). An API server keeps connections to webhooks open and does not verify the
    certificate again. So a successful call does not show whether the API server accepts the certificate that is served now.
  - The verdict is V(ok) only if a new connection would succeed too. So every endpoint must serve a certificate that the C(caBundle)
    of the webhook accepts.
  - To probe an admission webhook, the module sends O(object) as a server dry run. To probe a conversion webhook, it sends a dry run
    of an object at a version that is served but not stored. For an aggregated API, it reads the condition C(Available) and the
    discovery document.
  - RV(failure) names the failure by a code, with its cause and a remedy.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
attributes:
  check_mode:
    description:
      - Sends the same requests as otherwise. The module writes nothing.
    support: full
  diff_mode:
    description:
      - The module changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second run changes nothing.
    support: full
options:
  target:
    description:
      - The webhook.
    type: dict
    required: true
    suboptions:
      kind:
        description:
          - The kind of the object that configures the webhook.
        type: str
        required: true
        choices:
          - ValidatingWebhookConfiguration
          - MutatingWebhookConfiguration
          - CustomResourceDefinition
          - APIService
      name:
        description:
          - The name of this object.
        type: str
        required: true
      webhook:
        description:
          - The name of the webhook in a webhook configuration. Required if the configuration has several webhooks.
        type: str
  object:
    description:
      - A manifest. The module sends it as a server dry run, so it is never stored. Required for admission webhooks.
      - If possible, use an object that the webhook denies, with O(expect=denied). A denial names the webhook that it comes from. An
        object that passes does not show which webhooks were called.
      - For a conversion webhook, the manifest must have a version that is served but not stored. If unset, the module sends the
        smallest object, in the namespace C(default) if the kind is namespaced. Set O(object) if the schema has required fields.
      - If the manifest has neither C(metadata.name) nor C(metadata.generateName), the API server generates a name.
    type: dict
  expect:
    description:
      - The expected answer of the webhook to O(object).
      - With V(allowed), the verdict is V(unproven) if the webhook's rules and selectors do not match the object, if the webhook has
        C(matchConditions), or if its C(failurePolicy) is C(Ignore).
      - With V(denied), the verdict is V(failed) if the object passes. This reveals a webhook that cannot be called if its
        C(failurePolicy) is C(Ignore).
    type: str
    choices: [allowed, denied]
    default: allowed
  denial_message:
    description:
      - A text that the denial must contain. Only with O(expect=denied).
    type: str
    default: ''
  require_proof:
    description:
      - Whether the task also fails if the verdict is V(unproven). It always fails if the verdict is V(failed).
    type: bool
    default: false
  wait:
    description:
      - Whether to repeat the probe every two seconds. It ends when the verdict is V(ok), when waiting cannot change the verdict, or
        after O(wait_timeout). If V(false), the module probes once.
    type: bool
    default: false
seealso:
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.webhook_cabundle
notes:
  - The module needs the permissions to get the target and to create the object that it sends. To read the served certificates, it
    also needs the permissions to get the Service, to list its EndpointSlices, and to open a port-forward to the pods. Without these
    permissions, the evidence names the endpoints that the module did not see.
  - The module sends six requests, each over a new connection. A client behind a load balancer cannot see which API server answers. So
    no verdict is certain to cover every API server.
"""

EXAMPLES = r"""
- name: Verify that the webhook denies an object
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

- name: Wait until a webhook answers
  certflow.kubernetes.webhook_probe:
    target:
      kind: ValidatingWebhookConfiguration
      name: team-labels.example.com
      webhook: team-labels.example.com
    object:
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: probe, namespace: demo, labels: {team: red}}
    wait: true
    wait_timeout: 60

- name: Verify that a conversion webhook converts objects
  certflow.kubernetes.webhook_probe:
    target:
      kind: CustomResourceDefinition
      name: teams.example.com
  register: conversion

- name: Show when the served certificates expire
  ansible.builtin.debug:
    msg: "{{ conversion.served | map(attribute='certificate.not_after') | list }}"
"""

RETURN = r"""
verdict:
  description:
    - V(ok) if the webhook answers as expected, and would do so over a new connection.
    - V(failed) if the webhook does not answer, or gives another answer.
    - V(unproven) if the evidence shows neither.
  returned: always, unless the webhook could not be probed
  type: str
  sample: ok
msg:
  description: The verdict in one line, with its reason.
  returned: always
  type: str
failure:
  description: The reason why the verdict is not V(ok). V(null) if the verdict is V(ok).
  returned: always, unless the webhook could not be probed
  type: dict
  contains:
    code:
      description:
        - A code for programs.
        - Codes of a failed call are C(service-missing), C(port-missing), C(no-endpoints), C(service-headless), C(service-type),
          C(bundle-broken), C(weak-signature), C(weak-key), C(ca-mismatch), C(name-mismatch), C(not-yet-valid), C(expired),
          C(wrong-usage), C(path-too-long), C(name-constraint), C(not-a-ca), C(critical-extension), C(too-many-cas),
          C(policy-refused), C(unsupported-key), C(certificate-refused), C(not-tls), C(handshake-fails), C(refused), C(address-not-allowed),
          C(no-network-path), C(timed-out), C(name-not-resolved), C(connection-closed), C(wrong-path), C(client-refused),
          C(invalid-response), C(server-error), C(conversion-refused) and C(unnamed). A code that is a check of
          M(certflow.kubernetes.audit_info) is the same fault.
        - Codes of an unexpected answer are C(denied), C(other-message), C(accepted) and C(not-asked).
        - Codes of a call that proves nothing are C(old-connection), C(hidden-by-ignore), C(not-asked), C(perhaps-not-asked),
          C(nothing-to-convert) and C(pending).
        - Codes of a request that ended before or after the call of the webhook are C(another-webhook), C(policy), C(no-right), C(namespace),
          C(invalid-object), C(no-dry-run) and C(refused-elsewhere).
      type: str
      returned: always
    cause: {description: The cause of the failure., type: str, returned: always}
    remedy: {description: The way to mend it., type: str, returned: always}
evidence:
  description:
    - The observations, one per entry. They are the answers to the requests, the certificate of each endpoint, and the number of API
      servers.
  returned: always, unless the webhook could not be probed
  type: list
  elements: str
served:
  description: The certificates of the endpoints. Empty if the module saw no endpoint.
  returned: always, unless the webhook could not be probed
  type: list
  elements: dict
  contains:
    endpoint: {description: The pod or the address., type: str, returned: always}
    certificate:
      description:
        - The served certificate, with C(subject), C(names), C(issuer), C(serial), C(fingerprint), C(usages), C(not_before) and
          C(not_after) as M(certflow.kubernetes.k8s_csr) returns them. V(null) if the module saw no certificate.
      type: dict
      returned: always
    verifies:
      description: Whether the API server would accept the certificate on a new connection. The C(caBundle) and the called name decide that.
      type: bool
      returned: always
    problem: {description: "The reason why it would not accept the certificate, or why the module saw none.", type: str, returned: always}
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
  sample: webhook-unproven
cause:
  description: The cause of the failure.
  returned: failure
  type: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_probe import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
