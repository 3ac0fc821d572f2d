# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the runner of the gates, above all that it reports failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tools.ci import __main__ as gate_run
from tools.ci import interpreters, lock, process, run_path, tree, venvs
from tools.ci.__main__ import AT_ONCE, GateRun
from tools.ci.compiled import sitecustomize
from tools.ci.environments import CORES, ENVIRONMENTS, PYTHON_39, PYTHON_314, Environment
from tools.ci.gates import ALL, FULL, OTHER_VERSIONS, PARTS, PROGRAMS, Gate
from tools.ci.result import GateResult, of_exit, of_junit

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/>
<testcase name="c"><failure message="no"/></testcase>
<testcase name="d"><error message="no"/></testcase>
<testcase name="e"><skipped message="no tool"/></testcase>
<testcase name="f"><skipped message="collection skipped">('tests/f.py', 24, 'Skipped: an older core')</skipped></testcase>
</testsuite></testsuites>"""


def run(tmp_path: Path, program: str, timeout: float = 30) -> tuple[int, str]:
    """Run a line of Python as a gate does. Return its exit code and log."""
    log = tmp_path / "log"
    code = process.run([sys.executable, "-c", program], log, os.environ, tmp_path, timeout)
    return code, log.read_text()


def test_counts_of_a_report(tmp_path: Path) -> None:
    """An error in a fixture counts as a failed test, and a skip has its reason."""
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert of_junit(report, 1) == GateResult(2, 2, 2, ("skipped: an older core", "skipped: no tool"))


@pytest.mark.parametrize(
    ("name", "at_start", "code"),
    [("SIGHUP", "SIG_DFL", 129), ("SIGHUP", "SIG_IGN", 0), ("SIGINT", "SIG_IGN", 130)],
)
def test_a_signal_ends_a_run_unless_nohup_ignores_it(name: str, at_start: str, code: int) -> None:
    """A shell lets its background jobs ignore SIGINT. What they start must not, because tests interrupt it."""
    program = (
        "import os, signal; from tools.ci import process\n"
        f"signal.signal(signal.{name}, signal.{at_start}); process.end_all_at_a_signal()\n"
        f"os.kill(os.getpid(), signal.{name})"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=venvs.REPOSITORY, check=False, capture_output=True)
    assert ended.returncode == code, ended.stderr


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, 4), ("<testsuites/>", 5), ('<t><testcase name="a"/></t>', 124), ('<t><testcase name="', 3)],
)
def test_a_run_with_a_bad_end_has_failed(tmp_path: Path, content: str | None, code: int) -> None:
    """There is no report, no test, a time-out, or half a report. pytest's own counts would be 0 failed in each case."""
    report = tmp_path / "report.xml"
    if content:
        report.write_text(content)
    assert of_junit(report, code).failed == 1


def test_the_closing_line() -> None:
    """The line has a number of skips only if there are any."""
    assert str(of_exit(0) + of_exit(0) + of_exit(2)) == "2 passed, 1 failed"
    assert str(GateResult(1, 0, 3)) == "1 passed, 0 failed, 3 skipped"


def test_output_and_exit_code_are_kept(tmp_path: Path) -> None:
    """The exit code decides, and the log explains."""
    code, log = run(tmp_path, "import sys; print('said'); sys.exit(3)")
    assert code == 3
    assert log.endswith("said\n")


def test_a_hanging_program_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its child ends too, although it ignores Ctrl-C, and the log says why."""
    monkeypatch.setattr(process, "_PATIENCE", ((signal.SIGINT, 1.0), (signal.SIGTERM, 5.0)))
    child = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    program = f"import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {child!r}]); print(c.pid, flush=True); c.wait()"
    code, log = run(tmp_path, program, timeout=1.5)
    assert code == 124
    assert "ended after 2 s without a result" in log
    pid = next(int(line) for line in log.splitlines() if line.isdigit())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.1)


def test_a_shim_is_not_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`find` takes the next interpreter on PATH, and returns None without one."""
    minor = "{}.{}".format(*sys.version_info)
    shims, real = tmp_path / "shims", tmp_path / "real"
    for folder in (shims, real):
        folder.mkdir()
    shim = shims / f"python{minor}"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{real}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    interpreters.find.cache_clear()
    try:
        assert interpreters.find(minor) is None
        interpreters.find.cache_clear()
        (real / f"python{minor}").symlink_to(sys.executable)
        found = interpreters.find(minor)
        assert found
        assert found.minor == minor
    finally:
        interpreters.find.cache_clear()


