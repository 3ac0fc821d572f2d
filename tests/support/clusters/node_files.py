# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files of a node: containerd, its network plugins, and kubelet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.clusters import debian, image
from tests.support.clusters.components import POD_CIDR
from tests.support.clusters.pki import CLIENT_BUNDLE

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path) -> None:
    """Write all files into the directory of a cluster.

    The file `cgroup` has the name of its control group.
    """
    plugins = debian.unpacked() / "usr/lib/cni"
    (directory / "cgroup").write_text(f"certflow-{directory.parent.name}-{directory.name}")
    (directory / "cni").mkdir()
    (directory / "cni" / "pods.conflist").write_text(json.dumps(_NETWORK))
    (directory / "containerd.toml").write_text(
        _CONTAINERD.format(pause=image.PAUSE, plugins=plugins, networks=directory / "cni")
    )
    (directory / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(directory / "pki")))


_NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isDefaultGateway": True,
            "hairpinMode": True,  # a pod may reach itself through its Service
            "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_CIDR}]]},
        }
    ],
}

# The native snapshotter works on every filesystem, overlay does not. Root may lack CAP_SYS_RESOURCE. Then
# runc fails with `can't get final child's PID from pipe` unless oom scores are restricted. The plugin opt
# would create /opt/containerd. An AppArmor profile would be loaded into the machine's kernel.
_CONTAINERD = """\
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"""


def _kubelet(pki: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": f"{pki}/{CLIENT_BUNDLE}"}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        # the kubelet creates this directory, by default in /usr
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",  # the node has no name server
        # Both versions of control groups work, in any state of the machine.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        # The node does not protect the disk and memory of the machine.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
        "imageGCHighThresholdPercent": 100,
    }  # fmt: skip
