# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create the virtual environments once for all clones of this user."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tools.ci import process
from tools.ci.environments import CORES, Environment
from tools.ci.interpreters import Interpreter, first

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).with_name("locks")


class PythonUnavailable(Exception):
    """This machine has no Python for an environment. The text can be printed as it is."""


class BuildFailed(Exception):
    """An environment could not be created. The text has the output of pip."""


def cache() -> Path:
    """Return the directory for all that later runs can use again."""
    own = os.environ.get("CERTFLOW_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own).absolute() if own else base / "certflow.kubernetes"


def python_for(env: Environment) -> Interpreter:
    """Return the interpreter for `env`. Raises PythonUnavailable."""
    found = first(env.pythons)
    if found is None:
        raise PythonUnavailable(f"{env.title}: no Python {' or '.join(env.pythons)} found")
    return found


def _available(envs: tuple[Environment, ...]) -> Environment:
    for env in envs:
        if first(env.pythons):
            return env
    raise PythonUnavailable(f"no Python found for any of {', '.join(env.title for env in envs)}")


def newest_core() -> Environment:
    """Return the environment of daily work: the newest core for which this machine has a Python."""
    return _available(CORES[::-1])


def oldest_core() -> Environment:
    """Return the oldest core for which this machine has a Python."""
    return _available(CORES)


def lock_file(env: Environment) -> Path:
    """Return the lock file of an environment."""
    return LOCKS / f"{env.name}.txt"


def key(env: Environment) -> str:
    """Return the name of an environment's directory. Another lock file or interpreter has another name."""
    found = python_for(env)
    pins = [line for line in lock_file(env).read_text().splitlines() if not line.startswith("#")]
    content = "\n".join([*pins, *env.forced, str(found.path), found.version])
    return f"{env.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def beside(root: Path, suffix: str) -> Path:
    """Return a path next to a directory. The directory's name may contain dots."""
    return root.with_name(f"{root.name}.{suffix}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, because several clones may need the same directory at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure(env: Environment) -> Path:
    """Return the directory of a virtual environment. Create it if it is missing.

    Raises PythonUnavailable, BuildFailed.
    """
    found = python_for(env)
    root = cache() / "venvs" / key(env)
    ready = root / "ready"
    if ready.exists():
        return root
    with locked(beside(root, "lock")):
        if not ready.exists():
            _build(env, found, root)
            ready.touch()
    return root


def _build(env: Environment, found: Interpreter, root: Path) -> None:
    count = sum("==" in line for line in lock_file(env).read_text().splitlines())
    say(f"making the environment {env.name} (Python {found.version}, {count} packages; up to 2 minutes) ...")
    start = time.monotonic()
    # An environment of an interrupted run has no file `ready`. An environment cannot be moved, because its
    # scripts contain its path, so it is created in place.
    shutil.rmtree(root, ignore_errors=True)
    python = str(root / "bin" / "python")
    pip = [python, *"-m pip --disable-pip-version-check install --quiet --no-input --no-deps".split()]
    steps = [[str(found.path), "-m", "venv", str(root)], [*pip, "-r", str(lock_file(env))]]
    if env.forced:
        steps.append([*pip, "--ignore-requires-python", *env.forced])
    log = beside(root, "log")
    log.unlink(missing_ok=True)
    for step in steps:
        if process.run(step, log, os.environ, REPOSITORY):
            raise BuildFailed(
                f"the environment {env.name} could not be made:\n{log.read_text(errors='replace')}"
            )
    log.unlink()
    say(f"made {env.name} in {time.monotonic() - start:.0f} s")


def say(text: str) -> None:
    """Print progress to stderr. Results go to stdout."""
    print(text, file=sys.stderr, flush=True)
