# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Python libraries that every operation needs, and what to say where they are missing."""

from __future__ import annotations

import contextlib
import importlib
import sys

from .._errors import CertflowError

with contextlib.suppress(ImportError):
    # cryptography imports it at the first use: in Ansible's forks that would be once a host.
    importlib.import_module("cryptography.hazmat.backends.openssl.backend")

# Import name -> what pip installs, with the oldest version that the tests run.
LIBRARIES: dict[str, str] = {
    "kubernetes.config.kube_config": "kubernetes>=24.2.0",
    "cryptography.x509": "cryptography>=42.0.0",
    "jmespath": "jmespath>=1.0.0",
}


def missing() -> list[str]:
    """What pip would have to install for this interpreter."""
    return [package for module, package in LIBRARIES.items() if not _importable(module)]


def require() -> None:
    """Raise CertflowError that names the interpreter and the packages, where any is missing."""
    packages = missing()
    if packages:
        raise CertflowError(
            f"{sys.executable} lacks the Python libraries {', '.join(packages)}",
            code="missing-library",
            remedy="install them for that interpreter, or run the task on the controller: delegate_to: localhost, with "
            "ansible_python_interpreter: '{{ ansible_playbook_python }}'",
        )


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
