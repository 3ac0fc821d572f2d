# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read variables in a lookup plugin: their rendered values, and the names that the inventory sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.utils.vars import load_extra_vars
from jinja2.exceptions import UndefinedError

from ._role_variables import UNDEFINED


def rendered(templar: Any, value: Any) -> Any:
    """Return a variable's value, UNDEFINED if it refers to one that is not defined, or "" if it cannot be rendered."""
    try:
        return templar.template(value)
    except (AnsibleUndefinedVariable, UndefinedError):
        return UNDEFINED
    except AnsibleError:
        return ""


def inventory_names(loader: Any, variables: Mapping[str, Any]) -> set[str]:
    """Return the names that the inventory or a fact sets for the current host, without extra variables."""
    hostvars = variables["hostvars"]
    return set(hostvars.raw_get(variables["inventory_hostname"])) - extra_names(loader)


def extra_names(loader: Any) -> set[str]:
    """Return the names of the extra variables of the command line."""
    return set(load_extra_vars(loader))
