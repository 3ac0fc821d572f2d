# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs and files of a cluster with a node, and the check if it can run here. See docs/clusters.md."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.clusters import cgroups, components, debian, image, pki, processes
from tests.support.clusters.build import Report, existing_node_programs, node_programs, say, why_no_build
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.processes import Process, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.clusters.components import Ports
    from tests.support.clusters.profiles import Profile

# The programs of a node.
COMPONENTS = ("namespace", "relay", "containerd", "kube-scheduler", "kubelet", "kube-proxy")
# Programs that use the mounts and processes of pods. The others share only the network.
_AMONG_PODS = ("containerd", "kubelet")
_TOOLS = ("ip", "mount", "nsenter", "unshare")
# Creates namespaces of each kind with a veth pair, and leaves nothing.
_PROBE = "unshare --mount --net --pid --fork --cgroup ip link add name a type veth peer name b"
# A kubelet, its containerd and each container watch files. Linux gives all processes of a user 128 instances of inotify, and
# with five nodes the next kubelet ends with "too many open files".
_WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
_MOST_WATCHERS = 1024
# Programs inside reach no proxy. Their requests go to pods or to a kubelet.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def why_no_node() -> str:
    """Return the reason why no node can run here, "" if one can. The first call may download packages."""
    try:
        _check()
        debian.unpacked()
    except ClusterError as error:
        return str(error)
    return ""


def prepare(report: Report = say, *, release: str = "") -> None:
    """Build and download all programs of a node of a release. Raises ClusterError if no node can run."""
    _check()
    debian.unpacked(report)
    node_programs(report, release=release)
    image.program("pause")


def _check() -> None:
    """Raise ClusterError if no node can run, or if its programs cannot be built."""
    _check_machine()
    if reason := why_no_build():
        raise ClusterError(f"the images of its pods are built here, and there is {reason}")
    existing_node_programs()


def _check_machine() -> None:
    """Raise ClusterError if the user, the machine or the kernel cannot run a node."""
    if os.geteuid() != 0:
        raise ClusterError("a cluster with a node needs root")
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        raise ClusterError(f"a cluster with a node needs the program {missing[0]}")
    hierarchies = cgroups.hierarchies()
    if not hierarchies or not all(os.access(hierarchy.path, os.W_OK) for hierarchy in hierarchies):
        raise ClusterError("a cluster with a node needs control groups, mounted and writable")
    probe = subprocess.run(_PROBE.split(), capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        raise ClusterError(f"a cluster with a node needs namespaces: {probe.stderr.strip()}")


def allow_watchers(setting: Path = _WATCHERS) -> None:
    """Raise the machine's limit of inotify instances for several nodes. It is not lowered. Raises OSError."""
    if int(setting.read_text()) < _MOST_WATCHERS:
        setting.write_text(f"{_MOST_WATCHERS}\n")


def pairs(ca: pki.KeyPair, name: str) -> dict[str, pki.KeyPair]:
    """Return the certificates of a node. The kubelet uses the same one as client and server."""
    return {
        "kubelet": pki.issue(ca, f"system:node:{name}", ("system:nodes",), names=(name, components.NODE_IP)),
        "apiserver-kubelet-client": pki.issue(ca, "kube-apiserver-kubelet-client", ("system:masters",)),
        "scheduler": pki.issue(ca, "system:kube-scheduler"),
        "kube-proxy": pki.issue(ca, "system:kube-proxy"),
    }


def command(
    component: str, directory: Path, ports: Ports, profile: Profile
) -> tuple[list[str], dict[str, str] | None]:
    """Return command and environment of one of COMPONENTS. Raises ClusterError without `namespace`."""
    if component == "namespace":
        return processes.python("namespaces", "hold", str(directory))
    if component == "relay":
        return processes.python("relay", *_identity(directory), str(ports.apiserver))
    program = (
        component if component == "containerd" else str(node_programs(release=profile.release) / component)
    )
    arguments = getattr(components, component.replace("-", "_"))(directory, profile)
    if component not in _AMONG_PODS:
        return in_network(directory, [program, *arguments]), environment()
    where = ["enter", *_identity(directory), str(directory / f"{component}.process")]
    enter, imports = processes.python("namespaces", *where, program, *arguments)
    return enter, environment(imports)


def in_network(directory: Path, command: list[str]) -> list[str]:
    """Return a command that runs in the cluster's network, with the machine's mounts and processes."""
    return ["nsenter", f"--net=/proc/{_holder(directory).pid}/ns/net", *command]


def run_inside(
    directory: Path, command: Sequence[str], stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the node's namespaces and wait for it. Raises ClusterError without `namespace`."""
    enter = ["nsenter", f"--target={_holder(directory).pid}", "--net", "--mount", "--pid", "--cgroup"]
    return subprocess.run(
        [*enter, *command], input=stdin, env=environment(), capture_output=True, check=False
    )


def environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `base` for programs on a node, with the programs of the Debian packages and without proxies."""
    found = debian.environment(debian.unpacked(), base)
    return {name: value for name, value in found.items() if name.lower() not in _PROXIES}


def _holder(directory: Path) -> Process:
    process = recorded(directory / "namespace.process")
    if process is None or not process.alive:
        raise ClusterError(f"cluster {directory.name} has no node that runs")
    return process


def _identity(directory: Path) -> tuple[str, str]:
    process = _holder(directory)
    return str(process.pid), str(process.started)
