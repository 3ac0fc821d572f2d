# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the programs of a control plane from Go modules once, into a cache that all clones share."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.clusters import existing_programs, pins
from tests.support.clusters.errors import ClusterError, tail
from tests.support.clusters.pins import (
    CAINJECTOR,
    CERT_MANAGER,
    CERT_MANAGER_CONTROLLER,
    CERT_MANAGER_WEBHOOK,
    HELM_PROGRAM,
    KUBERNETES_RELEASES,
    NEWEST_RELEASE,
    PROMTOOL_PROGRAM,
    SNAPSHOT_PROGRAMS,
    SNAPSHOTTER,
    KubernetesRelease,
    Pin,
    ProgramSet,
    control_plane,
    node,
)

Report = Callable[[str], None]

# Static programs need no C compiler. Without -buildvcs=false, go looks for a checkout around the cache
# directory.
GO_ENV = {"CGO_ENABLED": "0", "GOWORK": "off"}
GO_FLAGS = (
    "-v",  # names each compiled package, which shows the progress
    "-mod=mod",
    "-buildvcs=false",
    "-trimpath",
)
MAIN_MODULE = "certflow.invalid/clusters"
REPORT_EVERY = 15.0


def say(message: str) -> None:
    """Print progress to stderr. Results go to stdout."""
    print(message, file=sys.stderr, flush=True)


def programs(report: Report = say, *, release: str = "") -> Path:
    """Return the directory with etcd, kube-apiserver, kube-controller-manager and kubectl.

    release: a key of KUBERNETES_RELEASES. "" for the folder of CERTFLOW_KUBERNETES_BIN, or the newest release if
    that is not set. Build the programs if they are not cached.
    """
    wanted = control_plane(_release(release))
    return (None if release else _existing(wanted)) or _cached(wanted, report)


def needs_build() -> bool:
    """Return True if `programs` would build Kubernetes, which takes minutes. Raises UsageError."""
    wanted = control_plane(_release(""))
    return _existing(wanted) is None and not _place(wanted).is_dir()


def node_programs(report: Report = say, *, release: str = "") -> Path:
    """Return the directory with kubelet, kube-proxy and kube-scheduler of a release, as `programs` does."""
    return (None if release else existing_node_programs()) or _cached(node(_release(release)), report)


def existing_node_programs() -> Path | None:
    """Return the folder of CERTFLOW_KUBERNETES_BIN with the programs of a node, None if it is not set. Raises UsageError."""
    return _existing(node(_release("")))


def kubernetes_version(release: str = "") -> str:
    """Return the version of the API servers of a release, such as v1.37.2. release: as for `programs`. Raises UsageError."""
    folder = None if release else existing_programs.folder()
    return existing_programs.server_version(folder) if folder else _release(release).kubernetes.version


def _release(name: str) -> KubernetesRelease:
    return KUBERNETES_RELEASES[name or NEWEST_RELEASE]


def why_no_build() -> str:
    """Return the reason why no program can be built here, "" if one can."""
    return "" if shutil.which("go") else "no `go` on PATH"


def _existing(wanted: ProgramSet) -> Path | None:
    """Return the folder of the user with these programs, None to build them. Raises UsageError."""
    folder = existing_programs.folder()
    if folder:
        existing_programs.checked(folder, tuple(wanted.programs))
    return folder


def cainjector(report: Report = say) -> Path:
    """Return cert-manager's cainjector as one program with the flags of cainjector/main.go.

    Build it if it is not cached.
    """
    return _cached(CAINJECTOR, report) / "cainjector"


def cert_manager(report: Report = say) -> Path:
    """Return cert-manager's controller for Certificates as one program (cert_manager/main.go).

    Build it if it is not cached.
    """
    return _cached(CERT_MANAGER_CONTROLLER, report) / "cert-manager-controller"


def cert_manager_webhook(report: Report = say) -> Path:
    """Return cert-manager's webhook as one program with the flags of its own command (cert_manager_webhook/main.go).

    Build it if it is not cached.
    """
    return _cached(CERT_MANAGER_WEBHOOK, report) / "cert-manager-webhook"


def cert_manager_dir() -> Path:
    """Return the unpacked cert-manager module. Its CustomResourceDefinitions are in deploy/crds."""
    return _download(CERT_MANAGER)


