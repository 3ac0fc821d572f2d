# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Objects that hold a caBundle; must be kept in sync with module_utils/_ansible/argument_specs.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  targets:
    description:
      - The objects whose C(caBundle) is written, all of them read and planned before the first is written.
    type: list
    elements: dict
    suboptions:
      kind:
        description:
          - Kind of the object.
        type: str
        required: true
        choices: [ValidatingWebhookConfiguration, MutatingWebhookConfiguration, CustomResourceDefinition, APIService]
      name:
        description:
          - Name of the object.
        type: str
        required: true
      webhooks:
        description:
          - Names of webhooks inside a webhook configuration. Without it, those that call the Service.
        type: list
        elements: str
"""
