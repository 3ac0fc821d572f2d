# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Table of the releases of external-snapshotter: their parts, and the releases that must never be installed. Pure.

The sources are the files of each release's tag in https://github.com/kubernetes-csi/external-snapshotter, most of them below
deploy/kubernetes. "#N" is an issue there. A row stands for a minor release, because its patch releases differ only in ``never``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import ReleaseError
from ..kinds import CONVERSION, VALIDATION

Version = tuple[int, int, int]
NO_VERSION: Version = (0, 0, 0)

SNAPSHOT, GROUP = "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"
#: CustomResourceDefinition -> True if its objects have a source, which the CEL rules of a release judge.
CRDS: Mapping[str, bool] = {
    "volumegroupsnapshotclasses.groupsnapshot.storage.k8s.io": False,
    "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io": True,
    "volumegroupsnapshots.groupsnapshot.storage.k8s.io": True,
    "volumesnapshotclasses.snapshot.storage.k8s.io": False,
    "volumesnapshotcontents.snapshot.storage.k8s.io": True,
    "volumesnapshots.snapshot.storage.k8s.io": True,
}
SNAPSHOT_CRDS, GROUP_CRDS = (
    tuple(name for name in CRDS if name.endswith(f".{group}")) for group in (SNAPSHOT, GROUP)
)
GROUP_CONTENTS = f"volumegroupsnapshotcontents.{GROUP}"

# Upstream's namespace of the controller since 4.1.
CONTROLLER_NAMESPACE = "kube-system"
OLD_LABEL, LABEL = "app", "app.kubernetes.io/name"


@dataclass(frozen=True)
class WebhookRules:
    """A ValidatingWebhookConfiguration of upstream and its only webhook, which has the same name."""

    name: str
    group: str
    path: str
    versions: tuple[str, ...]
    resources: tuple[str, ...]

    def as_rules(self) -> list[dict[str, object]]:
        """Return the field rules of the webhook."""
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
    """The webhook of some releases, and upstream's names of its objects."""

    #: VALIDATION or CONVERSION.
    kind: str
    #: The labels of its pods.
    selector: Mapping[str, str]
    configurations: tuple[WebhookRules, ...] = ()
    #: "" if the program sends no requests to the API server.
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
        """The Secret's name in upstream's manifests."""
        return "snapshot-validation-secret" if self.kind == VALIDATION else f"{self.image}-secret"

    @property
    def secret(self) -> str:
        """The name of a new Secret. It differs from upstream's, because a Secret of that name may have the type of before 6.2."""
        return "snapshot-validation-tls" if self.kind == VALIDATION else f"{self.image}-tls"


@dataclass(frozen=True)
class GroupSupport:
    """Support for group snapshots in a release."""

    #: The flag that switches them on.
    flag: str
    #: The API version that the controller uses.
    version: str
    #: True if they are on without the flag.
    on: bool = False


@dataclass(frozen=True)
class Release:
    """One release."""

    version: Version
    #: The key of its set of CRDs in crd_sets.SETS.
    crds: str
    #: The key of its set of group CRDs, "" if it has none.
    group_crds: str
    webhook: ReleaseWebhook | None
    #: The key of the controller's selector.
    label: str
    groups: GroupSupport | None
    #: The oldest supported minor version of Kubernetes.
    kubernetes: tuple[int, int]
    #: The reason why it must not be installed, or "".
    never: str = ""

    def __str__(self) -> str:
        return text(self.version)

    def has(self, kind: str) -> bool:
        return self.webhook is not None and self.webhook.kind == kind


