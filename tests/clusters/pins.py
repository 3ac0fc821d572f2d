# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every version that the test clusters are built from, in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """One Go module: path, version, and the checksum of its content as in go.sum."""

    module: str
    version: str
    checksum: str
    source: str


KUBERNETES = Pin(
    "k8s.io/kubernetes",
    "v1.36.3",
    "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=",
    "the control plane and kubectl",
)
ETCD = Pin(
    "go.etcd.io/etcd/server/v3",
    "v3.6.8",
    "h1:U2strdSEy1U8qcSzRIdkYpvOPtBy/9i/IfaaCI9flZ4=",
    "what k8s.io/kubernetes v1.36.3 requires in its go.mod",
)
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
    "cainjector, another writer of caBundles, and the CustomResourceDefinitions that it reads",
)

# program name -> (the module it comes from, its package)
PROGRAMS: dict[str, tuple[Pin, str]] = {
    "etcd": (ETCD, "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kubectl": (KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
}
NODE_PROGRAMS: dict[str, tuple[Pin, str]] = {
    name: (KUBERNETES, f"k8s.io/kubernetes/cmd/{name}")
    for name in ("kubelet", "kube-proxy", "kube-scheduler")
}


@dataclass(frozen=True)
class ProgramSet:
    """Programs that are built and cached together.

    cpu_seconds and packages are of one build, measured, for estimates. own: the directory, beside this file, of a main
    package of our own that is built from a module's packages.
    """

    title: str
    programs: dict[str, tuple[Pin, str]]
    cpu_seconds: int
    packages: int
    own: str = ""


CONTROL_PLANE = ProgramSet(f"kubernetes-{KUBERNETES.version}-etcd-{ETCD.version}", PROGRAMS, 600, 2715)
# After the control plane, whose packages Go has compiled by then.
NODE = ProgramSet(f"node-{KUBERNETES.version}", NODE_PROGRAMS, 60, 132)
# cert-manager's commands are modules of their own, which are not published; the packages that they start are. Measured
# after the control plane.
CAINJECTOR = ProgramSet(
    f"cert-manager-{CERT_MANAGER.version}",
    {"cainjector": (CERT_MANAGER, "certflow.invalid/clusters")},
    140,
    565,
    own="cainjector",
)

# What else a node runs, and the libraries of it that a small system lacks. Their versions are those of the
# distribution's current release: it serves no older ones.
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
