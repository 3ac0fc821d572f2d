# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every version that the test clusters are built from, in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """A Go module: path, version, the checksum of its content as in go.sum, and its use."""

    module: str
    version: str
    checksum: str
    source: str


@dataclass(frozen=True)
class KubernetesRelease:
    """A release of Kubernetes, and the etcd that its go.mod requires."""

    kubernetes: Pin
    etcd: Pin
    #: Flags of kube-apiserver that serve ClusterTrustBundles. Empty if it serves them by default.
    trust_bundles: tuple[str, ...] = ()


_TRUST_BUNDLES_V1BETA1 = (
    "--runtime-config=certificates.k8s.io/v1beta1=true",
    "--feature-gates=ClusterTrustBundle=true",
)


def _release(
    version: str,
    checksum: str,
    etcd: str,
    etcd_checksum: str,
    *,
    trust_bundles: tuple[str, ...] = (),
) -> KubernetesRelease:
    """Return a release of its version and that of etcd, each with its checksum."""
    source = f"what k8s.io/kubernetes {version} requires in its go.mod"
    return KubernetesRelease(
        Pin("k8s.io/kubernetes", version, checksum, "the control plane, the node and kubectl"),
        Pin("go.etcd.io/etcd/server/v3", etcd, etcd_checksum, source),
        trust_bundles,
    )


# The newest one is last. It is the release of every cluster whose profile names none.
_RELEASES = (
    _release(
        "v1.34.4",
        "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk=",
        "v3.6.4",
        "h1:LsCA7CzjVt+8WGrdsnh6RhC0XqCsLkBly3ve5rTxMAU=",
        trust_bundles=_TRUST_BUNDLES_V1BETA1,
    ),
    _release(
        "v1.36.3",
        "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=",
        "v3.6.8",
        "h1:U2strdSEy1U8qcSzRIdkYpvOPtBy/9i/IfaaCI9flZ4=",
        trust_bundles=_TRUST_BUNDLES_V1BETA1,
    ),
    _release("v1.37.2", "h1:A2VDEiObzkYqFTKhSsn0ZEb0RlLEXpHWj93gi2HqEwE=", "v3.7.0", "h1:ScdUdN8ljuimp0lZaNq0otLMrHcFSFT+dQyT1j7JSFo="),
)  # fmt: skip
# Minor version, such as 1.37 -> its release
KUBERNETES_RELEASES = {
    release.kubernetes.version.lstrip("v").rpartition(".")[0]: release for release in _RELEASES
}
*OLDER_RELEASES, NEWEST_RELEASE = KUBERNETES_RELEASES
SNAPSHOTTER = Pin(
    "github.com/kubernetes-csi/external-snapshotter/v7",
    "v7.0.2",
    "h1:3uoCPWcv6OcDx6ZZQaiX6l1MqtZdZmtIP/aqgg50MZM=",
    "create-cert.sh and patch-ca-bundle.sh, the scripts that this collection replaces",
)
CERT_MANAGER = Pin(
    "github.com/cert-manager/cert-manager",
    "v1.21.2",
    "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
    "cainjector, another writer of caBundles, the issuing controller, the webhook, and their CustomResourceDefinitions",
)


def _version_flag(release: KubernetesRelease) -> str:
    return f"k8s.io/component-base/version.gitVersion={release.kubernetes.version}"


def _commands(release: KubernetesRelease, names: tuple[str, ...]) -> dict[str, tuple[Pin, str]]:
    pin = release.kubernetes
    return {name: (pin, f"{pin.module}/cmd/{name}") for name in names}


@dataclass(frozen=True)
class ProgramSet:
    """Programs that are built and cached together."""

    title: str
    #: Program name -> its module and its package.
    programs: dict[str, tuple[Pin, str]]
    #: Measured CPU seconds of one build, for estimates.
    cpu_seconds: int
    #: Measured number of packages of one build, for estimates.
    packages: int
    #: Directory beside this file with a main package that is built from the module's packages.
    own: str = ""
    #: The variable that makes the programs report their version.
    version: str = _version_flag(KUBERNETES_RELEASES[NEWEST_RELEASE])
    #: The release, if the programs are those of Kubernetes.
    release: KubernetesRelease | None = None
    #: A module that the programs' module replaces by a directory of its repository.
    sibling: Pin | None = None
    #: True if the own main package is built inside a copy of the module, because it imports internal packages.
    is_inside: bool = False


