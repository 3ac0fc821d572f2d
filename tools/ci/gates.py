# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gates. Each is a function from a log file to a result. ALL has the order in which they start."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.ci import integration, package, process, sanity, site, tree, venvs
from tools.ci.environments import CORES, LINT, PYTHON_39, PYTHON_314, REUSE, Environment
from tools.ci.result import GateResult, of_exit, of_junit
from tools.ci.venvs import REPOSITORY


class Gate(NamedTuple):
    """One named step of a run."""

    name: str
    #: Function that writes to the given log. May raise PythonUnavailable, BuildFailed.
    run: Callable[[Path], GateResult]
    #: True if its tests start programs that the gate PROGRAMS builds.
    starts_programs: bool = False


def _program(env: Environment, arguments: Sequence[str | Path], log: Path) -> int:
    venv = venvs.ensure(env)
    return process.run([venv / "bin" / arguments[0], *arguments[1:]], log, tree.environ(venv), REPOSITORY)


def programs(log: Path) -> GateResult:
    """Build the programs that the tests start, each once, into the cache of the user."""
    command = ("python", "-m", "tests.support.clusters", "build", "--tests")
    return of_exit(_program(venvs.newest_core(), command, log))


PROGRAMS = Gate("programs", programs)


def ruff(log: Path) -> GateResult:
    """Check lint rules and format."""
    wanted = (("ruff", "check", "."), ("ruff", "format", "--check", "."))
    return of_exit(max(_program(LINT, command, log) for command in wanted))


OTHER_PACKAGES = ("-p", "tests", "-p", "tools", "-p", "benchmarks", "-p", "examples")


def reuse(log: Path) -> GateResult:
    """Check that every file names its copyright and licence, or that REUSE.toml does so for it."""
    return of_exit(_program(REUSE, ("reuse", "lint"), log))


def mypy(log: Path) -> GateResult:
    """Check types strictly: plugins with the oldest Python that mypy knows, the rest with the running one.

    A new clone uses what mypy has kept of another one, because mypy compares the content of each file. Runs of two clones
    at the same time would read what the other has half written.
    """
    libraries = venvs.ensure(venvs.newest_core()) / "bin" / "python"
    common = ("mypy", "--cache-dir", venvs.cache() / "mypy", "--python-executable", libraries)
    plugins = "ansible_collections.certflow.kubernetes.plugins"
    with venvs.locked(venvs.cache() / "mypy" / "in-use"):
        oldest = _program(LINT, (*common, "--python-version", "3.10", "-p", plugins), log)
        return of_exit(max(oldest, _program(LINT, (*common, *OTHER_PACKAGES), log)))


def pytest(
    choose: Callable[[], Environment], arguments: Sequence[str], log: Path, timeout: float = process.HANGS
) -> GateResult:
    """Run tests inside an environment."""
    venv = venvs.ensure(choose())
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [str(venv / "bin" / "python"), "-m", "pytest", f"--junitxml={report}", *arguments]
    return of_junit(report, process.run(command, log, tree.environ(venv), REPOSITORY, timeout))


def _itself(env: Environment) -> Environment:
    return env


def _tests(name: str, choose: Callable[[], Environment], *paths: str) -> Gate:
    return Gate(name, functools.partial(pytest, choose, ["-q", *paths]))


#: Unit tests that depend on the version of ansible-core. The cores between the ends run only these.
AROUND_ANSIBLE = (
    "tests/unit/test_imports.py",
    "tests/unit/plugins/action",
    "tests/unit/plugins/inventory",
    "tests/unit/plugins/module_utils/_ansible",
    "tests/unit/plugins/module_utils/_operations",
)


def _unit(env: Environment, *paths: str) -> Gate:
    return _tests(f"unit-{env.name}", functools.partial(_itself, env), *(paths or ("tests/unit",)))


def _sanity(env: Environment) -> Gate:
    return Gate(f"sanity-{env.name}", functools.partial(sanity.check, functools.partial(_itself, env)))


def _real(
    name: str, choose: Callable[[], Environment], *arguments: str, timeout: float = process.HANGS
) -> Gate:
    command = ["-v", "--durations=15", *arguments]
    return Gate(name, functools.partial(pytest, choose, command, timeout=timeout), starts_programs=True)


