# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep compiled files of collections for the next start of Ansible. Python imports this file in each process of a gate.

Ansible compiles each file of a collection at each start, and keeps nothing. The gates start it hundreds of times, and the files
of this collection take a quarter of a second of CPU time. A process without Ansible imports nothing more than it would without
this file.
"""

from __future__ import annotations

import os
import sys

MYPY = False
if MYPY:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

LOADER = "ansible.utils.collection_loader._collection_finder"
#: The folder of the compiled files, from tools.ci.tree.
VARIABLE = "CERTFLOW_COMPILED"


def compile_once(source: Any, filename: str, mode: str, **options: Any) -> Any:
    """Return compile(...). The result of an earlier process is used again if source, name and Python are the same."""
    import hashlib
    import marshal
    import tempfile

    text = source if isinstance(source, bytes) else str(source).encode()
    key = hashlib.sha256(repr((sys.version, filename, mode, sorted(options.items()))).encode() + text)
    path = os.path.join(os.environ[VARIABLE], key.hexdigest())
    try:
        with open(path, "rb") as file:
            return marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        code = compile(source, filename, mode, **options)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=os.path.dirname(path))
        with os.fdopen(handle, "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(draft, path)
    except OSError:  # a disk that is full only costs time
        pass
    return code


class _Loader:
    """Imports Ansible's loader of collections, and gives it another `compile`."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["compile"] = compile_once
        self._loader.exec_module(module)


class _Finder:
    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != LOADER:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


if os.environ.get(VARIABLE):
    sys.meta_path.insert(0, _Finder())
