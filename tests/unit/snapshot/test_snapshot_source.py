# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where manifests come from: each way there, and one clear line for each way to fail."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot import _archive, _fetch, _source
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._errors import SourceError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._source import Source

RELEASE = "9.1.2"
CRD = "client/config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml"
FILES = {_archive.MARKER: b"kind: Deployment\n", CRD: b"kind: CustomResourceDefinition\n"}
SUMS = {RELEASE: {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}}
TEXTS = {name: data.decode() for name, data in FILES.items()}
MAIN, CLIENT = f"{_source.MODULE}/v9", f"{_source.MODULE}/client/v9"


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def under(prefix: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{prefix}{name}": data for name, data in files.items()}


TAGGED = under("external-snapshotter-9.1.2/")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on loopback: its URL, the directory that it serves, and what it was asked for."""
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
    return _source.files(Source(str(where), tmp_path / "cache", sums), RELEASE)


def test_a_directory(tmp_path: Path) -> None:
    write(tmp_path / "v9.1.2", FILES)
    assert get(tmp_path, tmp_path / "v{version}") == TEXTS
    assert not (tmp_path / "cache").exists()


# Name of the archive: its content.
ARCHIVES = {
    "tag.tar.gz": tar(TAGGED),
    "tag.tgz": tar(TAGGED),
    "plain.tar": tar(FILES, "w"),
    "tag.zip": zipped(TAGGED),
    "dots.tar.gz": tar(under("./external-snapshotter-9.1.2/")),
    "with a copy below.zip": zipped({**TAGGED, **under("external-snapshotter-9.1.2/vendor/x/", dict.fromkeys(FILES, b"-"))}),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name])
    assert get(tmp_path, tmp_path / name) == TEXTS
    assert get(tmp_path, (tmp_path / name).as_uri()) == TEXTS


def test_what_was_fetched_once_is_kept(tmp_path: Path, served: tuple[str, Path, list[str]]) -> None:
    url, directory, asked = served
    (directory / "v9.1.2.tar.gz").write_bytes(tar(TAGGED))
    for _time in range(2):
        assert get(tmp_path, f"{url}/v{{version}}.tar.gz") == TEXTS
    assert asked == ["/v9.1.2.tar.gz"]
    kept = next((tmp_path / "cache").glob(f"**/{CRD}"))
    kept.write_text("kind: Other\n")
    assert get(tmp_path, f"{url}/v{{version}}.tar.gz") == TEXTS  # fetched again, not believed
    assert len(asked) == 2


def test_a_go_module_proxy(tmp_path: Path, served: tuple[str, Path, list[str]]) -> None:
    url, directory, asked = served
    write(directory / "goproxy", module_zips())
    assert get(tmp_path, f"{url}/goproxy/") == TEXTS
    assert asked == [f"/goproxy/{MAIN}/@v/v9.1.2.zip", f"/goproxy/{CLIENT}/@v/v9.1.0.zip"]
    assert _source.files(Source((directory / "goproxy").as_uri(), tmp_path / "other", SUMS), RELEASE) == TEXTS


def module_zips() -> dict[str, bytes]:
    main = {_archive.MARKER: FILES[_archive.MARKER]}
    client = {CRD.partition("/")[2]: FILES[CRD]}
    return {
        f"{MAIN}/@v/v9.1.2.zip": zipped(under(f"{MAIN}@v9.1.2/", main)),
        f"{CLIENT}/@v/v9.1.0.zip": zipped(under(f"{CLIENT}@v9.1.0/", client)),
    }


def _archive_of(data: bytes) -> Callable[[Path], str]:
    def make(tmp_path: Path) -> str:
        (tmp_path / "a.tar.gz").write_bytes(data)
        return str(tmp_path / "a.tar.gz")

    return make


def _linked(tmp_path: Path) -> str:
    """A directory whose file is a link to one outside."""
    write(tmp_path / "d", FILES)
    (tmp_path / "outside").write_bytes(FILES[CRD])
    (tmp_path / "d" / CRD).unlink()
    (tmp_path / "d" / CRD).symlink_to(tmp_path / "outside")
    return str(tmp_path / "d")


CHANGED = {**FILES, CRD: b"kind: Other\n"}
# What is wrong: how it is made, and what is said.
FAULTS: dict[str, tuple[Callable[[Path], str], str]] = {
    "a changed file": (lambda p: str(write(p / "d", CHANGED)), rf"{CRD} from .* is not that of release 9.1.2: its SHA-256 sum is \w+, not \w+"),
    "a changed file in an archive": (_archive_of(tar(under("x/", CHANGED))), "is not that of release"),
    "a missing file": (lambda p: str(write(p / "d", {CRD: FILES[CRD]})), f"lacks {_archive.MARKER} of release 9.1.2"),
    "another archive": (_archive_of(tar({"README": b"hello"})), "holds no release of external-snapshotter"),
    "no archive": (_archive_of(b"<html>sign in</html>"), "is damaged or incomplete"),
    "a truncated tar": (_archive_of(tar(TAGGED, "w")[:1000]), "is damaged or incomplete|lacks"),
    "a truncated tar.gz": (_archive_of(tar(TAGGED)[:-30]), "is damaged or incomplete"),
    "a truncated zip": (_archive_of(zipped(TAGGED)[:-30]), "is damaged or incomplete"),
    "an empty file": (_archive_of(b""), "is damaged or incomplete"),
    "a path out of a tar": (_archive_of(tar({**TAGGED, "x/../../etc/passwd": b"x"})), "names a file outside of itself: x/../../etc/passwd"),
    "an absolute path in a zip": (_archive_of(zipped({**TAGGED, "/etc/passwd": b"x"})), "names a file outside of itself: /etc/passwd"),
    "a link out of a directory": (_linked, "leads out of the directory"),
    "neither file nor directory": (lambda p: str(p / "nothing"), "neither a directory nor a file that exists"),
    "a missing archive": (lambda p: str(p / "nothing.zip"), "nothing.zip cannot be read: No such file"),
    "another scheme": (lambda _p: "oci://registry.invalid/x", "oci is not among file, http and https"),
    "a password in the URL": (lambda _p: "https://me:secret@proxy.invalid", "he URL of proxy.invalid holds a user name"),
    "nobody listens": (lambda _p: "http://127.0.0.1:9/x.zip", "cannot be fetched: Connection refused"),
    "no such file in a proxy": (lambda p: p.as_uri(), r"v9.1.2.zip cannot be read: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_one_clear_line_for(tmp_path: Path, fault: str) -> None:
    make, said = FAULTS[fault]
    with pytest.raises(SourceError, match=said) as caught:
        get(tmp_path, make(tmp_path))
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert "secret" not in str(caught.value)
    assert not [*(tmp_path / "cache").glob("external-snapshotter/*/*")]


def test_a_server_that_has_it_not(tmp_path: Path, served: tuple[str, Path, list[str]]) -> None:
    with pytest.raises(SourceError, match=r"was answered with 404 .*Check that this place has this release"):
        get(tmp_path, served[0])


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
            _fetch.read(f"http://127.0.0.1:{server.server_address[1]}/a.zip")
        server.shutdown()


def test_a_release_without_a_row_needs_the_users_sums(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"release 9.1.2 are not known.*with sums"):
        get(tmp_path, tmp_path, sums={})


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "a.zip").write_bytes(zipped(TAGGED))
    with pytest.raises(SourceError, match=r"he cache directory .* cannot be used: File exists"):
        get(tmp_path, tmp_path / "a.zip")


def test_sums_that_lead_out_of_the_cache_write_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(TAGGED))
    sums = {RELEASE: {**SUMS[RELEASE], "../../../../escaped": hashlib.sha256(b"").hexdigest()}}
    with pytest.raises(SourceError, match="lacks"):
        get(tmp_path, tmp_path / "a.zip", sums=sums)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.usefixtures("_no_home")
@pytest.mark.parametrize(
    "source", [Source("~/manifests", Path("/absent"), SUMS), Source("/absent", Path("~/cache"), SUMS)]
)
def test_a_directory_below_a_home_that_does_not_exist(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept below a directory that is called "~"."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CertflowError) as caught:
        _source.files(source, RELEASE)
    assert caught.value.code == "no-home-directory"
    assert list(tmp_path.iterdir()) == []
