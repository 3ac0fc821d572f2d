# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Releases of external-snapshotter, as a table: what each consists of, and which must never be installed.

Sources: "TAG:path" and "#N" are those of https://github.com/kubernetes-csi/external-snapshotter. Rows are minor
releases, since patches differ in what `never` and `avoid` name and in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import ReleaseError

Version = tuple[int, int, int]

SNAPSHOT, GROUP = "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"
SNAPSHOT_CRDS = tuple(
    f"{plural}.{SNAPSHOT}"
    for plural in ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")
)
GROUP_CONTENTS = f"volumegroupsnapshotcontents.{GROUP}"
GROUP_CRDS = (f"volumegroupsnapshotclasses.{GROUP}", GROUP_CONTENTS, f"volumegroupsnapshots.{GROUP}")

CONTROLLER = "snapshot-controller"
# Upstream's namespaces: the controller's since 4.1, and the webhooks', which its manifests tell people to change.
CONTROLLER_NAMESPACE = "kube-system"
VALIDATION, CONVERSION = "validation", "conversion"
OLD_LABEL, LABEL = "app", "app.kubernetes.io/name"


@dataclass(frozen=True)
class WebhookRules:
    """One ValidatingWebhookConfiguration and its webhook of the same name; operations are CREATE and UPDATE."""

    name: str
    group: str
    path: str
    versions: tuple[str, ...]
    resources: tuple[str, ...]

    def as_rules(self) -> list[dict[str, object]]:
        return [
            {
                "apiGroups": [self.group],
                "apiVersions": list(self.versions),
                "operations": ["CREATE", "UPDATE"],
                "resources": list(self.resources),
                "scope": "*",
            }
        ]


@dataclass(frozen=True)
class ReleaseWebhook:
    """The webhook of an era. selector: of its pods. service_account: "" where the program asks nothing of the API."""

    kind: str
    selector: Mapping[str, str]
    configurations: tuple[WebhookRules, ...] = ()
    service_account: str = ""

    @property
    def image(self) -> str:
        return f"snapshot-{self.kind}-webhook"

    @property
    def deployment(self) -> str:
        return "snapshot-validation-deployment" if self.kind == VALIDATION else f"{self.image}-deployment"

    @property
    def service(self) -> str:
        return "snapshot-validation-service" if self.kind == VALIDATION else f"{self.image}-service"

    @property
    def old_secret(self) -> str:
        """What upstream's manifests call it."""
        return "snapshot-validation-secret" if self.kind == VALIDATION else f"{self.image}-secret"

    @property
    def secret(self) -> str:
        """The name of a new Secret: upstream's may hold a Secret of a type that cannot be changed (6.2)."""
        return "snapshot-validation-tls" if self.kind == VALIDATION else f"{self.image}-tls"


@dataclass(frozen=True)
class GroupSupport:
    """Group snapshots: the flag that switches them, whether they are on without it, the version that is spoken."""

    flag: str
    version: str
    on: bool = False


@dataclass(frozen=True)
class Release:
    """One release.

    crds, group_crds: keys of _crds.SETS, "" where it has none. client: the version of the client module that holds its
    CustomResourceDefinitions. label: the key of the controller's selector. kubernetes: the oldest minor version.
    never: why it may not be installed. avoid: what is better about a later patch. unpublished: programs without an image.
    """

    version: Version
    crds: str
    group_crds: str
    client: str
    webhook: ReleaseWebhook | None
    label: str
    groups: GroupSupport | None
    kubernetes: tuple[int, int]
    source: str
    never: str = ""
    avoid: str = ""
    unpublished: tuple[str, ...] = ()

    def __str__(self) -> str:
        return text(self.version)

    def has(self, kind: str) -> bool:
        return self.webhook is not None and self.webhook.kind == kind


@dataclass(frozen=True)
class _MinorRelease:
    """A row: a minor release, patches 0 to ``last``; never, avoid and unpublished by patch."""

    minor: str
    last: int
    crds: str
    client: str
    source: str
    group_crds: str = ""
    webhook: ReleaseWebhook | None = None
    groups: GroupSupport | None = None
    label: str = LABEL
    kubernetes: tuple[int, int] = (1, 25)
    never: Mapping[int, str] = field(default_factory=dict)
    avoid: Mapping[int, str] = field(default_factory=dict)
    unpublished: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def releases(self) -> list[Release]:
        major, minor = (int(part) for part in self.minor.split("."))
        return [
            Release(
                (major, minor, patch),
                self.crds,
                self.group_crds,
                self.client,
                self.webhook,
                self.label,
                self.groups,
                self.kubernetes,
                self.source,
                self.never.get(patch, ""),
                self.avoid.get(patch, ""),
                self.unpublished.get(patch, ()),
            )
            for patch in range(self.last + 1)
        ]


