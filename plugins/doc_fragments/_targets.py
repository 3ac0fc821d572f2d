# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The option of the objects that hold a caBundle. It must equal that in module_utils/_ansible/argument_specs.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  targets:
    description:
      - The objects whose C(caBundle) is changed. The module reads and plans all of them before the first write.
    type: list
    elements: dict
    suboptions:
      kind:
        description:
          - The kind of the object.
        type: str
        required: true
        choices: [ValidatingWebhookConfiguration, MutatingWebhookConfiguration, CustomResourceDefinition, APIService]
      name:
        description:
          - The name of the object.
        type: str
        required: true
      webhooks:
        description:
          - The names of webhooks in a webhook configuration. If unset, all its webhooks that call the Service.
        type: list
        elements: str
"""
