# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test each source of manifests, and the error of each source that cannot be used."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._download import fetch
from ansible_collections.certflow.kubernetes.plugins.module_utils._download.source_auth import SourceError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    release_archive,
    release_source,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_source import (
    ReleaseSource,
)

from tests.support.api_server import _context
from tests.support.certificates import server_pki as pki
from tests.unit.plugins.module_utils._kube import raw

RELEASE = "9.1.2"
CRD = "client/config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml"
FILES = {release_archive.MARKER: b"kind: Deployment\n", CRD: b"kind: CustomResourceDefinition\n"}
SUMS = {RELEASE: {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}}
TEXTS = {name: data.decode() for name, data in FILES.items()}


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def under(prefix: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{prefix}{name}": data for name, data in files.items()}


TAGGED = under("external-snapshotter-9.1.2/")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Serve a directory on loopback. Yield the URL, the directory, and the requested paths."""
    directory, asked = tmp_path / "served", list[str]()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            asked.append(self.path)

    directory.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", directory, asked
    server.shutdown()
    server.server_close()
    thread.join()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def get(tmp_path: Path, where: Path | str, sums: dict[str, dict[str, str]] = SUMS) -> dict[str, str]:
    return release_source.files(ReleaseSource(str(where), tmp_path / "cache", sums), RELEASE)


def test_a_directory(tmp_path: Path) -> None:
    write(tmp_path / "v9.1.2", FILES)
    assert get(tmp_path, tmp_path / "v{version}") == TEXTS
    assert not (tmp_path / "cache").exists()


# Name of the archive: its content.
ARCHIVES = {
    "tag.tar.gz": tar(TAGGED),
    "tag.tgz": tar(TAGGED),
    "plain.tar": tar(FILES, "w"),
    "a name without an ending": tar(TAGGED),
    "dots.tar.gz": tar(under("./external-snapshotter-9.1.2/")),
    "with a copy below.tar": tar({**TAGGED, **under("external-snapshotter-9.1.2/vendor/x/", dict.fromkeys(FILES, b"-"))}, "w"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name])
    assert get(tmp_path, tmp_path / name) == TEXTS
    assert get(tmp_path, (tmp_path / name).as_uri()) == TEXTS


def test_a_fetched_archive_is_kept(tmp_path: Path, served: tuple[str, Path, list[str]]) -> None:
    url, directory, asked = served
    (directory / "v9.1.2.tar.gz").write_bytes(tar(TAGGED))
    for _time in range(2):
        assert get(tmp_path, f"{url}/v{{version}}.tar.gz") == TEXTS
    assert asked == ["/v9.1.2.tar.gz"]
    kept = next((tmp_path / "cache").glob(f"**/{CRD}"))
    kept.write_text("kind: Other\n")
    assert get(tmp_path, f"{url}/v{{version}}.tar.gz") == TEXTS  # fetched again, not believed
    assert len(asked) == 2


def _archive_of(data: bytes) -> Callable[[Path], str]:
    def make(tmp_path: Path) -> str:
        (tmp_path / "a.tar.gz").write_bytes(data)
        return str(tmp_path / "a.tar.gz")

    return make


def _linked(tmp_path: Path) -> str:
    """Return a directory with a link to a file outside."""
    write(tmp_path / "d", FILES)
    (tmp_path / "outside").write_bytes(FILES[CRD])
    (tmp_path / "d" / CRD).unlink()
    (tmp_path / "d" / CRD).symlink_to(tmp_path / "outside")
    return str(tmp_path / "d")


CHANGED = {**FILES, CRD: b"kind: Other\n"}
# For each fault: the function that makes it, and the message.
FAULTS: dict[str, tuple[Callable[[Path], str], str]] = {
    "a changed file": (lambda p: str(write(p / "d", CHANGED)), rf"{CRD} from .* is not that of release 9.1.2: its digest is sha256:\w+, not sha256:\w+"),
    "a changed file in an archive": (_archive_of(tar(under("x/", CHANGED))), "is not that of release"),
    "a missing file": (lambda p: str(write(p / "d", {CRD: FILES[CRD]})), f"lacks {release_archive.MARKER} of release 9.1.2"),
    "another archive": (_archive_of(tar({"README": b"hello"})), "is not a release of external-snapshotter"),
    "no archive": (_archive_of(b"<html>sign in</html>"), "is damaged or incomplete"),
    "a truncated tar": (_archive_of(tar(TAGGED, "w")[:1000]), "is damaged or incomplete|lacks"),
    "a truncated tar.gz": (_archive_of(tar(TAGGED)[:-30]), "is damaged or incomplete"),
    "an empty file": (_archive_of(b""), "is damaged or incomplete"),
    "a path out of a tar": (_archive_of(tar({**TAGGED, "x/../../etc/passwd": b"x"})), "names a file outside of its directory: x/../../etc/passwd"),
    "a link out of a directory": (_linked, "leads out of the directory"),
    "neither file nor directory": (lambda p: str(p / "nothing"), "nothing cannot be read: No such file"),
    "a missing archive": (lambda p: str(p / "nothing.tar"), "nothing.tar cannot be read: No such file"),
    "another scheme": (lambda _p: "oci://registry.invalid/x", "scheme oci is not file, http or https"),
    "a password in the URL": (lambda _p: "https://me:secret@mirror.invalid", "has a user name"),
    "a password that ends the host": (lambda _p: "https://me:se/cret@mirror.invalid", "has a user name"),
    "a password without a scheme": (lambda _p: "me:secret@mirror.invalid", "has a user name"),
    "no server": (lambda _p: "http://127.0.0.1:9/x.zip", "cannot be fetched: Connection refused"),
    "brackets without an address": (lambda _p: "https://me:secret@[mirror/x.zip", "no valid host"),
    "an empty label, as of an unset variable": (lambda _p: "https://.mirror.invalid/x.zip", "cannot be fetched: "),
    "a label that is too long": (lambda _p: f"http://{'a' * 64}.invalid/x.zip", "cannot be fetched: "),
    "a letter that is not ASCII": (lambda _p: "http://127.0.0.1:9/ä.zip", r"cannot be fetched: .*'\\xe4'"),
    "a path that is too long": (lambda _p: "/" + "a" * 300, "cannot be read: File name too long"),
    "a path with NUL": (lambda _p: "release\0.zip", "cannot be read: "),
    "a directory as a file URL": (lambda p: p.as_uri(), "cannot be read: Is a directory"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_cannot_be_used_fails_with_one_line(tmp_path: Path, fault: str) -> None:
    make, said = FAULTS[fault]
    with pytest.raises(SourceError, match=said) as caught:
        get(tmp_path, make(tmp_path))
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert "secret" not in str(caught.value)
    assert not [*(tmp_path / "cache").glob("external-snapshotter/*/*")]


def test_a_server_without_the_release(tmp_path: Path, served: tuple[str, Path, list[str]]) -> None:
    with pytest.raises(SourceError, match=r"was answered with 404 .*Check that the server has this release"):
        get(tmp_path, f"{served[0]}/v9.1.2.tar.gz")


def test_an_answer_that_ends_too_soon(tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the library's
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"PK" * 100)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(SourceError, match=r"too soon|IncompleteRead"):
            fetch.read(f"http://127.0.0.1:{server.server_address[1]}/a.zip", time.monotonic() + 60)
        server.shutdown()


def test_a_release_without_a_row_needs_the_users_sums(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"release 9.1.2 are not known.*with sums"):
        get(tmp_path, tmp_path, sums={})


def test_the_sums_of_changed_files_keep_those_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the others, a part of the release would not be installed."""
    monkeypatch.setattr(release_source, "SUMS", SUMS)
    changed = {CRD: FILES[CRD] + b"# changed"}
    write(tmp_path, {**FILES, **changed})
    own = {RELEASE: {CRD: hashlib.sha256(changed[CRD]).hexdigest()}}
    assert get(tmp_path, tmp_path, sums=own) == {**TEXTS, CRD: changed[CRD].decode()}


@pytest.mark.parametrize("entry", [["x"], "x", {CRD: 1}, {CRD: {"a": "b"}}], ids=str)
def test_sums_of_another_shape(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(SourceError, match=f"entry {RELEASE} of sums"):
        get(tmp_path, tmp_path, sums={RELEASE: entry})


def test_a_directory_with_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read it. Root may read every file."""
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(SourceError, match="cannot be read: Permission denied"):
        get(tmp_path, tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "a.tar").write_bytes(tar(TAGGED))
    with pytest.raises(SourceError, match=r"he cache directory .* cannot be used: File exists"):
        get(tmp_path, tmp_path / "a.tar")


def test_sums_that_lead_out_of_the_cache_write_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(TAGGED))
    sums = {RELEASE: {**SUMS[RELEASE], "../../../../escaped": hashlib.sha256(b"").hexdigest()}}
    with pytest.raises(SourceError, match="lacks"):
        get(tmp_path, tmp_path / "a.tar", sums=sums)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.usefixtures("_no_home")
@pytest.mark.parametrize(
    "source",
    [ReleaseSource("~/manifests", Path("absent"), SUMS), ReleaseSource("absent", Path("~/cache"), SUMS)],
)
def test_a_directory_below_a_home_that_does_not_exist(
    source: ReleaseSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is written below a directory with the name "~"."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CertflowError) as caught:
        release_source.files(source, RELEASE)
    assert caught.value.code == "invalid-input"
    assert list(tmp_path.iterdir()) == []


# Archives that are not of a release: they unpack to far more bytes, or to other content than they seem to hold.
MIB = 2**20
ZEROS = bytes(MIB)
COPIES = {f"copy-{number}/{CRD}": ZEROS for number in range(40)}
# Smaller limits than the collection's own, so no test has to make large archives.
LIMITS = {"MOST_ENTRIES": 300, "MOST_BYTES_UNPACKED": 32 * MIB}


def header(name: str, size: int, kind: bytes, *, link: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size, kind, link
    return entry.tobuf(tarfile.GNU_FORMAT)


def blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    """Return a pax header for the next entry."""
    content = b""
    for key, value in records.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length += 1
        content += str(length).encode() + line
    return header("x", len(content), tarfile.XHDTYPE) + blocks(content)


def entry(name: str, data: bytes) -> bytes:
    return header(name, len(data), tarfile.REGTYPE) + blocks(data)


def gzipped(*parts: bytes) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return packed.getvalue()


REST = [(name, data) for name, data in TAGGED.items() if not name.endswith(CRD)]
TAIL = bytes(1024)
# Name: the archive, and part of the message.
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a tar.gz with 40 files of 1 MiB": (lambda: tar(COPIES), "more than 16777216 bytes of manifests"),
    "a large file in a tar": (lambda: tar({CRD: ZEROS + b"x"}), f"{CRD} has more than 1048576 bytes"),
    "a large header of pax": (lambda: gzipped(pax(comment="x" * 20 * MIB), entry(CRD, b"x"), TAIL), r"a header of \d+ bytes"),
    "a long name": (lambda: gzipped(header("x", 20 * MIB, tarfile.GNUTYPE_LONGNAME), *[ZEROS] * 20), r"a header of \d+ bytes"),
    "headers without an entry": (lambda: gzipped(*[pax(comment="x")] * 301), "a header of"),
    "a header of pax with many records": (lambda: gzipped(*[pax(**{f"{n}": "" for n in range(6000)})] * 20), "is not a release"),
    "a malformed pax record": (lambda: gzipped(header("x", 512, tarfile.XHDTYPE), b"0 a=b\n" + bytes(506)), "a pax record is malformed"),
    "a huge size by pax": (lambda: gzipped(pax(size=str(2**40)), entry("x", b""), *[ZEROS] * 40), "unpacks to more than 33554432 bytes"),
    "a huge tar": (lambda: gzipped(header("x", 2**33, tarfile.REGTYPE), *[ZEROS] * 40), "unpacks to more than 33554432 bytes"),
    "many entries in a tar": (lambda: gzipped(entry("x", b"") * 301), "more than 300 entries"),
    "a name twice in a tar": (lambda: gzipped(*(entry(*pair) for pair in TAGGED.items()), *(entry(*pair) for pair in TAGGED.items())), "two files with the name"),
    "a symbolic link in a tar": (lambda: gzipped(*(entry(*item) for item in REST), header(f"{next(iter(TAGGED)).partition('/')[0]}/{CRD}", 0, tarfile.SYMTYPE, link="/etc/passwd"), TAIL), f"lacks {CRD}"),
    "a hard link in a tar": (lambda: gzipped(*(entry(*item) for item in REST), header(f"{next(iter(TAGGED)).partition('/')[0]}/{CRD}", 9, tarfile.LNKTYPE, link="x"), TAIL), f"lacks {CRD}"),
    "a sparse file in a tar": (lambda: gzipped(header(CRD, 512, tarfile.GNUTYPE_SPARSE), bytes(512), TAIL), "is a sparse file"),
    "a path out of a tar by pax": (lambda: gzipped(pax(path="../x"), entry("x", b""), TAIL), r"names a file outside of its directory: \.\./x"),
    "an absolute path in a tar": (lambda: gzipped(entry("/x", b""), TAIL), "names a file outside of its directory: /x"),
    "an archive in an archive": (lambda: gzipped(tar(TAGGED)), "damaged or incomplete"),
    "a negative size": (lambda: gzipped(header("x", -5, tarfile.REGTYPE), TAIL), "damaged or incomplete"),
    "an unfinished entry": (lambda: gzipped(header(CRD, 5000, tarfile.REGTYPE), bytes(512)), "ends in the middle"),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_archive_that_is_not_a_release_is_refused(
    tmp_path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept bytes and the unpacked bytes have limits."""
    make, said = BOMBS[bomb]
    for limit, number in LIMITS.items():
        assert getattr(release_archive, limit) > number
        monkeypatch.setattr(release_archive, limit, number)
    (tmp_path / "a.tar.gz").write_bytes(make())
    kept: list[int] = []
    keep = release_archive._Kept.keep

    def count(self: Any, name: str, data: bytes) -> None:
        kept.append(len(data))
        keep(self, name, data)

    monkeypatch.setattr(release_archive._Kept, "keep", count)
    with pytest.raises(SourceError, match=said) as caught:
        get(tmp_path, tmp_path / "a.tar.gz")
    assert "\n" not in str(caught.value)
    assert sum(kept) <= release_archive.MOST_BYTES_KEPT + MIB + 1
    assert max(kept, default=0) <= MIB + 1


# The forms of tar that programs write: git archive, GNU tar, Python, and pax with a long path.
LONG = f"{'d' * 90}/{'e' * 90}/"
TARS: dict[str, Callable[[], bytes]] = {
    "git": lambda: gzipped(header("pax_global_header", 52, tarfile.XGLTYPE), blocks(b"52 comment=" + b"0" * 40 + b"\n"), *(entry(*pair) for pair in TAGGED.items()), TAIL),
    "GNU, long": lambda: gzipped(*(entry(*pair) for pair in under(LONG).items()), TAIL),
    "pax, long": lambda: gzipped(*(pax(path=name, size=str(len(data)), mtime="1.5") + entry("short", data) for name, data in under(LONG).items()), TAIL),
    "links and directories": lambda: gzipped(header("x/", 0, tarfile.DIRTYPE), header("x/l", 700, tarfile.LNKTYPE, link="x/a"), header("x/s", 0, tarfile.SYMTYPE, link="/a"), *(entry(*pair) for pair in under("x/").items()), TAIL),
    "no end": lambda: gzipped(*(entry(*pair) for pair in TAGGED.items())),
}  # fmt: skip


@pytest.mark.parametrize("form", TARS)
def test_every_form_of_tar_is_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(TARS[form]())
    assert get(tmp_path, tmp_path / "a.tar.gz") == TEXTS


# Servers that never end, and others that wait for one


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
def test_a_download_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(release_source, "FETCH_SECONDS", 0.5)
    with (
        raw.talking(partial(raw.dripping, head)) as server,
        pytest.raises(SourceError, match="was not fetched in time"),
    ):
        raw.guarded(lambda: get(tmp_path, f"{server.url}/v{{version}}.tar.gz"))


def test_tls_does_not_take_the_bounds_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = pki.ca()
    (tmp_path / "ca.pem").write_text(ca.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setattr(release_source, "FETCH_SECONDS", 0.5)
    talk = partial(raw.dripping, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    with raw.talking(talk, _context(pki.leaf("server", ca), None)) as server:
        with pytest.raises(SourceError, match="was not fetched in time"):
            raw.guarded(lambda: get(tmp_path, f"{server.url}/v{{version}}.tar.gz"))
        assert server.connections == 1


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="http.client leaves the proxy's answer to the garbage collector"
)
def test_a_proxy_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_source, "FETCH_SECONDS", 0.5)
    with raw.talking(partial(raw.dripping, b"HTTP/1.1 200 ")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(SourceError, match="was not fetched in time"):
            raw.guarded(lambda: get(tmp_path, "https://manifests.invalid/v{version}.tar.gz"))


def test_a_process_that_waits_too_long_for_a_download_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "served", {"a.tar.gz": tar(TAGGED)})
    monkeypatch.setattr(release_source, "WAIT_SECONDS", 0.3)
    with release_source._lock(tmp_path / "cache"):
        with pytest.raises(SourceError) as caught:
            get(tmp_path, tmp_path / "served" / "a.tar.gz")
        assert str(tmp_path / "cache" / ".lock") in caught.value.remedy
        assert "cache_directory" in caught.value.remedy
    assert get(tmp_path, tmp_path / "served" / "a.tar.gz") == TEXTS


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Another user may make it in a common directory."""
    file, cache = tmp_path / "file", tmp_path / "cache"
    file.write_text("content")
    cache.mkdir()
    (cache / ".lock").symlink_to(file)
    with (
        pytest.raises(SourceError, match=r"cache directory .* cannot be used"),
        release_source._lock(cache),
    ):
        pass
    assert file.read_text() == "content"
