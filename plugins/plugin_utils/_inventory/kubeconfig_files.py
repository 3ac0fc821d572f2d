# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Kubeconfigs that may be encrypted with ansible-vault, read on the controller."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleError

from ...module_utils._errors import CertflowError
from ...module_utils._kube import kubeconfig_parsing
from ...module_utils._kube.errors import KubeconfigError

VAULT_HEADER = b"$ANSIBLE_VAULT"


def is_encrypted(path: str) -> bool:
    """Return True if the file is encrypted with ansible-vault. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(len(VAULT_HEADER)) == VAULT_HEADER


def load(loader: Any, path: str) -> Any:
    """Return the content of the file's YAML, decrypted in memory by Ansible's DataLoader.

    This function parses the YAML itself. If DataLoader parsed it, ansible-core 2.22 would mask each text of an encrypted
    file in its output, also names of contexts and words such as "v1".

    Raises CertflowError, which does not quote the file.
    """
    where = f"kubeconfig {path}"
    try:
        encrypted = is_encrypted(path)
        too_large = os.path.getsize(path) > kubeconfig_parsing.MOST_BYTES
    except OSError as error:
        raise CertflowError(
            f"{where} cannot be read: {error.strerror}",
            code="invalid-connection",
            remedy="check the path and its mode",
        ) from error
    if too_large:
        raise kubeconfig_parsing.too_large(where)
    try:
        text = bytes(loader._get_file_contents(path)[0])  # noqa: SLF001  # the same in every core
    except AnsibleError:
        raise CertflowError(
            f"{where} cannot be {'decrypted' if encrypted else 'read'}",
            code="invalid-connection",
            remedy="give the password (--vault-password-file, --ask-vault-pass)" if encrypted else "check it",
        ) from None
    try:
        return kubeconfig_parsing.load_yaml(text.decode(), where)
    except UnicodeDecodeError:  # the original message quotes the file
        raise KubeconfigError(f"{where} is not text", remedy="repair the file") from None
