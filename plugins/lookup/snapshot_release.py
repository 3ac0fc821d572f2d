# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: a release of external-snapshotter that may be installed, with its files verified."""

from __future__ import annotations

DOCUMENTATION = r"""
name: snapshot_release
short_description: Check that a release of external-snapshotter may be installed, and verify its files
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Does not contact a cluster. It fails with one line if the release does not exist or must not be installed, if its manifests cannot be
    fetched, or if they do not match their sums.
  - It stores the fetched manifests as M(certflow.kubernetes.snapshot_controller) does, so a later run uses them.
options:
  _terms:
    description:
      - Releases, such as V(8.7.0).
    required: true
  source:
    description:
      - The source of the manifests, as in M(certflow.kubernetes.snapshot_controller).
    type: str
    default: ""
  source_auth:
    description:
      - The credentials for a private mirror, a dictionary with the keys of the option of the same name in
        M(certflow.kubernetes.snapshot_controller).
    type: dict
    default: {}
  sums:
    description:
      - SHA-256 sums of the files of releases that the collection does not know, by release and path.
    type: dict
    default: {}
  cache_directory:
    description:
      - The directory for fetched manifests, C(~/.cache/certflow.kubernetes/releases) if unset.
    type: str
    default: ""
  fails:
    description:
      - Whether the lookup fails for a release that cannot be installed.
      - With V(false) it returns a dictionary for each release instead. A playbook can then show C(problem) as its own message.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Check that the release may be installed
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.snapshot_release', '8.7.0') }}"

- name: Check that a private mirror has the release
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.snapshot_release', '8.7.0', source='https://mirror.example.com/v{version}.tar.gz', source_auth=mirror_auth) }}"
  vars:
    mirror_auth:
      token: "{{ lookup('ansible.builtin.env', 'MIRROR_TOKEN') }}"
"""

RETURN = r"""
_raw:
  description:
    - The releases, in the form that the collection uses, such as C(8.7.0).
    - With O(fails=false), dictionaries with C(release), and with C(problem), which is one line, or empty if the release may be installed.
  type: list
  elements: raw
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.lookup import LookupBase

from ..module_utils._base.errors import CertflowError
from ..module_utils._download import source_auth
from ..module_utils._operations.snapshot_controller import ARGUMENTS
from ..module_utils._snapshot.release import release_source, release_table

CACHE = "~/.cache/certflow.kubernetes/releases"


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        releases = [self._check(str(term)) for term in terms]
        if not self.get_option("fails"):
            return releases
        for release in releases:
            if release["problem"]:
                raise AnsibleLookupError(release["problem"])
        return [release["release"] for release in releases]

    def _check(self, version: str) -> dict[str, str]:
        """Return the release and its problem, "" for a release that may be installed."""
        credentials = self._credentials()
        try:
            source = release_source.ReleaseSource(
                self.get_option("source") or "",
                Path(self.get_option("cache_directory") or CACHE),
                self.get_option("sums") or {},
                source_auth.parse(credentials),
            )
            release = str(release_table.target(version))
            release_source.files(source, release)
        except CertflowError as error:
            return {"release": version, "problem": str(error)}
        return {"release": release, "problem": ""}

    def _credentials(self) -> Any:
        """Return the option source_auth, validated as that of the module. Raises AnsibleLookupError."""
        given = {"source_auth": self.get_option("source_auth") or {}}
        result = ArgumentSpecValidator({"source_auth": ARGUMENTS["source_auth"]}).validate(given)
        if result.error_messages:
            raise AnsibleLookupError(result.errors.msg)
        return result.validated_parameters["source_auth"]
