# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test sanity: all tests that need no container, without ignore entries."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.ci import interpreters, process, tree, venvs
from tools.ci.environments import ENVIRONMENTS, PYTHON_39, Environment
from tools.ci.result import FAILED, PASSED, GateResult

# The releases of pip that ansible-test installs into its environments
# (ansible_test/_internal/python_requirements.py, get_venv_packages). 2.16 uses one of the first three,
# depending on the Python.
_PIPS = ("20.3.4", "21.3.1", "23.1.2", "24.2", "25.0.1", "25.2", "25.3", "26.0", "26.1")

# ansible-test downloads get-pip.py from its own server unless its cache has the file. It installs pip and all
# other packages from the package index in pip's configuration.
_GET_PIP = """\
import subprocess, sys
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *wanted])
"""

# 2.22.0rc1 downloads one library of pylint as a source archive, for Python 3.15. The release that 2.21 pins
# works with older Pythons and is on the package index.
_FROM_INDEX = (re.compile(r"^dill @ https:.*$", re.MULTILINE), "dill==0.4.1")


def _use_index(venv: Path) -> None:
    pattern, replacement = _FROM_INDEX
    for file in venv.glob("lib/python*/site-packages/ansible_test/_data/requirements/sanity.pylint.txt"):
        file.write_text(pattern.sub(replacement, file.read_text()))


def _home(env: Environment) -> Path:
    """Return a cached home directory for ansible-test, which keeps its virtual environments there."""
    home = venvs.cache() / "ansible-test" / venvs.key(env)
    stand_ins = home / ".ansible" / "test" / "cache"
    stand_ins.mkdir(parents=True, exist_ok=True)
    for version in _PIPS:
        (stand_ins / f"get_pip_{version.replace('.', '_')}.py").write_text(_GET_PIP)
    return home


def _path(env: Environment, path: str) -> str:
    """Return PATH with the directories of real interpreters before a version manager's shims.

    ansible-test uses the first `pythonX.Y` on PATH. A shim fails if its version is not selected.
    """
    minors = {minor for other in ENVIRONMENTS.values() for minor in other.pythons} - {
        venvs.python_for(env).minor
    }
    found = [item for item in map(interpreters.find, sorted(minors)) if item]
    own, rest = path.split(os.pathsep, 1)
    return os.pathsep.join([own, *(str(item.path.parent) for item in found), rest])


# The tests that ansible-test runs once for each Python. They take more than half of the time of all tests.
OF_EACH_PYTHON = ("--test", "compile", "--test", "import")


def on_both_ends(env: Environment) -> tuple[str, ...]:
    """Return the options for these tests on the oldest Python of a managed node and on that of the environment only."""
    ends = (PYTHON_39.pythons[0], venvs.python_for(env).minor)
    return tuple(f"--target-python={minor}" for minor in ends if interpreters.find(minor))


def check(
    choose: Callable[[], Environment],
    log: Path,
    options: Callable[[Environment], Sequence[str]] = lambda _env: (),
) -> GateResult:
    """Run the tests of one core on a copy of the built files. They count as one test. options: of ansible-test."""
    env = choose()
    venv = venvs.ensure(env)
    home = _home(env)
    place = tree.copy(f"sanity-{env.name}", lambda name: tree.shipped(name) or name == "galaxy.yml")
    variables = tree.environ(venv) | {"HOME": str(home)}
    variables["PATH"] = _path(env, variables["PATH"])
    # ansible-test finds the collection by its own path, and refuses another one.
    for name in ("PYTHONPATH", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_HOME", "ANSIBLE_REMOTE_TEMP"):
        del variables[name]
    # Two runs with one home would create the same environments at the same time.
    with venvs.locked(home / "in-use"):
        _use_index(venv)
        code = process.run(
            [venv / "bin" / "ansible-test", "sanity", "--color", "no", *options(env)],
            log,
            variables,
            place,
        )
    skipped = [
        line for line in log.read_text(errors="replace").splitlines() if "Skipping sanity test" in line
    ]
    notes = tuple(sorted({line.removeprefix("WARNING: ") for line in skipped}))
    return (FAILED if code else PASSED) + GateResult(notes=notes)