def control_plane(release: KubernetesRelease) -> ProgramSet:
    """Return the programs of a control plane, and kubectl."""
    names = ("kube-apiserver", "kube-controller-manager", "kubectl")
    programs = {"etcd": (release.etcd, release.etcd.module), **_commands(release, names)}
    title = f"kubernetes-{release.kubernetes.version}-etcd-{release.etcd.version}"
    return ProgramSet(title, programs, 600, 2715, version=_version_flag(release), release=release)


def node(release: KubernetesRelease) -> ProgramSet:
    """Return the programs of a node."""
    programs = _commands(release, ("kubelet", "kube-proxy", "kube-scheduler"))
    # Measured after the control plane, whose packages Go has compiled by then.
    title = f"node-{release.kubernetes.version}"
    return ProgramSet(title, programs, 60, 132, version=_version_flag(release), release=release)


def kubeadm(release: KubernetesRelease) -> ProgramSet:
    """Return kubeadm, which renews the certificates of a control plane."""
    # Measured after the control plane.
    title = f"kubeadm-{release.kubernetes.version}"
    return ProgramSet(
        title, _commands(release, ("kubeadm",)), 60, 150, version=_version_flag(release), release=release
    )


# cert-manager's commands are modules that are not published. Their packages are. Measured after the control
# plane.
CAINJECTOR = ProgramSet(
    f"cert-manager-{CERT_MANAGER.version}",
    {"cainjector": (CERT_MANAGER, "certflow.invalid/clusters")},
    140,
    565,
    own="cainjector",
)
# Measured after cainjector.
CERT_MANAGER_CONTROLLER = ProgramSet(
    f"cert-manager-controller-{CERT_MANAGER.version}",
    {"cert-manager-controller": (CERT_MANAGER, "certflow.invalid/clusters")},
    140,
    300,
    own="cert_manager",
)
# Measured after cainjector.
CERT_MANAGER_WEBHOOK = ProgramSet(
    f"cert-manager-webhook-{CERT_MANAGER.version}",
    {"cert-manager-webhook": (CERT_MANAGER, "./certflow")},
    100,
    200,
    own="cert_manager_webhook",
    is_inside=True,
)


# Installs the snapshot controller as a Helm release.
HELM = Pin(
    "helm.sh/helm/v3",
    "v3.22.0",
    "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=",
    "marks of Helm on what it installs",
)
HELM_PROGRAM = ProgramSet(f"helm-{HELM.version}", {"helm": (HELM, "helm.sh/helm/v3/cmd/helm")}, 150, 900)

# Checks the alert rules and the metrics of a report.
PROMETHEUS = Pin(
    "github.com/prometheus/prometheus",
    "v0.316.0",
    "h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=",
    "promtool, which judges alert rules and metrics",
)
PROMTOOL_PROGRAM = ProgramSet(
    f"promtool-{PROMETHEUS.version}",
    {"promtool": (PROMETHEUS, "github.com/prometheus/prometheus/cmd/promtool")},
    300,
    900,
    version=f"github.com/prometheus/common/version.Version={PROMETHEUS.version}",
)


def _snapshot_programs(
    release: str, checksum: str, client: tuple[str, str], cpu_seconds: int, packages: int
) -> ProgramSet:
    """Return the programs of a release of the snapshot controller. client: the API module with its checksum."""
    major = release.partition(".")[0]
    module, minor = (
        f"github.com/kubernetes-csi/external-snapshotter/v{major}",
        float(release.rpartition(".")[0]),
    )
    pin = Pin(module, f"v{release}", checksum, "the programs that the role snapshot_controller installs")
    webhook = (
        "snapshot-validation-webhook"
        if minor < 8.2
        else "snapshot-conversion-webhook"
        if minor >= 8.4
        else ""
    )
    names = ("snapshot-controller", *filter(None, [webhook]))
    version, own_checksum = client
    return ProgramSet(
        f"external-snapshotter-v{release}",
        {name: (pin, f"{module}/cmd/{name}") for name in names},
        cpu_seconds,
        packages,
        version=f"main.version=v{release}",
        sibling=Pin(
            f"github.com/kubernetes-csi/external-snapshotter/client/v{major}",
            f"v{version}",
            own_checksum,
            f"the API of {release}, its CustomResourceDefinitions included",
        ),
    )


