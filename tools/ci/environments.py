# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The virtual environments, as data. `tools/ci/locks/NAME.txt` pins what each requirement list resolves to."""

from __future__ import annotations

from typing import NamedTuple


class Environment(NamedTuple):
    """One virtual environment."""

    name: str
    #: Title that is printed if the environment cannot be created.
    title: str
    #: Versions of Python for the environment, the preferred one first.
    pythons: tuple[str, ...]
    #: Requirements. The lock file has the resolved versions.
    requirements: tuple[str, ...]
    #: Packages that are installed without dependencies, although their metadata refuses this Python.
    forced: tuple[str, ...] = ()


# The oldest clients that README and meta/ee-requirements.txt promise, and the newest tested releases.
OLDEST_CLIENTS = ("kubernetes==24.2.0", "cryptography==42.0.0", "jmespath==1.0.0")
NEWEST_CLIENTS = ("kubernetes==37.0.2", "cryptography==50.0.2", "jmespath==1.1.0")
# The last hypothesis for Python 3.9, in all environments, so that all of them draw the same examples.
HYPOTHESIS = "hypothesis==6.141.1"
TESTING = ("pytest", HYPOTHESIS, "PyYAML", "types-PyYAML", "types-jmespath")

# Each core with the Pythons that its release notes allow for a controller. The oldest core has the oldest
# clients, so that tests on real clusters use them too.
CORES = (
    Environment("core-2.16", "ansible-core 2.16", ("3.10", "3.11", "3.12"), ("ansible-core==2.16.19", *OLDEST_CLIENTS, *TESTING)),
    Environment("core-2.17", "ansible-core 2.17", ("3.10", "3.11", "3.12"), ("ansible-core==2.17.14", *NEWEST_CLIENTS, *TESTING)),
    Environment("core-2.18", "ansible-core 2.18", ("3.11", "3.12", "3.13"), ("ansible-core==2.18.19", *NEWEST_CLIENTS, *TESTING)),
    Environment("core-2.19", "ansible-core 2.19", ("3.11", "3.12", "3.13"), ("ansible-core==2.19.14", *NEWEST_CLIENTS, *TESTING)),
    Environment("core-2.20", "ansible-core 2.20", ("3.12", "3.13", "3.14"), ("ansible-core==2.20.10", *NEWEST_CLIENTS, *TESTING)),
    Environment("core-2.21", "ansible-core 2.21", ("3.12", "3.13", "3.14"), ("ansible-core==2.21.5", *NEWEST_CLIENTS, *TESTING)),
    Environment("core-2.22", "ansible-core 2.22", ("3.13", "3.14"), ("ansible-core==2.22.0rc1", *NEWEST_CLIENTS, *TESTING)),
)  # fmt: skip

# The oldest Python of a managed node. No supported core runs its controller there, but all of them send
# module_utils to it. So this environment has core's code only.
PYTHON_39 = Environment(
    "python-3.9",
    "Python 3.9 with the oldest clients",
    ("3.9",),
    (*OLDEST_CLIENTS, "pytest", HYPOTHESIS, "PyYAML", "Jinja2", "packaging", "resolvelib<1.1"),
    forced=("ansible-core==2.16.19",),
)

# The newest Python, which no core prefers yet. A machine without it skips the gate.
PYTHON_314 = Environment(
    "python-3.14",
    "ansible-core 2.22 on Python 3.14",
    ("3.14",),
    CORES[-1].requirements,
)

LINT = Environment(
    "lint",
    "ruff, mypy, ansible-lint and galaxy-importer",
    ("3.11", "3.12", "3.13", "3.14"),
    (
        "ruff==0.17.6",
        "mypy==2.4.1",
        "ansible-lint==26.10.1",
        "galaxy-importer==0.4.44",
        "ansible-core==2.19.14",
    ),
)

# Other collections come from the package `ansible`, because a Galaxy server may be unreachable.
BENCH = Environment(
    "bench",
    "the collections that are compared with",
    ("3.12", "3.13", "3.14"),
    ("ansible==14.5.0", "ansible-core==2.21.5", *NEWEST_CLIENTS, *TESTING),
)

# Runs a job of AWX inside its execution environment, and builds such an environment. AWX 24 cannot read the
# facts that ansible-core 2.19 and newer cache.
AWX = Environment(
    "awx",
    "ansible-runner and ansible-builder",
    ("3.11", "3.12", "3.13"),
    ("ansible-core==2.18.19", "ansible-runner==2.4.3", "ansible-builder==3.2.0", *NEWEST_CLIENTS),
)

# The last ansible-runner whose display locks itself in a worker too. Execution environments in use have it. It starts the
# ansible-playbook of another environment.
OLD_RUNNER = Environment(
    "runner-2.4.1",
    "ansible-runner 2.4.1",
    ("3.11", "3.12", "3.13", "3.14"),
    ("ansible-runner==2.4.1",),
)

# A small environment, so that its dependencies do not limit those of the other tools. reuse uses
# charset-normalizer if the machine has no libmagic.
REUSE = Environment(
    "reuse",
    "the checker of licences",
    ("3.11", "3.12", "3.13", "3.14"),
    ("reuse==6.2.0", "charset-normalizer"),
)

# Builds the documentation site.
SITE = Environment(
    "site",
    "antsibull-docs and sphinx",
    ("3.12", "3.13", "3.14"),
    ("ansible-core==2.21.5", "antsibull-docs==2.28.0", "sphinx==9.0.4", "sphinx-ansible-theme==0.10.4"),
)

ENVIRONMENTS = {
    env.name: env for env in (*CORES, PYTHON_39, PYTHON_314, LINT, BENCH, AWX, OLD_RUNNER, REUSE, SITE)
}