def kubeadm(report: Report = say) -> Path:
    """Return kubeadm of the newest release. Build it if it is not cached."""
    return _cached(pins.kubeadm(_release("")), report) / "kubeadm"


def helm(report: Report = say) -> Path:
    """Return Helm's program. Build it if it is not cached."""
    return _cached(HELM_PROGRAM, report) / "helm"


def promtool(report: Report = say) -> Path:
    """Return Prometheus' promtool. Build it if it is not cached."""
    return _cached(PROMTOOL_PROGRAM, report) / "promtool"


def snapshot_programs(release: str, report: Report = say) -> Path:
    """Return the directory with snapshot-controller and webhook of a release such as "8.7.0".

    Build them if not cached.
    """
    return _cached(SNAPSHOT_PROGRAMS[release], report)


def snapshot_manifests(release: str) -> tuple[Path, Path]:
    """Return the directories deploy/kubernetes and client/config/crd of a release."""
    wanted = SNAPSHOT_PROGRAMS[release]
    assert wanted.sibling
    main = _download(_main_pin(wanted))
    return main / "deploy" / "kubernetes", _download(wanted.sibling) / "config" / "crd"


def release_archives(*releases: str) -> Path:
    """Return the directory with the archives v8.7.0.tar.gz and so on, in the layout of upstream's archives of tags."""
    directory = cache_directory() / "releases"
    directory.mkdir(parents=True, exist_ok=True)
    for release in releases:
        target = directory / f"v{release}.tar.gz"
        with lock(directory / ".lock"):
            if target.is_file():
                continue
            deploy, crds = snapshot_manifests(release)
            draft = target.with_suffix(".new")
            with tarfile.open(draft, "w:gz") as archive:
                root = f"external-snapshotter-{release}"
                archive.add(deploy, f"{root}/deploy/kubernetes")
                archive.add(crds, f"{root}/client/config/crd")
            draft.rename(target)
    return directory


def static_program(source: Path) -> Path:
    """Return the program of DIRECTORY/main.go, named like the directory. Build it if it is not cached.

    The source uses only the standard library.
    """
    flags = ("-buildvcs=false", "-trimpath", "-ldflags=-s -w")
    recipe = json.dumps([source.read_text(), flags, os.uname().machine])
    name = source.parent.name
    target = (
        cache_directory() / "images" / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}" / name
    )
    with lock(target.parent.parent / ".lock"):
        if not target.is_file():
            draft = target.with_suffix(".new")
            _go("build", *flags, "-o", str(draft), str(source))
            draft.rename(target)
    return target


def snapshotter_dir() -> Path:
    """Return the unpacked external-snapshotter module.

    Its scripts are in deploy/kubernetes/webhook-example.
    """
    return _download(SNAPSHOTTER)