# Release of external-snapshotter -> its programs. The Go module proxy has no other client modules than these.
SNAPSHOT_PROGRAMS: dict[str, ProgramSet] = {
    "4.2.1": _snapshot_programs("4.2.1", "h1:DnvJBgRLGceADE8xyvjiUbX1GB/oVF+eVSwgXPhnp6o=", ("4.2.0", "h1:nHHjmvjitIiyPlUHk/ofpgvBcNcawJLtf4PYHORLjAA="), 130, 419),
    "6.2.2": _snapshot_programs("6.2.2", "h1:yL6UagRINyje0QJTzYEqFFOKAVlZOIeYBoa6E+ZkEQg=", ("6.2.0", "h1:cMM5AB37e9aRGjErygVT6EuBPB6s5a+l95OPERmSlVM="), 160, 472),
    "7.0.2": _snapshot_programs("7.0.2", "h1:3uoCPWcv6OcDx6ZZQaiX6l1MqtZdZmtIP/aqgg50MZM=", ("7.0.0", "h1:j3YK74myEQRxR/srciTpOrm221SAvz6J5OVWbyfeXFo="), 170, 480),
    "8.1.0": _snapshot_programs("8.1.0", "h1:4kXR1zscbFJ/wIVt2+0hqhY0nBfvqbHTJn8Jt2icwnU=", ("8.0.0", "h1:mjQG0Vakr2h246kEDR85U8y8ZhPgT3bguTCajRa/jaw="), 200, 700),
    "8.2.0": _snapshot_programs("8.2.0", "h1:tkAUjVI0K0s3wp+KjIHR284nkKNIv17KHOYeEy1fd3A=", ("8.2.0", "h1:Q3jQ1NkFqv5o+F8dMmHd8SfEmlcwNeo1immFApntEwE="), 170, 480),
    "8.3.0": _snapshot_programs("8.3.0", "h1:qkUw53bWEuHY0iVaF4V+oIS3r2vm8Sz1/xzf+D+yi80=", ("8.2.0", "h1:Q3jQ1NkFqv5o+F8dMmHd8SfEmlcwNeo1immFApntEwE="), 170, 480),
    "8.4.0": _snapshot_programs("8.4.0", "h1:xR3Yy6zs8Rfek7pHXDjIYiqUITsWWo1/o1NT9bF225I=", ("8.4.0", "h1:bMqrb3UHgHbP+PW9VwiejfDJU1R0PpXVZNMdeH8WYKI="), 200, 700),
    "8.6.0": _snapshot_programs("8.6.0", "h1:PY0WimDZEra5nlQfg9XliMh0kXoZAaE92z4WSrTutdQ=", ("8.6.0", "h1:FtGewu2k6HWw6evLGXY8JqUZ9eHpti1kd3e4amj+ilA="), 200, 700),
    "8.7.0": _snapshot_programs("8.7.0", "h1:sYxyBXffG+pc2QfvFkP6uJqtYVFVRvkrxAHi8WjD5fU=", ("8.7.0", "h1:HVaSUeRRHPu49aSiL8eXOjS9Re9G6pM0NzdTGI7mM14="), 200, 700),
}  # fmt: skip

# Other programs of a node, and their libraries that a small system lacks. The distribution decides their
# versions.
DEBIAN_PACKAGES = (
    "containerd",
    "runc",
    "libseccomp2",
    "containernetworking-plugins",
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libxtables12",
    "libjansson4",
    "libgmp10",
    "libedit2",
    "libtinfo6",
    "libbsd0",
    "libmd0",
)