def test_an_environment_without_python_is_reported() -> None:
    """A run prints this text for a gate that it skips."""
    with pytest.raises(venvs.PythonUnavailable, match=r"^core 0: no Python 0\.1 or 0\.2 found$"):
        venvs.python_for(Environment("x", "core 0", ("0.1", "0.2"), ()))


def test_merged_locks() -> None:
    """A pin applies to the Pythons for which it was resolved.

    The newest block applies to later Pythons too.
    """
    resolved = {
        "3.9": {"same": "1", "backport": "1", "moved": "1"},
        "3.10": {"same": "1", "moved": "2"},
        "3.11": {"same": "1", "moved": "3"},
    }
    assert lock.merge(resolved) == [
        "backport==1 ; python_version <= '3.9'",
        "moved==1 ; python_version <= '3.9'",
        "moved==2 ; python_version >= '3.10' and python_version <= '3.10'",
        "moved==3 ; python_version >= '3.11'",
        "same==1",
    ]


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=str)
def test_locks_contain_the_requirements(env: Environment) -> None:
    """After a change of environments.py without `make locks`, a run would test other versions."""
    pins = {line.partition(" ;")[0] for line in venvs.lock_file(env).read_text().lower().splitlines()}
    assert [need for need in env.requirements if "==" in need and need.lower() not in pins] == []


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_every_gate_runs_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "link", lambda: tmp_path)
    seen: list[str] = []
    running = 0

    def gate(name: str) -> Gate:
        def run(_log: Path) -> GateResult:
            nonlocal running
            seen.append(name)
            running += 1
            assert running <= AT_ONCE
            time.sleep(0.02)
            running -= 1
            return GateResult(passed=1)

        return Gate(f"pretended-{name}", run)

    whole = GateRun()
    whole.all(tuple(gate(str(number)) for number in range(count)))
    assert sorted(seen) == [str(number) for number in range(count)]
    assert whole.total.passed == count


def test_gates_with_programs_start_when_they_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other gates run meanwhile, and the run says who waits. A failed build lets them start too, and each tells what it lacks."""
    monkeypatch.setattr(tree, "link", lambda: tmp_path)
    monkeypatch.setattr(gate_run, "REPOSITORY", tmp_path)
    monkeypatch.setattr(gate_run, "_REMINDER", 0.05)
    ended: list[str] = []

    def gate(name: str, seconds: float, code: int = 0, starts_programs: bool = False) -> Gate:
        def run(_log: Path) -> GateResult:
            time.sleep(seconds)
            ended.append(name)
            return of_exit(code)

        return Gate(name, run, starts_programs)

    builds = gate("programs", 0.3, code=1)
    monkeypatch.setattr(gate_run, "PROGRAMS", builds)
    whole = GateRun()
    whole.all((builds, gate("clusters", 0, starts_programs=True), gate("static", 0)))
    assert ended == ["static", "programs", "clusters"]
    assert (
        "waiting until programs are built (see .work/logs/programs.log): clusters\n"
        in capsys.readouterr().out
    )


def test_the_build_starts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-all` and a user may name other gates before it, which would take every place for an hour."""
    monkeypatch.setattr(tree, "link", lambda: tmp_path)
    started: list[str] = []

    def gate(name: str) -> Gate:
        def run(_log: Path) -> GateResult:
            started.append(name)
            time.sleep(0.02)
            return GateResult(passed=1)

        return Gate(name, run)

    builds = gate("programs")
    monkeypatch.setattr(gate_run, "PROGRAMS", builds)
    others = [gate(f"static-{number}") for number in range(AT_ONCE)]
    GateRun().all((*others, builds))
    assert started[0] == "programs"


def test_each_gate_with_real_clusters_waits_for_the_programs() -> None:
    """A test that builds by itself would let the others of its gate wait."""
    assert ALL[0] == PROGRAMS
    with_clusters = {gate.name for gate in ALL if gate.name.startswith(("real-", "integration-"))}
    assert {gate.name for gate in ALL if gate.starts_programs} == with_clusters | {"repository"}


def test_a_program_counts_with_its_children(tmp_path: Path) -> None:
    """Most of what a gate uses is used by what its tests start."""
    child = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    before = process.processor_seconds()
    run(tmp_path, program)
    assert process.processor_seconds() - before >= 0.3