_STATIC = (
    Gate("ruff", ruff),
    Gate("mypy", mypy),
    # promtool checks the alert rules
    _tests("repository", venvs.newest_core, "tests/repository")._replace(starts_programs=True),
)
# The tests on real clusters in parts of about the same length, by the folders of tests/system. A folder without a row is in the
# gate real-newest.
PARTS = {
    "real-upgrades": ("upgrade",),
    "real-certificates": ("certificates", "webhooks", "rotation"),
    "real-playbooks": ("audit", "awx", "fleet", "pages"),
}
# Tests that use ansible-playbook, and so depend on the core. The others call operations from Python.
THROUGH_ANSIBLE = [
    f"tests/system/{name}.py"
    for name in (
        "audit/test_audit_playbook",
        "awx/test_awx_jobs",
        "execution/test_execution_modes",
        "certificates/test_role",
        "execution/test_eks_login",
        "pages/test_examples",
        "fleet/test_fleet",
    )
]
# Upgrades through ansible-playbook take 15 minutes. They use of the core what the others use, and how it ends after a signal.
UPGRADES_THROUGH_ANSIBLE = [f"tests/system/upgrade/test_snapshot_{name}.py" for name in ("role", "stops")]
MODULE_TARGETS = (
    "audit_info",
    "audit_report",
    "k8s_csr",
    "k8s_csr_approve",
    "k8s_csr_info",
    "k8s_signer_probe",
    "snapshot_controller",
    "snapshot_controller_info",
    "webhook_cabundle",
    "webhook_probe",
    "webhook_repair",
)


def _integration(name: str, choose: Callable[[], Environment], *targets: str) -> Gate:
    return Gate(name, functools.partial(integration.check, choose, targets), starts_programs=True)


def _folders(rows: Iterable[str]) -> list[str]:
    return [f"tests/system/{row}" for row in rows]


def _other_folders(rows: Iterable[str]) -> list[str]:
    """Return the options of pytest that leave out these folders."""
    return [f"--ignore={folder}" for folder in _folders(rows)]


def _part(name: str) -> Gate:
    """Return the gate of one of the PARTS, on the newest ansible-core."""
    return _real(name, venvs.newest_core, *_folders(PARTS[name]))


def _rest() -> Gate:
    """Return the gate of the tests on real clusters that are in none of the PARTS."""
    rows = itertools.chain.from_iterable(PARTS.values())
    return _real("real-newest", venvs.newest_core, "tests/system", *_other_folders(rows))


def _full(name: str, *paths: str) -> Gate:
    return _real(name, venvs.newest_core, "-m", "full", *paths, timeout=6 * 3600)


# The gates of `make test`: the newest ansible-core whole, and the unit tests also on the oldest core (with the oldest
# libraries) and on the oldest Python of a managed node. The programs first, beside gates that start none of them. Then the gates
# with real clusters: they wait for half of their time, so two cores that run only them at the end would be idle.
ALL = (
    PROGRAMS,
    _part("real-certificates"),
    _part("real-playbooks"),
    _rest(),
    _part("real-upgrades"),
    _integration("integration-newest", venvs.newest_core),
    Gate(
        "sanity-newest",
        functools.partial(sanity.check, venvs.newest_core, options=sanity.on_both_ends),
    ),
    *_STATIC,
    *map(_unit, (CORES[0], CORES[-1], PYTHON_39)),
    Gate("ansible-lint", package.ansible_lint),
    Gate("docsite", site.check),
    Gate("galaxy-importer", package.galaxy_importer),
    Gate("reuse", reuse),
    Gate("ansible-doc", package.ansible_doc),
)
# About a half of the time of the tests with the marker full.
CA_AND_UPGRADES = ("rotation", "upgrade")
# The gates that only `make test-all` runs: the tests with the marker full, which take hours.
FULL = (
    _full("full", "tests", *_other_folders(CA_AND_UPGRADES)),
    _full("full-ca-and-upgrades", *_folders(CA_AND_UPGRADES)),
)
# The gates that only `make test-all` and the workflow of certification run: every other ansible-core, and the newest Python.
OTHER_VERSIONS = (
    _real("real-oldest", venvs.oldest_core, *THROUGH_ANSIBLE),
    _real("real-oldest-upgrades", venvs.oldest_core, *UPGRADES_THROUGH_ANSIBLE),
    _integration("integration-oldest", venvs.oldest_core, *MODULE_TARGETS),
    Gate(
        "sanity-pythons",
        functools.partial(sanity.check, venvs.newest_core, options=lambda _env: sanity.OF_EACH_PYTHON),
    ),
    Gate("sanity-oldest", functools.partial(sanity.check, venvs.oldest_core)),
    *map(_sanity, CORES[1:-1]),
    *(_unit(env, *AROUND_ANSIBLE) for env in CORES[1:-1]),
    _unit(PYTHON_314),
)
# The gates of daily work, in less than 3 minutes.
QUICK = (
    _real("real-quick", venvs.newest_core, "tests/system", "-m", "quick"),
    *_STATIC,
    _tests("unit-newest", venvs.newest_core, "tests/unit"),
)