def cache_directory() -> Path:
    """Return $CERTFLOW_CACHE, or certflow.kubernetes under $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("CERTFLOW_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "certflow.kubernetes"


def build_key(wanted: ProgramSet) -> str:
    """Return a directory name that depends on versions, packages, flags, environment and architecture."""
    recipe = json.dumps(
        [
            [(name, pin.version, pin.checksum, package) for name, (pin, package) in wanted.programs.items()],
            flags(wanted),
            sorted(GO_ENV.items()),
            os.uname().machine,
            *(path.read_text() for path in _own_files(wanted)),
            *((wanted.sibling.version, wanted.sibling.checksum) if wanted.sibling else ()),
        ]
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    return f"{wanted.title}-{digest}"


def flags(wanted: ProgramSet) -> tuple[str, ...]:
    """Return the flags of `go build`."""
    return (*GO_FLAGS, f"-ldflags=-s -w -X {wanted.version}")


def go_mod(upstream: str, release: KubernetesRelease) -> str:
    """Return a go.mod that can build Kubernetes from outside its repository.

    Kubernetes requires its staging modules at v0.0.0 and replaces them by paths, which works only in its own
    tree. Each is also published as v0.MINOR.PATCH of the same release. `upstream` is the text of Kubernetes'
    go.mod. Raises ClusterError if it has no staging module or no Go version.
    """
    staging = re.findall(r"^\s*(?:replace\s+)?(\S+) => \./staging/src/", upstream, re.MULTILINE)
    if not staging:
        raise _unexpected(release.kubernetes)
    published = re.sub(r"^v1\.", "v0.", release.kubernetes.version)
    replaced = (f"replace {module} => {module} {published}" for module in staging)
    return "\n".join([own_go_mod(upstream, release.kubernetes, release.etcd), *replaced, ""])


def sibling_go_mod(upstream: str, main: Pin, sibling: Pin) -> str:
    """Return a go.mod that can build a module whose repository replaces another module by a directory.

    The other module is published too. The module's other replacements are kept.
    """
    others = re.findall(r"^\s*(?:replace\s+)?(\S+ => [^\s.]\S* \S+)$", upstream, re.MULTILINE)
    replaced = [f"{sibling.module} => {sibling.module} {sibling.version}", *others]
    return "\n".join([own_go_mod(upstream, main), *(f"replace {text}" for text in replaced), ""])


def own_go_mod(upstream: str, *pins: Pin) -> str:
    """Return a go.mod that requires these modules.

    `upstream` is the go.mod of the first one and has the Go version.
    """
    go = re.search(r"^go \S+$", upstream, re.MULTILINE)
    if not go:
        raise _unexpected(pins[0])
    godebug = re.findall(r"^godebug .*$", upstream, re.MULTILINE)
    requirements = (f"require {pin.module} {pin.version}" for pin in pins)
    return "\n".join([f"module {MAIN_MODULE}", "", go[0], *godebug, "", *requirements, ""])


def _unexpected(pin: Pin) -> ClusterError:
    return ClusterError(f"the go.mod of {pin.module} {pin.version} is not laid out as expected")


def _place(wanted: ProgramSet) -> Path:
    return cache_directory() / "bin" / build_key(wanted)


def _cached(wanted: ProgramSet, report: Report) -> Path:
    target = _place(wanted)
    if target.is_dir():
        return target
    with lock(target.parent / ".lock", report):
        if not target.is_dir():  # another process may have built it meanwhile
            _build(wanted, target, report)
    return target


def _build(wanted: ProgramSet, target: Path, report: Report) -> None:
    """Build in a temporary directory beside `target` and rename it, so that the cache contains only complete
    builds.
    """
    # this process holds the lock, so no other build uses them
    for stale in target.parent.glob(".building-*"):
        shutil.rmtree(stale, ignore_errors=True)
    log = target.parent / f"{target.name}.log"
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
        source, result = Path(scratch, "source"), Path(scratch, "result")
        source.mkdir()
        result.mkdir()
        names, main = ", ".join(wanted.programs), _main_pin(wanted)
        report(f"Building {names} of {main.module} {main.version}, once: {_estimate(wanted)}.")
        _lay_out(wanted, _download(main), source)
        packages = [package for _pin, package in wanted.programs.values()]
        command = ["go", "build", *flags(wanted), "-o", f"{result}/", *packages]
        _run_with_progress(
            command, source, log, lambda text, elapsed: report(_progress(text, elapsed, wanted))
        )
        for name, (pin, package) in wanted.programs.items():
            built = result / _binary_name(package)
            if not wanted.is_inside:  # else it names the copy, and the module's checksum was compared before
                _verify(built, pin)
            built.rename(result / name)
        result.rename(target)
    log.unlink()
    report(f"Built and cached in {target}.")


def _lay_out(wanted: ProgramSet, upstream: Path, source: Path) -> None:
    """Write go.mod, go.sum and own files of the module that is built."""
    if wanted.is_inside:
        _copy_module(wanted, upstream, source)
        return
    (source / "go.mod").write_text(_go_mod_for(wanted, (upstream / "go.mod").read_text()))
    shutil.copyfile(upstream / "go.sum", source / "go.sum")  # pins the content of all dependencies
    (source / "go.sum").chmod(0o644)  # files of the module cache are read-only
    for path in _own_files(wanted):
        shutil.copyfile(path, source / path.name)


def _copy_module(wanted: ProgramSet, upstream: Path, source: Path) -> None:
    """Copy a module, and add the own main package as its package ./certflow."""
    # Files of the module cache are read-only, and a copy that keeps the modes could not be removed.
    shutil.copytree(upstream, source, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for folder in (source, *(path for path in source.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    (source / "certflow").mkdir()
    for path in _own_files(wanted):
        shutil.copyfile(path, source / "certflow" / path.name)


def _go_mod_for(wanted: ProgramSet, upstream: str) -> str:
    main = _main_pin(wanted)
    if wanted.sibling:
        return sibling_go_mod(upstream, main, wanted.sibling)
    return go_mod(upstream, wanted.release) if wanted.release else own_go_mod(upstream, main)


def _main_pin(wanted: ProgramSet) -> Pin:
    """Return the module whose go.mod and go.sum the build starts from."""
    if wanted.release:
        return wanted.release.kubernetes
    return next(pin for pin, _package in wanted.programs.values())


def _own_files(wanted: ProgramSet) -> list[Path]:
    return sorted((Path(__file__).parent / wanted.own).glob("*.go")) if wanted.own else []


def _run_with_progress(
    command: list[str], directory: Path, log: Path, report: Callable[[str, float], None]
) -> None:
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=directory,
            # go leaves its temporary files in GOTMPDIR when it is killed.
            env=os.environ | GO_ENV | {"GOTMPDIR": str(directory.parent)},
            stdout=out,
            stderr=out,
            preexec_fn=_begin_build,  # noqa: PLW1509 - nothing has started a thread yet
            start_new_session=True,  # the kernel shares the processors between sessions
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(REPORT_EVERY)
                    break
                report(log.read_text(errors="replace"), time.monotonic() - started)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if status != 0:
        raise ClusterError(f"building the test clusters' programs failed; the whole log is {log}{tail(log)}")


def _begin_build() -> None:
    """Prepare the process of a build. Runs in the child.

    The kernel stops it when its parent is killed (prctl(2)). It has the normal priority: with a lower one it would get no time beside
    tests that keep every processor busy, and the tests that wait for it would end last.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _verify(binary: Path, pin: Pin) -> None:
    """Compare the module that a built program names with the table of versions."""
    info = _go("version", "-m", str(binary))
    # dep: a module whose packages a main package of this project uses
    found = re.findall(r"^\s*(?:mod|dep)\s+(\S+)\s+(\S+)(?:\s+(\S+))?", info, re.MULTILINE)
    if (pin.module, pin.version, pin.checksum) not in found:
        raise ClusterError(f"{binary.name} was built from {found[:1]}, the table of versions says {pin}")


