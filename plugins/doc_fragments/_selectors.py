# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options that select requests. They must equal those in module_utils/_ansible/argument_specs.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  label_selectors:
    description:
      - Label selectors, such as C(app.kubernetes.io/managed-by=certflow.kubernetes). All of them must match.
    type: list
    elements: str
  field_selectors:
    description:
      - Field selectors. All of them must match. The API server accepts C(metadata.name) and C(spec.signerName).
    type: list
    elements: str
"""
