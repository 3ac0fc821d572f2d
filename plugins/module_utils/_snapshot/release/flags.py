# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Table of the programs' flags by release. A program exits with status 2 at a flag that it does not know. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..kinds import CONTROLLER, CONVERSION, SIDECAR, VALIDATION
from .release_table import GATES_FLAG, GROUP_FLAG, GROUP_GATE, Release, Version, is_at_least

_EVER: Version = (0, 0, 0)
_NOT_YET: Version = (99, 0, 0)


@dataclass(frozen=True)
class Flag:
    """One row: flags that a program knows in the same releases."""

    program: str
    #: The names, separated by spaces.
    names: str
    #: The first release that knows them.
    since: Version = _EVER
    #: The first release that no longer knows them.
    until: Version = _NOT_YET
    #: The argument that replaces them, or "".
    instead: str = ""


_KLOG = (
    "logtostderr alsologtostderr stderrthreshold log_dir log_file log_file_max_size log_backtrace_at add_dir_header "
    "skip_headers skip_log_headers one_output"
)
_LEADER = (
    "leader-election leader-election-namespace leader-election-lease-duration leader-election-renew-deadline "
    "leader-election-retry-period"
)
_SINCE_83 = (
    "logging-format automaxprocs log-flush-frequency log-json-split-stream log-json-info-buffer-size "
    "log-text-split-stream log-text-info-buffer-size"
)
# From cmd/PROGRAM/main.go at each tag. klog's flags were removed by #1256.
FLAGS: tuple[Flag, ...] = (
    Flag(
        CONTROLLER,
        "kubeconfig resync-period version worker-threads http-endpoint metrics-path retry-interval-start "
        f"retry-interval-max v vmodule {_LEADER}",
    ),
    Flag(CONTROLLER, "kube-api-qps kube-api-burst enable-distributed-snapshotting", since=(5, 0, 0)),
    Flag(CONTROLLER, "prevent-volume-mode-conversion", since=(6, 0, 0)),
    Flag(CONTROLLER, "retry-crd-interval-max", since=(6, 2, 0)),
    Flag(CONTROLLER, GROUP_FLAG, (7, 0, 0), (8, 2, 0), f"--{GATES_FLAG}={GROUP_GATE}=true"),
    Flag(CONTROLLER, GATES_FLAG, since=(8, 2, 0)),
    Flag(CONTROLLER, _SINCE_83, since=(8, 3, 0)),
    Flag(CONTROLLER, _KLOG, until=(8, 3, 0), instead="--logging-format"),
    Flag(VALIDATION, f"tls-cert-file tls-private-key-file port v vmodule {_KLOG}"),
    Flag(VALIDATION, "kubeconfig prevent-volume-mode-conversion", since=(6, 0, 0)),
    Flag(VALIDATION, "enable-volume-group-snapshot-webhook", since=(6, 3, 1)),
    Flag(CONVERSION, f"tls-cert-file tls-private-key-file port v vmodule {_SINCE_83}"),
    # Only the flags that csi-snapshotter lost. The upgrade does not set its other flags.
    Flag(SIDECAR, GROUP_FLAG, (6, 3, 0), (8, 2, 0), f"--{GATES_FLAG}={GROUP_GATE}=true"),
    Flag(SIDECAR, _KLOG, until=(8, 3, 0), instead="--logging-format"),
)


def name(argument: str) -> str:
    """Return the flag of an argument, such as port of --port=443, "" for a value.

    The programs' libraries accept one dash or two, and a value after "=" or in the next argument.
    """
    return argument.lstrip("-").partition("=")[0] if argument.startswith("-") else ""


def joined(arguments: Iterable[str]) -> list[str]:
    """Return the arguments, each value in the argument of its flag."""
    found: list[str] = []
    for argument in arguments:
        is_value = found and not name(argument) and name(found[-1]) and "=" not in found[-1]
        found.append(f"{found.pop()}={argument}" if is_value else argument)
    return found


def value(arguments: Iterable[str], flag: str) -> str | None:
    """Return the last value of a flag, "true" for a flag without a value, None if it is not given."""
    given = [argument.partition("=") for argument in joined(arguments) if name(argument) == flag]
    if not given:
        return None
    _flag, separator, value = given[-1]
    return value if separator else "true"


def unknown(program: str, arguments: Iterable[str], release: Release) -> list[str]:
    """Return the arguments that the release's program does not know."""
    known = {
        word
        for flag in FLAGS
        if flag.program == program
        and is_at_least(release.version, flag.since)
        and not is_at_least(release.version, flag.until)
        for word in flag.names.split()
    }
    return [argument for argument in arguments if name(argument) and name(argument) not in known]


def lost(program: str, arguments: Iterable[str]) -> list[tuple[str, Flag]]:
    """Return the arguments that a newer release no longer knows, each with its row."""
    ended = {
        word: flag
        for flag in FLAGS
        if flag.program == program and flag.until != _NOT_YET
        for word in flag.names.split()
    }
    return [(argument, ended[name(argument)]) for argument in arguments if name(argument) in ended]


def gates(arguments: Iterable[str]) -> dict[str, bool]:
    """Return the feature gates that the arguments set."""
    words = [
        part
        for argument in joined(arguments)
        if name(argument) == GATES_FLAG
        for part in argument.partition("=")[2].split(",")
    ]
    pairs = (word.strip().partition("=") for word in words)
    return {key: given.lower() != "false" for key, _equals, given in pairs if key}


def groups_on(arguments: Sequence[str], release: Release | None) -> bool:
    """Return True if a program with these arguments processes group snapshots. release: its release, None if it is unknown."""
    flag = value(arguments, GROUP_FLAG)
    default = bool(release and release.groups and release.groups.on)
    return gates(arguments).get(GROUP_GATE, flag.lower() != "false" if flag is not None else default)


def for_groups(wanted: bool, release: Release) -> list[str]:
    """Return the argument that switches group snapshots on or off, [] if the release has none or its default fits."""
    if release.groups is None or not (wanted or release.groups.on):
        return []
    if release.groups.flag == GROUP_FLAG:
        return [f"--{GROUP_FLAG}=true"]
    return [f"--{GATES_FLAG}={GROUP_GATE}={str(wanted).lower()}"]


def merged(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the arguments of the plan and of the user as one list, with all feature gates in one argument.

    The plan's value of a gate takes precedence.
    """
    all_gates = {**gates(given), **gates(own)}
    rest = [argument for argument in (*own, *joined(given)) if name(argument) != GATES_FLAG]
    return [*rest, gates_argument(all_gates)] if all_gates else rest


def gates_argument(all_gates: Mapping[str, bool]) -> str:
    """Return the argument that sets feature gates."""
    return f"--{GATES_FLAG}={','.join(f'{key}={str(on).lower()}' for key, on in all_gates.items())}"