_ALL = ("volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses")
_ALL_GROUP = ("volumegroupsnapshots", "volumegroupsnapshotcontents", "volumegroupsnapshotclasses")


def _rules(versions: tuple[str, ...], resources: tuple[str, ...]) -> WebhookRules:
    return WebhookRules(f"validation-webhook.{SNAPSHOT}", SNAPSHOT, "/volumesnapshot", versions, resources)


def _group_rules(resources: tuple[str, ...]) -> WebhookRules:
    return WebhookRules(
        f"validation-webhook.{GROUP}", GROUP, "/volumegroupsnapshot", ("v1alpha1",), resources
    )


# deploy/kubernetes/webhook-example/{webhook,rbac-snapshot-webhook}.yaml and admission-configuration-template.
_VALIDATION_4 = ReleaseWebhook(
    VALIDATION, {OLD_LABEL: "snapshot-validation"}, (_rules(("v1", "v1beta1"), _ALL[:2]),)
)
_VALIDATION_6_0 = replace(
    _VALIDATION_4, configurations=(_rules(("v1", "v1beta1"), _ALL),), service_account="snapshot-webhook"
)
_VALIDATION_6_1 = replace(_VALIDATION_6_0, configurations=(_rules(("v1",), _ALL),))
_VALIDATION_6_3 = replace(_VALIDATION_6_1, configurations=(_rules(("v1",), _ALL), _group_rules(_ALL_GROUP)))
_VALIDATION_7 = replace(_VALIDATION_6_3, selector={LABEL: "snapshot-validation"})
_VALIDATION_8 = replace(
    _VALIDATION_7, configurations=(_rules(("v1",), _ALL[2:]), _group_rules(_ALL_GROUP[2:]))
)
_CONVERSION = ReleaseWebhook(CONVERSION, {LABEL: "snapshot-conversion-webhook"})

# cmd/snapshot-controller/main.go, pkg/features.
GROUP_FLAG, GATES_FLAG, GROUP_GATE = (
    "enable-volume-group-snapshots",
    "feature-gates",
    "CSIVolumeGroupSnapshot",
)
_ALPHA = GroupSupport(GROUP_FLAG, "v1alpha1")

