# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster with a node needs beside a control plane: its programs, its files, and whether it can run here."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from . import components, debian, image, pki, processes
from .build import Report, node_programs, say
from .components import NODE_IP, POD_CIDR
from .errors import ClusterError
from .processes import Process, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .components import Ports
    from .profiles import Profile

# The programs that a node adds, in the order in which they are started.
COMPONENTS = ("namespace", "relay", "containerd", "kube-scheduler", "kubelet", "kube-proxy")
_TOOLS = ("ip", "mount", "nsenter", "unshare")
# Makes namespaces of each kind and a cable in them, and leaves nothing.
_PROBE = "unshare --mount --net --pid --fork ip link add name a type veth peer name b"
_CGROUPS = Path("/sys/fs/cgroup")


def why_no_node() -> str:
    """Why no node can run here; empty where one can. The first call may download packages."""
    reason = _why_not()
    if not reason:
        try:
            debian.unpacked()
        except ClusterError as error:
            reason = str(error)
    return reason and f"no node can run here: {reason}"


def prepare(report: Report = say) -> None:
    """Build and download all that a node runs. Raises ClusterError where no node can run."""
    reason = _why_not()
    if reason:
        raise ClusterError(f"no node can run here: {reason}")
    debian.unpacked(report)
    node_programs(report)
    image.program("pause")


@functools.cache
def _why_not() -> str:
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        return f"there is no {missing[0]} on PATH"
    if not [*_CGROUPS.glob("cgroup.procs"), *_CGROUPS.glob("*/cgroup.procs")]:
        return f"there are no control groups in {_CGROUPS}"
    probe = subprocess.run(_PROBE.split(), capture_output=True, text=True, check=False)
    return probe.stderr.strip()


def pairs(ca: pki.KeyPair, name: str) -> dict[str, pki.KeyPair]:
    """The certificates that a node adds to a cluster's; the kubelet's is for both of its sides."""
    return {
        "kubelet": pki.issue(ca, f"system:node:{name}", ("system:nodes",), names=(name, NODE_IP)),
        "apiserver-kubelet-client": pki.issue(ca, "kube-apiserver-kubelet-client", ("system:masters",)),
        "scheduler": pki.issue(ca, "system:kube-scheduler"),
        "kube-proxy": pki.issue(ca, "system:kube-proxy"),
    }


def write_files(directory: Path) -> None:
    """The configuration of containerd, of its network plugins and of the kubelet."""
    (directory / "cgroup").write_text(cgroup(directory))
    (directory / "cni").mkdir()
    (directory / "cni" / "pods.conflist").write_text(json.dumps(_NETWORK))
    (directory / "containerd.toml").write_text(
        _CONTAINERD.format(directory=directory, debian=debian.unpacked(), pause=image.PAUSE)
    )
    (directory / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(directory)))


def cgroup(directory: Path) -> str:
    """The control group of all pods of a cluster."""
    return f"certflow-{directory.parent.name}-{directory.name}"


def holder(directory: Path) -> Process:
    """The first process of the cluster's namespaces. Raises ClusterError if there is none."""
    process = recorded(directory / "namespace.process")
    if process is None or not process.alive:
        raise ClusterError(f"the node of cluster {directory.name} does not run")
    return process


def command(
    component: str, directory: Path, ports: Ports, profile: Profile
) -> tuple[list[str], dict[str, str] | None]:
    """How to start one of COMPONENTS."""
    if component == "namespace":
        return processes.python("namespaces", "hold", str(directory))
    if component == "relay":
        return processes.python("relay", *_identity(directory), str(ports.apiserver))
    arguments = getattr(components, component.replace("-", "_"))(directory, profile)
    if component == "kube-scheduler":
        return in_network(directory, [str(node_programs() / component), *arguments]), None
    own = debian.environment(debian.unpacked())
    if component == "kube-proxy":
        return in_network(directory, [str(node_programs() / component), *arguments]), own
    program = component if component == "containerd" else str(node_programs() / component)
    record = str(directory / f"{component}.process")
    inside, python = processes.python(
        "namespaces", "enter", *_identity(directory), record, program, *arguments
    )
    return inside, python | own


def in_network(directory: Path, command: list[str]) -> list[str]:
    """A command that runs in the cluster's network, and otherwise as it would outside."""
    return ["nsenter", f"--net=/proc/{holder(directory).pid}/ns/net", *command]


def run_inside(
    directory: Path, command: Sequence[str], stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command among the node's programs, with their network, mounts and processes, and wait for it."""
    enter = ["nsenter", f"--target={holder(directory).pid}", "--net", "--mount", "--pid", "--cgroup"]
    return subprocess.run(
        [*enter, *command],
        input=stdin,
        env=debian.environment(debian.unpacked()),
        capture_output=True,
        check=False,
    )


def _identity(directory: Path) -> tuple[str, str]:
    process = holder(directory)
    return str(process.pid), str(process.started)


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
# native: works on every filesystem, overlay does not. restrict_oom_score_adj: root may lack CAP_SYS_RESOURCE, and
# runc then dies with `can't get final child's PID from pipe`. opt would create /opt/containerd.
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
    bin_dir = "{debian}/usr/lib/cni"
    conf_dir = "{directory}/cni"
"""


def _kubelet(directory: Path) -> dict[str, Any]:
    pki = directory / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",  # the usual one is outside the hidden places
        "resolvConf": "",  # there is no name server
        # Both versions of control groups will do.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        # The machine's disk and memory are not this node's to guard.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
        "imageGCHighThresholdPercent": 100,
    }
