# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about hazards, made from the tables of hazards, releases and managers of the snapshot controller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    FIELD_MANAGER,
    PLACES,
    UNKNOWN,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    INSTALLERS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import Manager
    from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import Hazard

SECTIONS = {
    table.REFUSE: "Refused",
    table.ASK: "Asked",
    table.STEP: "Handled by a step",
    table.REPORT: "Reported",
}
UPSTREAM = "kubernetes-csi/external-snapshotter"

#: For each hazard, the releases between which it occurs.
BETWEEN: dict[str, str] = {
    "unreadable": "any",
    "hosted": "any",
    "kubespray-reverts": "any",
    "older-than-4.2": "before 4.2",
    "newer-than-known": "after 8.7",
    "version-unknown": "any",
    "two-controllers": "any",
    "other-containers": "any",
    "controllers-removed": "any",
    "another-name": "any",
    "namespace-moves": "any",
    "webhook-moves": "any",
    "webhook-names": "4.2 to 8.1",
    "mixed-object": "any",
    "foreign-configuration": "any",
    "webhook-shared": "any",
    "secret-kept": "any",
    "crd-deleted": "any",
    "kubernetes-too-old": "7.0 to 8.0",
    "stored-versions": "any",
    "v1beta1-unserved": "5.0 to 6.0",
    "invalid-objects": "7.0 to 8.0",
    "invalid-objects-kept": "7.0 to 8.0",
    "default-classes": "any",
    "foreign-crds": "any",
    "crds-stay": "any downgrade",
    "alpha-sources": "6.3 to 7.0",
    "alpha-lists": "7.0 to 8.2",
    "alpha-dropped-empty": "8.1 to 8.2",
    "alpha-dropped": "8.1 to 8.2",
    "conversion-refused": "8.2 to 8.5",
    "conversion-unsupported": "before 8.4, since 8.6",
    "conversion-left": "8.5 to 8.6",
    "lists-at-v1beta1": "8.3 to 8.6",
    "stored-at-v1beta1": "8.5 to 8.6",
    "sidecars-at-v1beta1": "8.5 to 8.6",
    "back-to-alpha": "8.2 to 8.1, 8.0 to 7.0",
    "back-without-lists": "8.4 to 8.3",
    "no-way-back": "8.3 to 8.4 and before",
    "groups-unattended": "7.0 to 6.3, any downgrade",
    "rules-first": "7.0 to 8.0",
    "volume-mode": "6.3 to 7.0",
    "arguments-unknown": "any",
    "arguments-dropped": "any",
    "arguments-taken-back": "any",
    "sidecar-arguments": "8.1 to 8.2, 8.2 to 8.3",
    "nodes": "since 5.0",
}


