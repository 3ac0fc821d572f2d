# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test sanity, all of it and without ignore entries, as far as it runs without a container."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tools.ci import interpreters, process, tree, venvs
from tools.ci.environments import ENVIRONMENTS, Environment
from tools.ci.result import FAILED, PASSED, GateResult

# The releases of pip that ansible-test puts into its environments (ansible_test/_internal/
# python_requirements.py, get_venv_packages): 2.16 takes the first three, depending on the Python.
_PIPS = ("20.3.4", "21.3.1", "23.1.2", "24.2", "25.0.1", "25.2", "25.3", "26.0", "26.1")

# ansible-test fetches get-pip.py from a server of its own unless it finds it in its cache. pip itself comes
# from the package index that pip is configured with, like everything else.
_GET_PIP = """\
import subprocess, sys
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *wanted])
"""

# 2.22.0rc1 takes one library of pylint from a source archive on the web, for the sake of Python 3.15. The
# release that 2.21 pins does as well on the Pythons before it, and comes from the package index.
_FROM_INDEX = (re.compile(r"^dill @ https:.*$", re.MULTILINE), "dill==0.4.1")


def _use_index(venv: Path) -> None:
    pattern, replacement = _FROM_INDEX
    for file in venv.glob("lib/python*/site-packages/ansible_test/_data/requirements/sanity.pylint.txt"):
        file.write_text(pattern.sub(replacement, file.read_text()))


def _home(env: Environment) -> Path:
    """A home directory for ansible-test, which keeps its virtual environments there: cached like ours."""
    home = venvs.cache() / "ansible-test" / venvs.key(env)
    stand_ins = home / ".ansible" / "test" / "cache"
    stand_ins.mkdir(parents=True, exist_ok=True)
    for version in _PIPS:
        (stand_ins / f"get_pip_{version.replace('.', '_')}.py").write_text(_GET_PIP)
    return home


def _path(env: Environment, path: str) -> str:
    """PATH with the directories of the real interpreters in front of a version manager's shims.

    ansible-test takes the first `pythonX.Y` that it sees; a shim of a version that is not selected fails.
    """
    minors = {minor for other in ENVIRONMENTS.values() for minor in other.pythons} - {
        venvs.python_for(env).minor
    }
    found = [item for item in map(interpreters.find, sorted(minors)) if item]
    own, rest = path.split(os.pathsep, 1)
    return os.pathsep.join([own, *(str(item.path.parent) for item in found), rest])


def check(choose: Callable[[], Environment], log: Path) -> GateResult:
    """Runs the tests of one core on a copy of what users get; counts as one."""
    env = choose()
    venv = venvs.ensure(env)
    home = _home(env)
    place = tree.copy(f"sanity-{env.name}", lambda name: tree.shipped(name) or name == "galaxy.yml")
    variables = tree.environ(venv) | {"HOME": str(home)}
    variables["PATH"] = _path(env, variables["PATH"])
    # ansible-test finds the collection by its own path, and refuses to be told another one.
    for name in ("PYTHONPATH", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_HOME", "ANSIBLE_REMOTE_TEMP"):
        del variables[name]
    # Two runs in one home would make the same environments at the same time.
    with venvs.locked(home / "in-use"):
        _use_index(venv)
        code = process.run(
            [venv / "bin" / "ansible-test", "sanity", "--color", "no"], log, variables, place, timeout=1500
        )
    skipped = [
        line for line in log.read_text(errors="replace").splitlines() if "Skipping sanity test" in line
    ]
    notes = tuple(sorted({line.removeprefix("WARNING: ") for line in skipped}))
    return (FAILED if code else PASSED) + GateResult(notes=notes)
