# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Existing programs of Kubernetes in a folder of the user, instead of programs that are built here.

The variable CERTFLOW_KUBERNETES_BIN names the folder.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.clusters.errors import UsageError

VARIABLE = "CERTFLOW_KUBERNETES_BIN"
Version = tuple[int, int, int]
SECONDS = 30.0


@dataclass(frozen=True)
class Rule:
    """How to ask a program for its version, and which versions fit."""

    arguments: tuple[str, ...]
    #: Returns True for a version that fits to the version of kube-apiserver.
    fits: Callable[[Version, Version], bool]
    #: The versions that fit, as words.
    words: str


def _is_same_minor(own: Version, server: Version) -> bool:
    return own[:2] == server[:2]


_SAME = Rule(("--version",), _is_same_minor, "the minor version of kube-apiserver")
# The server comes first, because the other rules compare with it.
RULES: dict[str, Rule] = {
    "kube-apiserver": Rule(("--version",), lambda own, _server: own >= (1, 30, 0), "1.30 or newer"),
    "kube-controller-manager": _SAME,
    # https://kubernetes.io/releases/version-skew-policy/#kubectl
    "kubectl": Rule(
        ("version", "--client"),
        lambda own, server: own[0] == server[0] and abs(own[1] - server[1]) <= 1,
        "at most one minor version away from kube-apiserver",
    ),
    "etcd": Rule(("--version",), lambda own, _server: own >= (3, 5, 0), "3.5 or newer"),
    "kubelet": _SAME,
    "kube-proxy": _SAME,
    "kube-scheduler": _SAME,
}


def folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder that the variable names, None if it is not set or empty."""
    value = (os.environ if environment is None else environment).get(VARIABLE, "")
    return Path(value).expanduser().absolute() if value else None


def server_version(directory: Path) -> str:
    """Return the version of kube-apiserver in the folder, such as v1.36.3. Raises UsageError."""
    return "v{}.{}.{}".format(*checked(directory, ("kube-apiserver",))["kube-apiserver"])


def checked(directory: Path, names: Sequence[str]) -> Mapping[str, Version]:
    """Return the version of each program. Raises UsageError for a program that is missing or does not fit.

    names: keys of RULES. kube-apiserver is always checked.
    """
    return _checked(directory, tuple(dict.fromkeys(("kube-apiserver", *names))))


@functools.cache
def _checked(directory: Path, names: tuple[str, ...]) -> Mapping[str, Version]:
    if not directory.is_dir():
        raise UsageError(
            f"{VARIABLE} is {directory}, which is not a folder; set the folder with {', '.join(names)}"
        )
    missing = [name for name in names if not os.access(directory / name, os.X_OK)]
    if missing:
        raise UsageError(
            f"the folder {directory} of {VARIABLE} lacks the program {', '.join(missing)}; "
            "add it, or unset the variable to build the programs"
        )
    found: dict[str, Version] = {}
    for name in names:
        found[name] = _version(directory / name, RULES[name].arguments)
        if not RULES[name].fits(found[name], found["kube-apiserver"]):
            version = ".".join(map(str, found[name]))
            raise UsageError(
                f"{directory / name} has the version {version}, but it must be {RULES[name].words}; "
                f"put another version into the folder of {VARIABLE}, or unset the variable to build the programs"
            )
    return found


def _version(program: Path, arguments: Sequence[str]) -> Version:
    """Return the first version that the program prints. Raises UsageError."""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        output = done.stdout + done.stderr
    except (OSError, subprocess.SubprocessError) as error:
        output = str(error)
    match = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", output)
    if not match:
        line = next(iter(output.strip().splitlines()), "no output")[:200]
        raise UsageError(
            f"{program} {' '.join(arguments)} does not print a version, but: {line}; "
            f"check the programs in the folder of {VARIABLE}"
        )
    major, minor, patch = (int(number) for number in match.groups())
    return major, minor, patch
