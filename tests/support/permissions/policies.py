# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Admission policies that deny requests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLICIES, _BINDINGS = (f"{_ADMISSION}/validatingadmissionpolic{end}" for end in ("ies", "ybindings"))


@contextlib.contextmanager
def denying(
    cluster: Cluster, name: str, rule: dict[str, Any], *, namespace: str = "", **validation: str
) -> Iterator[None]:
    """Deny the requests of a rule, by default in all namespaces, for which the expression of the validation is false."""
    matched: dict[str, Any] = {"resourceRules": [{"apiVersions": ["*"], **rule}]}
    if namespace:
        matched["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {"matchConstraints": matched, "validations": [validation]}
    cluster.api("POST", _POLICIES, {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    cluster.api("POST", _BINDINGS, binding)
    try:
        yield
    finally:
        cluster.api("DELETE", f"{_BINDINGS}/{name}")
        cluster.api("DELETE", f"{_POLICIES}/{name}")
