# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: check the variables of a role of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_variables
short_description: Check the variables of a role of this collection
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - The roles of this collection make the same check before they contact a cluster. This plugin contacts none.
  - It finds variables that are required and not set, that have a wrong type or value, or that are misspelt.
  - A name that differs by at most two letters from a variable of the role or of the playbooks is misspelt. In the inventory it causes a
    warning. Elsewhere it is an error.
options:
  _terms:
    description:
      - The name of the role without the collection's name, V(webhook_certificate) or V(snapshot_controller).
    required: true
"""

EXAMPLES = r"""
- name: Show the problems of the variables
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.role_variables', 'webhook_certificate') }}"
"""

RETURN = r"""
_raw:
  description:
    - A dictionary for each role. It is empty if the variables are valid.
    - Otherwise it has C(code), which is V(invalid-input), and C(msg), which is one line with all problems.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import (
    read_variables,
    role_variables,
)


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        return [self._check(role_variables.specification(str(term)), variables or {}) for term in terms]

    def _check(self, spec: role_variables.RoleSpec, variables: dict[str, Any]) -> dict[str, Any]:
        values = read_variables.of_role(self._templar, spec, variables)
        problem = read_variables.role_problem(self._loader, spec, values, variables)
        return {"code": "invalid-input", "msg": problem} if problem else {}