def _download(pin: Pin) -> Path:
    """Download a module with the go command, compare its checksum, and return its unpacked directory."""
    info = json.loads(_go("mod", "download", "-json", f"{pin.module}@{pin.version}"))
    if info.get("Sum") != pin.checksum:
        raise ClusterError(
            f"{pin.module} {pin.version} has checksum {info.get('Sum')}, expected {pin.checksum}"
        )
    return Path(info["Dir"])


def _go(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["go", *arguments], env=os.environ | GO_ENV, cwd="/", capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError("the test clusters are built with Go 1.26 or newer: no `go` on PATH") from None
    if done.returncode != 0:
        # `go mod download -json` reports a failure in its JSON, other commands on stderr.
        reason = re.search(r'"Error": "(.*)"', done.stdout)
        raise ClusterError(f"go {' '.join(arguments)}: {reason[1] if reason else done.stderr.strip()}")
    return done.stdout


def _binary_name(package: str) -> str:
    """Return the last element of a package's path, without a version suffix, as go build does."""
    return next(part for part in reversed(package.split("/")) if not re.fullmatch(r"v\d+", part))


@contextlib.contextmanager
def lock(path: Path, report: Report = say) -> Iterator[None]:
    """Hold a lock while the block runs. Report a wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another build of the test clusters' programs is running; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _estimate(wanted: ProgramSet) -> str:
    return f"about {max(1, round(wanted.cpu_seconds / (os.cpu_count() or 1) / 60))} min"


def _progress(log: str, elapsed: float, wanted: ProgramSet) -> str:
    """Return the progress of a build from the packages that its log names. `elapsed` is in seconds."""
    done = sum(not line.startswith("go: ") for line in log.splitlines())
    clock = f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}"
    if done < wanted.packages / 20:  # too early to estimate, or still downloading
        return f"  {clock} so far; {_estimate(wanted)} in all"
    left = max(1, round(elapsed * (wanted.packages / done - 1) / 60))
    return f"  {clock} so far; {done} of {wanted.packages} packages compiled; about {left} min left"
