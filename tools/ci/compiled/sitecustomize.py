# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep compiled files of collections for the next start of Ansible. Python imports this file in each process of a gate.

Ansible compiles each file of a collection at each start, and keeps nothing. The gates start it hundreds of times, and the files
of this collection take a quarter of a second of CPU time.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib.abc
import importlib.util
import marshal
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

LOADER = "ansible.utils.collection_loader._collection_finder"
#: The folder of the compiled files, from tools.ci.tree.
VARIABLE = "CERTFLOW_COMPILED"


def compile_once(source: Any, filename: str, mode: str, **options: Any) -> Any:
    """Return compile(...). The result of an earlier process is used again if source, name and Python are the same."""
    text = source if isinstance(source, bytes) else str(source).encode()
    key = hashlib.sha256(repr((sys.version, filename, mode, sorted(options.items()))).encode() + text)
    path = Path(os.environ[VARIABLE], key.hexdigest())
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        return marshal.loads(path.read_bytes())
    code = builtins.compile(source, filename, mode, **options)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(draft, path)
    return code


class _Loader(importlib.abc.Loader):
    """Imports Ansible's loader of collections, and gives it another `compile`."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["compile"] = compile_once
        self._loader.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LOADER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


if os.environ.get(VARIABLE):
    sys.meta_path.insert(0, _Finder())
