# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the checks of an audit, made from their table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import cluster_data, gather
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import (
    check_row,
    check_table,
    control_plane_requests,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.cluster_data import PERMISSIONS
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import signer_stats

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.check_row import Check
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import Permission

BEGIN = """\
# Checks of an audit

The module `audit_info` runs these checks on one cluster. It only reads. Each check has an id, which never changes.

A finding has one of these states:

| Status | Meaning |
|---|---|
| `fail` | The object has the fault. |
| `unknown` | The audit could not read something. There is one finding for each reason. It has the objects, and the missing permission if that is the reason. |
| `pass` | The object does not have the fault. The module returns such findings with `include_passed`. |
| `skip` | The check does not apply to the object. |

The severity is `error` if something fails, or will fail at a known time. It is `warning` for a hazard, and `info` for a fact that you
should know. `breaks_at` is the time at which the fault takes effect. The findings are sorted by it.

A certificate that expires soon is a warning if it has less time left than the smaller of 28 days and a quarter of its lifetime.
It is an error below the smaller of 14 days and a tenth of its lifetime.

An endpoint may send, and a caBundle may contain, more certificates than a chain needs. The start or the expiry of a certificate is a
fault only if the API server then accepts no chain. The finding names the certificate that ends the chain. If several certificates
expire soon, each has a finding, as if those that expire earlier were renewed.

A check that reads certificates through the API server cannot show the network path from the API server to the pod. Only `calls-fail`
shows it.

If the API server does not call a webhook now, the severity of its faults is `info`. The same applies to faults of the conversion of a
CustomResourceDefinition with one version. The evidence has the reason.

A certificate signing request is `request-stuck` if it has waited for an approval for {pending} minutes. An approved request is stuck if
it is not issued after {approved} minutes, or at once if the diagnosis names one cause.

If cert-manager renews a certificate, its expiry is no fault before the `renewalTime` of its Certificate. The audit finds the
Certificate by the annotation `cert-manager.io/inject-ca-from`. If the certificate was not renewed an hour after this time, it is
`expiring`.

## Incomplete audits

If the cluster does not answer the first requests, or refuses the login, the task fails. After that, an answer that is an error, is
cut short or does not come in time is a finding with the status `unknown`, and the audit goes on. One source takes at most half of the
remaining `wait_timeout`. A check passes only if everything that it compares could be read. Each such finding names its objects, and
`every KIND` means all objects of a kind.

An audit that could not read webhook configurations, CustomResourceDefinitions, APIServices, Services or EndpointSlices has not seen
everything that the API server calls. The result `incomplete` lists what it could not read, and the playbook `audit` fails for the cluster.

If a permission is missing, the result `missing_role` is a ClusterRole with all permissions that the checks need and that the identity
lacks. If the site does not permit something, the option `without` names it, and the checks that need it are skipped. They do not pass, but
they still find faults in what the audit reads.

| Entry of `without` | Checks that need it |
|---|---|
{declarable}
## Exceptions

A finding that you accept for a limited time is an entry of the option `exceptions`, with a reason and an end. The owner of an object can
except it from checks with an annotation:

```yaml
metadata:
  annotations:
    certflow.kubernetes/audit-except: "control-plane-blocked,service-missing"
```

Accepted findings stay in the result. They come after the others, and are counted apart. The result `exceptions` says which entries
matched, which matched nothing, and which have expired.

## Table of checks

| Check | Severity | Fault |
|---|---|---|
"""
CATEGORIES = {
    check_row.TLS: "Certificates and CA bundles",
    check_row.REACH: "Services and endpoints",
    check_row.SCOPE: "Objects that webhooks match",
    check_row.CONVERSION: "Conversions",
    check_row.API: "Aggregated APIs",
    check_row.REQUEST: "Certificate signing requests",
    check_row.CLUSTER: "The cluster and the login",
}
CRITICAL = """
## Requests of the control plane

The check `control-plane-blocked` compares each webhook with these requests, as the API server does. `deadlock` compares those that
the pods of a webhook need, in the namespace of the webhook. `virtual-resources` compares the reviews, and `timeouts-add-up` all of them.

An `objectSelector` is compared with the labels of the pods of kube-system and of the nodes, at most 500 of each. If they may not be read,
and for other objects, it is compared with labels that most clusters have. The certainty of such a finding is `likely`.

| Request | Namespaces | If the API server refuses it |
|---|---|---|
"""
COST = """
## Cost

For each cluster the audit sends 12 requests, 2 for each Service that is called, one for each Service whose webhook may match its own
pods, 2 if a webhook with an `objectSelector` may block the control plane, and one for each Certificate of cert-manager that an object
names. It does one TLS handshake for each endpoint, for at most
`endpoints_per_service` endpoints of each Service. If a permission is missing, about 20 access reviews find the others. The result `traffic` has the requests and bytes of each audit. The
largest answers are those with the CustomResourceDefinitions, of which 50 are read at a time, and the metrics of the API server. These
are read twice. The metrics of a large API server have some megabytes.

Measured on a test cluster with Kubernetes 1.36, one node and cert-manager 1.21: 14 requests, one handshake, 8 MB of answers. A cluster
with 5,000 CustomResourceDefinitions of 100 kB takes 100 pages and 500 MB of answers. The memory depends on the page, and not on the
whole list.
"""


def checks() -> str:
    """Return the page about the checks."""
    pending, approved = (
        limit // timedelta(minutes=1) for limit in (gather.PENDING_AFTER, signer_stats.STUCK_AFTER)
    )
    skipped = "".join(
        f"| `{source}` | {', '.join(f'`{check}`' for check in check_table.checks_of(source)) or 'none'} |\n"
        for source in cluster_data.DECLARABLE
    )
    parts = [BEGIN.format(pending=pending, approved=approved, declarable=skipped)]
    parts += [f"| [{row.id}](#{row.id}) | {row.severity} | {row.title} |\n" for row in check_table.CHECKS]
    for category, title in CATEGORIES.items():
        parts += [
            f"\n## {title}\n",
            *(_section(row) for row in check_table.CHECKS if row.category == category),
        ]
    parts += [CRITICAL, *_critical(), COST]
    return rst.page(
        "".join(parts),
        "audit",
        "Made by `make docs` from the table in plugins/module_utils/_audit/checks/check_table.py.",
    )


def _section(row: Check) -> str:
    permissions = dict.fromkeys(
        _in_words(permission) for source in row.sources for permission in PERMISSIONS[source]
    )
    return (
        f"\n### {row.id}\n\n{row.title}. Severity: {row.severity}.\n\n"
        f"- **Effect.** {row.effect}\n"
        f"- **Remedy.** {row.remedy}\n"
        f"- **Permissions.** {', '.join(permissions) or 'none'}\n"
        f"- **Sources.** {_linked(row.source)}\n"
    )


def _in_words(permission: Permission) -> str:
    group = f".{permission.group}" if permission.group else ""
    name = f" {permission.name}" if permission.name else ""
    return f"`{permission.verb} {permission.resource}{group}{name}`"


def _critical() -> Iterator[str]:
    for row in control_plane_requests.REQUESTS:
        operations = row.operations.replace(" ", ", ")
        yield f"| {operations} `{row.name}` | {', '.join(row.namespaces) or 'none'} | {row.effect} |\n"


def _linked(source: str) -> str:
    """Return a source with its issues as links."""
    return re.sub(r"(?<!/)\b([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", source)
