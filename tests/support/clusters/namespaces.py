# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces of a node, and programs inside them. It runs as a process of its own.

A node has its own network, mounts, processes and control groups. Its first process holds them. When that
process is killed, the kernel ends every process inside, including containers, and removes the mounts and the
network. So killing one process removes a node.

HIDDEN names the fixed directories to which a node's programs write. Their files are in the cluster's
directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.support.clusters import cgroups
from tests.support.clusters.components import NODE_IP
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# sched.h
_NEW_MOUNTS, _NEW_CGROUPS, _NEW_PROCESSES, _NEW_NETWORK = 0x00020000, 0x02000000, 0x20000000, 0x40000000
_INIT = "init"  # the control group of all processes outside containers
# All other entries of these directories stay visible, because a home directory or a checkout may be there.
HIDDEN = {
    "/run": ("containerd", "netns"),
    "/var/lib": ("cni", "containerd", "kubelet"),
    "/var/log": ("containers", "pods"),
}
# Kernel settings of the whole machine. A kubelet writes them unless it finds these values, so it is shown
# these values.
SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
# Both ends of the veth pair are inside. Packets of the node never leave the machine or reach its network.
NETWORK = (
    "link set lo up",
    "link add node0 type veth peer name node1",
    "link set node0 up",
    "link set node1 up",
    f"address add {NODE_IP}/24 dev node0",
    "route add default dev node0",
)


def hold(directory: Path) -> None:
    """Become the first process of new namespaces.

    Write `namespace.ready` in `directory` when they are complete.
    """
    _call("unshare", _NEW_PROCESSES)
    _supervise(directory / "namespace.process", lambda: _first_process(directory))


def enter(holder: Process, record: Path, command: list[str]) -> None:
    """Run a program inside. `record` gets its identity as seen from outside."""
    handle = os.pidfd_open(holder.pid)
    if not holder.alive:
        raise ClusterError("the node's namespaces are gone")
    _call("setns", handle, _NEW_PROCESSES)

    def program() -> NoReturn:
        _call("setns", handle, _NEW_MOUNTS | _NEW_NETWORK | _NEW_CGROUPS)
        cgroups.join(_INIT)
        os.execvp(command[0], command)

    _supervise(record, program)


def enter_network(holder: Process) -> None:
    """Enter the node's network.

    New sockets are inside, existing ones stay outside. Call it with one thread only.
    """
    handle = os.pidfd_open(holder.pid)
    if not holder.alive:
        raise ClusterError("the node's namespaces are gone")
    _call("setns", handle, _NEW_NETWORK)
    os.close(handle)


@contextlib.contextmanager
def own_network(*addresses: str) -> Iterator[None]:
    """Give the calling thread a network with loopback and these addresses. Threads and processes that it starts share it.

    The network ends with its last process.
    """
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("unshare", _NEW_NETWORK)
        try:
            _run("ip", "link", "set", "lo", "up")
            for address in addresses:
                _run("ip", "address", "add", address, "dev", "lo")
            yield
        finally:
            _call("setns", outside, _NEW_NETWORK)
    finally:
        os.close(outside)


def _supervise(record: Path, child: Callable[[], object]) -> NoReturn:
    """Run `child` in another process after its identity is recorded. End with its exit status."""
    waits, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        if os.read(waits, 1):  # the other process has ended
            child()
        os._exit(1)
    draft = record.with_suffix(".new")
    draft.write_text(Path(f"/proc/{pid}/stat").read_text())
    draft.rename(record)  # fails if the directory was renamed for its removal
    os.write(release, b"x")
    _pid, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) % 256)


def _first_process(directory: Path) -> None:
    group = (directory / "cgroup").read_text()
    cgroups.make(group)
    cgroups.join(group)
    _call("unshare", _NEW_MOUNTS | _NEW_NETWORK | _NEW_CGROUPS)
    _run("mount", "--make-rprivate", "/")  # mounts below are invisible outside
    _run("mount", "-t", "proc", "proc", "/proc")
    for hierarchy in cgroups.hierarchies():  # its own group is the root of what it sees
        _run("umount", "--lazy", hierarchy.path)  # the kernel refuses a second mount over it
        _run("mount", "-t", hierarchy.type, "-o", hierarchy.options, "cgroup", hierarchy.path)
    cgroups.make(_INIT)  # a group with groups below it may hold no process
    cgroups.join(_INIT)
    for base, names in HIDDEN.items():
        _hide(Path(base), names, directory / "hidden" / base.replace("/", "_"))
    for setting, value in SETTINGS.items():
        if not Path("/proc/sys", setting).exists():
            continue
        shown = directory / "hidden" / setting.replace("/", "_")
        shown.write_text(f"{value}\n")
        _run("mount", "--bind", shown, f"/proc/sys/{setting}")
    for words in NETWORK:
        _run("ip", *words.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    (directory / "namespace.ready").touch()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap orphans, which become children of the first process
    while True:
        signal.pause()


def _hide(base: Path, names: tuple[str, ...], own: Path) -> None:
    """Mount a directory over `base` that shows all entries except `names`. Those are new and empty."""
    own.mkdir(parents=True)
    for name in names:
        (own / name).mkdir()
    for entry in base.iterdir():
        place = own / entry.name
        if entry.name in names:
            continue
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
            continue
        place.mkdir() if entry.is_dir() else place.touch()
        _run("mount", "--rbind", entry, place)
    _run("mount", "--rbind", own, base)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _call(function: str, *arguments: int) -> None:
    """Call unshare(2) or setns(2), which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Run `hold DIRECTORY` or `enter PID START RECORD PROGRAM ...`."""
    if sys.argv[1] == "hold":
        hold(Path(sys.argv[2]))
    enter(Process(int(sys.argv[2]), int(sys.argv[3])), Path(sys.argv[4]), sys.argv[5:])


if __name__ == "__main__":
    main()