def test_the_end_of_a_failed_gate_is_printed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The logs of the gates that end later would hide the names of the failed tests."""
    monkeypatch.setattr(tree, "link", lambda: tmp_path)
    monkeypatch.setattr(gate_run, "REPOSITORY", tmp_path)

    def fail(log: Path) -> GateResult:
        log.write_text("".join(f"line {number}\n" for number in range(100)))
        return GateResult(failed=1)

    whole = GateRun()
    whole.all((Gate("pretended-failure", fail),))
    capsys.readouterr()
    whole.repeat_failures()
    printed = capsys.readouterr().out
    assert "pretended-failure" in printed
    assert "line 99" in printed
    assert "line 50" not in printed


@pytest.mark.parametrize(
    ("gates", "rest", "parts", "fewest"),
    [(ALL, "real-newest", list(PARTS), 8), (FULL, "full", ["full-ca-and-upgrades"], 2)],
    ids=["make test", "full"],
)
def test_each_folder_of_tests_on_real_clusters_is_in_one_gate(
    gates: tuple[Gate, ...], rest: str, parts: list[str], fewest: int
) -> None:
    """The gate of the rest ignores the folders of the other gates."""
    words = {gate.name: gate.run.args[1] for gate in gates if gate.name in {rest, *parts}}  # type: ignore[attr-defined]
    ran = [word for name in parts for word in words[name] if word.startswith("tests/system/")]
    ignored = [word.partition("=")[2] for word in words[rest] if word.startswith("--ignore=")]
    assert len(ran) >= fewest
    assert all((venvs.REPOSITORY / folder).is_dir() for folder in ran)
    assert sorted(ran) == sorted(ignored) == sorted(set(ran))


def test_make_test_runs_the_unit_tests_on_both_ends() -> None:
    """`make test` runs them on the oldest and the newest ansible-core and on the oldest Python, `make test-all` on every other."""
    daily = {f"unit-{env.name}" for env in (CORES[0], CORES[-1], PYTHON_39)}
    others = {f"unit-{env.name}" for env in (*CORES[1:-1], PYTHON_314)}
    assert {gate.name for gate in ALL if gate.name.startswith("unit-")} == daily
    assert {gate.name for gate in OTHER_VERSIONS if gate.name.startswith("unit-")} == others


def test_every_core_runs_sanity() -> None:
    """`make test` runs the newest ansible-core, `make test-all` every other one and every Python."""
    others = {f"sanity-{env.name}" for env in CORES[1:-1]} | {"sanity-oldest", "sanity-pythons"}
    assert [gate.name for gate in ALL if gate.name.startswith("sanity-")] == ["sanity-newest"]
    assert {gate.name for gate in OTHER_VERSIONS if gate.name.startswith("sanity-")} == others


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("tests/integration/targets/k8s_csr", "k8s_csr"),
        ("tests/integration/targets/k8s_csr/tasks/eks.yml", "k8s_csr"),
        ("tests/integration/targets", ""),
        ("tests/unit/test_imports.py", ""),
    ],
)
def test_the_integration_target_of_a_path(path: str, target: str) -> None:
    assert run_path.target_of(path) == target


def test_make_t_finds_programs_although_its_path_is_that_of_a_test() -> None:
    """The variable PATH of make is the search path of the programs that it starts."""
    command = ["make", "t", "PATH=tests/missing.py"]
    done = subprocess.run(command, cwd=venvs.REPOSITORY, capture_output=True, text=True, check=False)
    assert "tests/missing.py" in done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plugins/modules/k8s_csr.py", True),
        ("tests/config.yml", True),
        ("README.md", True),
        ("tests/unit/test_imports.py", False),
        ("tools/ci", False),
        (".ansible-lint", False),
        ("pyproject.toml", False),
        ("CONTRIBUTING.md", False),
        ("docs/docsite/rst/reference_hazards.rst", True),
        ("docs/architecture.md", False),
        ("docs/decisions/README.md", False),
    ],
)
def test_shipped_files(name: str, expected: bool) -> None:
    """The gate galaxy-importer uses this function for the built file."""
    assert tree.shipped(name) is expected


def test_a_compiled_file_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is that of the source as it is now."""
    monkeypatch.setenv(sitecustomize.VARIABLE, str(tmp_path / "compiled"))
    for source, count in ((b"x = 1", 1), (b"x = 1", 1), (b"x = 2", 2)):
        names: dict[str, object] = {}
        exec(sitecustomize.compile_once(source, "file.py", "exec", flags=0, dont_inherit=True), names)
        assert f"x = {names['x']}".encode() == source
        assert len(list((tmp_path / "compiled").iterdir())) == count
    for path in (tmp_path / "compiled").iterdir():
        path.write_bytes(b"damaged")
    code = sitecustomize.compile_once(b"x = 1", "file.py", "exec", flags=0, dont_inherit=True)
    assert code.co_filename == "file.py"


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Two clones that create the same environment do so one after the other."""
    order: list[str] = []

    def second() -> None:
        with venvs.locked(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with venvs.locked(tmp_path / "lock"):
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
