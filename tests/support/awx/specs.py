# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the argument specs of modules of awx.awx as JSON. It runs as a program, where the collection can be imported.

The modules create their specs inside main(), so this stops main() when it gives its spec to the base class.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


class SpecFound(Exception):
    """A module gave its argument spec."""


def spec(name: str) -> dict[str, Any]:
    """Return the argument spec of a module."""
    module = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{name}")

    def found(*_arguments: Any, **options: Any) -> None:
        raise SpecFound(options["argument_spec"])

    module.ControllerAPIModule = found  # type: ignore[attr-defined]
    try:
        module.main()
    except SpecFound as spec_found:
        given: dict[str, Any] = spec_found.args[0]
        return given
    raise AssertionError(name)


if __name__ == "__main__":
    print(json.dumps({name: spec(name) for name in sys.argv[1:]}))