_UNBOUNDED = "its controller lists every snapshot at once when it starts (#1238); {} does not"
_ROWS = (
    _MinorRelease("4.2", 1, "4.1", "4.2.0", "v4.2.1:deploy", webhook=_VALIDATION_4, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease("5.0", 1, "4.1", "5.0.0", "v5.0.1:deploy", webhook=_VALIDATION_4, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease(
        "6.0", 1, "6.0.1", "6.0.1", "v6.0.1:deploy", webhook=_VALIDATION_6_0, label=OLD_LABEL, kubernetes=(1, 20),
        never={0: "its CustomResourceDefinitions drop v1beta1, which a cluster that ever stored it refuses "
                  "(#718, #719); take 6.0.1 or newer"},
    ),
    _MinorRelease("6.1", 0, "6.0.1", "6.1.0", "v6.1.0:deploy", webhook=_VALIDATION_6_1, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease(
        "6.2", 3, "6.0.1", "6.2.0", "v6.2.2:deploy", webhook=_VALIDATION_6_1, label=OLD_LABEL, kubernetes=(1, 20),
        unpublished={0: (_VALIDATION_6_1.image,)},  # #803
    ),
    _MinorRelease(
        "6.3", 4, "6.3", "6.3.0", "v6.3.0:deploy", group_crds="6.3", webhook=_VALIDATION_6_3, label=OLD_LABEL,
        kubernetes=(1, 20),
        never={0: "its webhook waits for VolumeGroupSnapshotClasses and never opens its port without them (#921, #939); "
                  "take 6.3.1 or newer"},
    ),
    _MinorRelease(
        "7.0", 2, "7.0", "7.0.0", "v7.0.2:deploy", group_crds="7.0", webhook=_VALIDATION_7, groups=_ALPHA,
        kubernetes=(1, 20),
        never={0: "its webhook crashes at a snapshot content without sourceVolumeMode (#1005); take 7.0.1 or newer"},
    ),
    _MinorRelease(
        "8.0", 2, "8.0", "8.0.0", "v8.0.2:deploy", group_crds="8.0", webhook=_VALIDATION_8, groups=_ALPHA,
        avoid={patch: _UNBOUNDED.format("8.0.2") for patch in (0, 1)},
    ),
    _MinorRelease(
        "8.1", 1, "8.0", "8.0.0", "v8.1.0:deploy", group_crds="8.0", webhook=_VALIDATION_8, groups=_ALPHA,
        avoid={0: _UNBOUNDED.format("8.1.1")},
    ),
    _MinorRelease("8.2", 1, "8.0", "8.2.0", "v8.2.1:deploy", group_crds="8.2", groups=GroupSupport(GATES_FLAG, "v1beta1")),
    _MinorRelease("8.3", 0, "8.0", "8.2.0", "v8.3.0:deploy", group_crds="8.2", groups=GroupSupport(GATES_FLAG, "v1beta1")),
    _MinorRelease(
        "8.4", 0, "8.0", "8.4.0", "v8.4.0:deploy", group_crds="8.4", webhook=_CONVERSION,
        groups=GroupSupport(GATES_FLAG, "v1beta2"),
    ),
    _MinorRelease(
        "8.5", 0, "8.0", "8.4.0", "v8.5.0:deploy", group_crds="8.4", webhook=_CONVERSION,
        groups=GroupSupport(GATES_FLAG, "v1beta2"),
    ),
    # Upstream still ships the conversion webhook's manifest with these, but their CustomResourceDefinitions ask for none.
    _MinorRelease("8.6", 0, "8.0", "8.6.0", "v8.6.0:deploy", group_crds="8.6", groups=GroupSupport(GATES_FLAG, "v1")),
    _MinorRelease("8.7", 0, "8.0", "8.7.0", "v8.7.0:deploy", group_crds="8.6", groups=GroupSupport(GATES_FLAG, "v1", on=True)),
)  # fmt: skip
RELEASES: tuple[Release, ...] = tuple(release for row in _ROWS for release in row.releases())
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]
# The names of upstream's ValidatingWebhookConfigurations, of any release.
CONFIGURATION_NAMES = frozenset(f"validation-webhook.{group}" for group in (SNAPSHOT, GROUP))
# Whose program converts between v1beta1 and v1beta2; the only ones with an image are those of 8.4.0 and 8.5.0 (#1358).
CONVERTS = "8.4.0"
# Whose CustomResourceDefinitions of groups have v1beta1 and no conversion: the bridge from v1alpha1 (#1307).
BRIDGE = "8.2.0"

_EXACT = re.compile(r"v?\d+\.\d+\.\d+$")
_NUMBER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+.].*)?$")


def parse(words: str) -> Version | None:
    """The version in a text such as "8.2.0", "v8.2.0" or "v8.2.0-eks-1-33-1"; None where there is none."""
    match = _NUMBER.match(words.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def text(version: Version) -> str:
    return ".".join(map(str, version))


def find(version: Version | None) -> Release | None:
    """The release's row, None where there is no such release."""
    return next((release for release in RELEASES if release.version == version), None)


def get(words: str) -> Release:
    """The row of a release that the table itself names."""
    release = find(parse(words))
    if release is None:
        raise KeyError(words)
    return release


def known_webhook(kind: str) -> ReleaseWebhook:
    """Return the names of this kind of webhook, which are the same at every release that has it."""
    return next(one.webhook for one in RELEASES if one.webhook and one.webhook.kind == kind)


def target(words: str) -> Release:
    """The release that a task asks for. Raises ReleaseError where there is none such, or it must not be installed."""
    release = find(parse(words)) if _EXACT.match(words) else None
    if release is None:
        raise ReleaseError(
            f"external-snapshotter {words} is no release that this collection knows",
            remedy=f"give one of {', '.join(str(row) for row in RELEASES if not row.never)}",
        )
    if release.never:
        raise ReleaseError(
            f"external-snapshotter {release} must not be installed: {release.never}",
            remedy="Choose another release",
        )
    return release