#: What some upgrades meet and every plan handles by its steps: the releases, the problem, the answer, and the source.
HANDLED: tuple[tuple[str, str, str, str], ...] = (
    (
        "4.2 to 5.0, 6.3 to 7.0, 8.1 to 8.2",
        "New controllers need permissions that old ones did not",
        (
            "The RBAC objects are applied before the controller. They also contain the permissions of older controllers. With the "
            "permissions of 4.2, 8.7 starts but binds no snapshot."
        ),
        "#526; rbac-snapshot-controller.yaml at each tag",
    ),
    (
        "6.3 to 7.0",
        "The controller's selector changes, and it is immutable",
        "The old Deployment is deleted without its pods. They work until the new pods run, and are deleted then.",
        "#844, #1017",
    ),
    (
        "5.0 to 6.0",
        "The old webhook denies kinds that the new rules send",
        (
            "The new webhook is installed before the new rules. The manifests of 6.0 have the reverse order, so every class is "
            "denied."
        ),
        "v6.0.1:deploy/kubernetes/webhook-example",
    ),
    (
        "any",
        "The old and the new webhook listen on different ports, and a Service has one target port",
        (
            "While both run, the Service selects only the old pods. One write changes its selector and its port. This collection's "
            "pods do not run as root, so they listen above 1024. Upstream's pods listen on 443."
        ),
        "v8.1.0:deploy/kubernetes/webhook-example/webhook.yaml",
    ),
    (
        "any",
        "Pods of the old webhook end during calls, and the API server does not repeat a call",
        "The pods are removed from the Service first. Then the API servers are made to reconnect. Then the pods are deleted.",
        "v8.1.0:deploy/kubernetes/webhook-example; KEP-3960",
    ),
    (
        "6.3 to 7.0",
        "The webhook Deployment's selector changes, and a selector is immutable",
        (
            "The old Deployment is deleted without its pods, and the new one is created. The Service is switched when the new pods "
            "answer. kubectl apply -f switches it at once, before a new pod is ready."
        ),
        "#844, #1017",
    ),
    (
        "6.1 to 6.2",
        "The Secret's type and keys change, and a type is immutable",
        "A new Secret with another name is created. The old one is deleted when no pod mounts it any more.",
        "#793, #796",
    ),
    (
        "8.1 to 8.2, 8.5 to 8.6",
        "The API server no longer calls the webhook",
        "Its Deployment, Service, RBAC objects, Secret and certificate request are deleted at the end.",
        "CHANGELOG-8.2",
    ),
    (
        "any",
        "A webhook configuration exists, but no webhook answers",
        "Webhook and Service are created again. With failurePolicy Fail, every write that matches the rules fails until then.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    (
        "8.1 to 8.2",
        "A webhook configuration outlives its webhook",
        (
            "Both configurations are deleted after the CRDs have their own rules, and before the webhook's other objects. With "
            "failurePolicy Fail, every write of a class would fail."
        ),
        "kubermatic/kubeone#3181; #939",
    ),
    (
        "6.3 to 8.1",
        "The webhook configuration for groups calls a path that answers 404",
        (
            "The configuration is not installed, and an existing one is deleted. If group snapshots are on, it is installed, and an"
            " argument makes the webhook serve the path."
        ),
        "v7.0.2:deploy/kubernetes/webhook-example/admission-configuration-template",
    ),
    (
        "7.0 to 8.7",
        "The group CRDs do not have the version that the controller uses",
        "The CRDs are applied before the controller. Without them a controller up to 8.6 exits after 30 s, repeatedly.",
        "v8.6.0:cmd/snapshot-controller/main.go",
    ),
    (
        "8.1 to 8.2, 8.2 to 8.3",
        "The release does not know some arguments of the running controller",
        "The upgrade omits them. --enable-volume-group-snapshots became a feature gate, and klog's flags were removed (#1256).",
        "rook/rook#15219; rancher/rke2#7467; #1256",
    ),
    (
        "4.0 to 4.1",
        "StatefulSet default/snapshot-controller of a release before 4.1 still runs",
        "It is deleted before the new controller starts, because it works without leader election (--leader-election=false).",
        "v4.0.1 and v4.2.1:deploy/kubernetes/snapshot-controller",
    ),
    (
        "8.3 to 8.4",
        "VolumeGroupSnapshotContents at v1beta1 need the conversion webhook",
        (
            "The certificate and the conversion webhook come first. Then spec.conversion is set together with the caBundle, and "
            "then the CRDs with v1beta2 are applied. Upstream's manifests name a Service in namespace default that does not exist, "
            "and an image that was never published."
        ),
        "client/v8.4.0:config/crd; #1358; piraeusdatastore/helm-charts#74",
    ),
)


def hazards() -> str:
    """Return the page."""
    sections = [
        (title, "".join(_hazard(row) for row in table.HAZARDS if row.handling == handling))
        for handling, title in SECTIONS.items()
    ]
    return rst.rendered(
        "hazards",
        "Made by `make docs` from the tables in plugins/module_utils/_snapshot.",
        sections=sections,
        handled="".join(_row(*row[:3], _linked(row[3])) for row in HANDLED),
        never="".join(_never()),
        managers="".join(map(_manager, INSTALLERS.values())),
    )


def _hazard(row: Hazard) -> str:
    return _row(BETWEEN[row.id], f"{row.title}<br>`{row.id}`", row.answer, _linked(row.source))


def _never() -> Iterator[str]:
    for release in release_table.RELEASES:
        if release.never:
            yield _row(
                str(release),
                f"{release.never[:1].upper()}{_linked(release.never[1:])}. Use {release_table.usable_after(release)} or newer.",
            )


def _manager(row: Manager) -> str:
    markers = [
        f"{PLACES.get(place, place)} `{pattern.replace('=', ': ', 1)}`"
        for place, pattern in (*row.markers, *row.controller_markers)
    ]
    if row.required:
        markers.append("each in addition to kubectl's marker, on an object that kubespray installs")
    word = f"{FIELD_MANAGER}NAME" if row.key == UNKNOWN else row.key
    adopting = (
        f"{row.adopting} Then `accept: [{word}]`." if row.adopting else "Its objects cannot be accepted."
    )
    article, _blank, _rest = row.name.partition(" ")
    name = row.name[:1].upper() + row.name[1:] if article in ("a", "an", "the") else row.name
    return _row(name, "<br>".join(markers) or "no marker", row.upgrade, adopting)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _linked(source: str) -> str:
    """Return a source with its issues as links. #N is an issue of upstream."""
    full = re.sub(r"(?<![\w/])#(\d+)", rf"{UPSTREAM}#\1", source)
    linked = re.sub(r"([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", full)
    return linked.replace(f"[{UPSTREAM}#", "[#")