@dataclass(frozen=True)
class _MinorRelease:
    """One row. It stands for the patch releases from 0 to ``last``."""

    minor: str
    last: int
    crds: str
    group_crds: str = ""
    webhook: ReleaseWebhook | None = None
    groups: GroupSupport | None = None
    label: str = LABEL
    kubernetes: tuple[int, int] = (1, 25)
    #: By patch.
    never: Mapping[int, str] = field(default_factory=dict)

    def releases(self) -> list[Release]:
        major, minor = (int(part) for part in self.minor.split("."))
        return [
            Release(
                (major, minor, patch),
                self.crds,
                self.group_crds,
                self.webhook,
                self.label,
                self.groups,
                self.kubernetes,
                self.never.get(patch, ""),
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


# From deploy/kubernetes/webhook-example/{webhook,rbac-snapshot-webhook}.yaml and admission-configuration-template.
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

# From cmd/snapshot-controller/main.go and pkg/features.
GROUP_FLAG, GATES_FLAG, GROUP_GATE = (
    "enable-volume-group-snapshots",
    "feature-gates",
    "CSIVolumeGroupSnapshot",
)
_ALPHA = GroupSupport(GROUP_FLAG, "v1alpha1")

_ROWS = (
    _MinorRelease("4.2", 1, "4.1", webhook=_VALIDATION_4, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease("5.0", 1, "4.1", webhook=_VALIDATION_4, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease(
        "6.0", 1, "6.0.1", webhook=_VALIDATION_6_0, label=OLD_LABEL, kubernetes=(1, 20),
        never={0: "its CustomResourceDefinitions drop v1beta1, and a cluster that ever stored v1beta1 refuses them (#718, #719)"},
    ),
    _MinorRelease("6.1", 0, "6.0.1", webhook=_VALIDATION_6_1, label=OLD_LABEL, kubernetes=(1, 20)),
    _MinorRelease(
        "6.2", 3, "6.0.1", webhook=_VALIDATION_6_1, label=OLD_LABEL, kubernetes=(1, 20),
        never={0: "the image of its webhook was never published (#803)"},
    ),
    _MinorRelease(
        "6.3", 4, "6.3", group_crds="6.3", webhook=_VALIDATION_6_3, label=OLD_LABEL,
        kubernetes=(1, 20),
        never={0: "its webhook waits for VolumeGroupSnapshotClasses and never opens its port without them (#921, #939)"},
    ),
    _MinorRelease(
        "7.0", 2, "7.0", group_crds="7.0", webhook=_VALIDATION_7, groups=_ALPHA,
        kubernetes=(1, 20),
        never={0: "its webhook crashes at a snapshot content without sourceVolumeMode (#1005)"},
    ),
    _MinorRelease(
        "8.0", 2, "8.0", group_crds="8.0", webhook=_VALIDATION_8, groups=_ALPHA,
    ),
    _MinorRelease(
        "8.1", 1, "8.0", group_crds="8.0", webhook=_VALIDATION_8, groups=_ALPHA,
    ),
    _MinorRelease("8.2", 1, "8.0", group_crds="8.2", groups=GroupSupport(GATES_FLAG, "v1beta1")),
    _MinorRelease("8.3", 0, "8.0", group_crds="8.2", groups=GroupSupport(GATES_FLAG, "v1beta1")),
    _MinorRelease(
        "8.4", 0, "8.0", group_crds="8.4", webhook=_CONVERSION,
        groups=GroupSupport(GATES_FLAG, "v1beta2"),
    ),
    _MinorRelease(
        "8.5", 0, "8.0", group_crds="8.4", webhook=_CONVERSION,
        groups=GroupSupport(GATES_FLAG, "v1beta2"),
    ),
    # Upstream still ships the manifest of the conversion webhook, but these CRDs do not name it.
    _MinorRelease("8.6", 0, "8.0", group_crds="8.6", groups=GroupSupport(GATES_FLAG, "v1")),
    _MinorRelease("8.7", 0, "8.0", group_crds="8.6", groups=GroupSupport(GATES_FLAG, "v1", on=True)),
)  # fmt: skip
RELEASES: tuple[Release, ...] = tuple(release for row in _ROWS for release in row.releases())
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]
# Upstream's names of ValidatingWebhookConfigurations in all releases.
CONFIGURATION_NAMES = frozenset(f"validation-webhook.{group}" for group in (SNAPSHOT, GROUP))


def is_at_least(version: tuple[int, ...] | None, since: tuple[int, ...]) -> bool:
    """Return True if a version of a program or of Kubernetes is ``since`` or newer. None is older than every version."""
    return (version or NO_VERSION) >= since


def find(version: Version | None) -> Release | None:
    """Return the release, None if it is not in the table."""
    return next((release for release in RELEASES if release.version == version), None)


def judged_by_webhook(version: Version | None) -> tuple[str, ...]:
    """Return the resources that the validation webhook of the release accepts. For an unknown release omit the contents."""
    release = find(version)
    rules = release.webhook.configurations if release and release.webhook else ()
    return rules[0].resources if rules else (_ALL[0], _ALL[2])


# The release whose webhook converts between v1beta1 and v1beta2. Only 8.4.0 and 8.5.0 have an image of it (#1358).
CONVERTS = "8.4.0"
# The release whose group CRDs have v1beta1 and no conversion, which makes them the bridge from v1alpha1 (#1307).
BRIDGE = "8.2.0"


# The first release with other lists of handles than v1alpha1 and v1beta1 of group snapshots.
OLD_LISTS = ("v1alpha1", "v1beta1")
NEW_LISTS_SINCE: Version = next(
    release.version for release in RELEASES if release.groups and release.groups.version not in OLD_LISTS
)
# The first release with prevent-volume-mode-conversion (#916).
VOLUME_MODE_SINCE: Version = (7, 0, 0)

_EXACT = re.compile(r"v?\d+\.\d+\.\d+$")
_NUMBER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+.].*)?$")


def parse(words: str) -> Version | None:
    """Return the version in a text such as "8.2.0", "v8.2.0" or "v8.2.0-eks-1-33-1", None if the text is not a version."""
    match = _NUMBER.match(words.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def text(version: Version) -> str:
    return ".".join(map(str, version))


def get(words: str) -> Release:
    """Return a release that is known to be in the table."""
    release = find(parse(words))
    if release is None:
        raise KeyError(words)
    return release


def known_webhook(kind: str) -> ReleaseWebhook:
    """Return the names of this kind of webhook, which are the same at every release that has it."""
    return next(release.webhook for release in RELEASES if release.webhook and release.webhook.kind == kind)


def usable_after(release: Release) -> Release:
    """Return the next newer release that may be installed."""
    return next(row for row in RELEASES if not is_at_least(release.version, row.version) and not row.never)


_USABLE = [row for row in RELEASES if not row.never]


def target(words: str) -> Release:
    """Return the requested release. Raises ReleaseError if it does not exist or must not be installed."""
    release = find(parse(words)) if _EXACT.match(words) else None
    if release is None:
        raise ReleaseError(
            f"this collection does not know the release {words} of external-snapshotter",
            remedy=f"Set one of these releases: {', '.join(map(str, _USABLE))}",
        )
    if release.never:
        raise ReleaseError(
            f"external-snapshotter {release} must not be installed: {release.never}",
            remedy=f"Use {usable_after(release)} or newer",
        )
    return release
