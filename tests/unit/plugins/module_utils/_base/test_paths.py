# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of this machine: links and folders of other users, modes, limits."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import paths
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_files

from tests.support.failures import fails

pytestmark = pytest.mark.quick

STRANGER = 12345


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that gives a path to another user. Only root can, so otherwise this user is the other one."""

    def give_away(path: Path) -> None:
        if os.geteuid() == 0:
            os.lchown(path, STRANGER, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 0)

    return give_away


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A private file of this user in a private folder."""
    (tmp_path / "home").mkdir(mode=0o700)
    path = tmp_path / "home" / "secret.json"
    path.write_text("secret")
    path.chmod(0o600)
    return path


# The mode of the folder of a link, whether the link is a stranger's, and whether it is followed.
LINKS: tuple[tuple[int, bool, bool], ...] = (
    (0o755, False, True),
    (0o1777, False, True),
    (0o1777, True, False),
    (0o777, False, False),
    (0o775, False, False),
)


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("case", LINKS)
def test_a_link_of_another_user_is_refused(
    tmp_path: Path, secret: Path, give: Callable[[Path], None], case: tuple[int, bool, bool], is_folder: bool
) -> None:
    """Neither the file nor a folder on the way leads elsewhere."""
    mode, is_foreign, is_followed = case
    common = tmp_path / "common"
    common.mkdir()
    common.chmod(mode)
    link = common / "link.json"
    link.symlink_to(secret.parent if is_folder else secret)
    path = link / "secret.json" if is_folder else link
    if is_foreign:
        give(link)
    if is_followed:
        assert report_files.resolve(str(path)) == str(secret)
        return
    with fails("report-not-written", str(path)):
        report_files.check_destination(str(path))
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("secret", 0o600)


def test_a_link_in_a_folder_of_another_user_is_refused(
    tmp_path: Path, secret: Path, give: Callable[[Path], None]
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    (folder / "x.json").symlink_to(secret)
    give(folder)
    with pytest.raises(OSError, match=r"link"):
        paths.resolve(str(folder / "x.json"))


def test_a_path_without_links_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a/../a")
    for path, resolved in (("x", "x"), ("./a//x", "a/x"), ("b/x", "a/x"), ("b/../x", "x"), ("no/../x", "x")):
        assert paths.resolve(path) == str(tmp_path / resolved)
    assert paths.resolve("/../..") == "/"


def test_links_that_lead_to_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"link"):
        paths.resolve(str(tmp_path / "a"))


def test_a_link_that_comes_after_the_check_is_not_followed(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "reports"
    folder.symlink_to(secret.parent)
    with fails("report-not-written"):
        report_files.write(str(folder / "secret.json"), "new")
    assert secret.read_text() == "secret"


@pytest.mark.parametrize(
    ("old", "mode", "new"), [(0o600, 0o644, 0o600), (0o644, 0o600, 0o600), (0o640, 0o644, 0o640)]
)
def test_the_mode_of_a_file_gets_no_wider(tmp_path: Path, old: int, mode: int, new: int) -> None:
    path = tmp_path / "report.prom"
    path.write_text("old")
    path.chmod(old)
    paths.write(str(path), b"new", mode)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", new)
    paths.write(str(path), b"new", mode, is_exact=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_trial_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        paths.write(str(tmp_path / name), b"new", 0o600, is_trial=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "old")]


# The mode of a folder, whether it is a stranger's, and whether others cannot replace an entry.
FOLDERS = (
    (0o700, False, True),
    (0o755, False, True),
    (0o1777, False, True),
    (0o1775, False, True),
    (0o775, False, False),
    (0o777, False, False),
    (0o755, True, False),
    (0o1777, True, False),
)


@pytest.mark.parametrize(("mode", "is_foreign", "keeps"), FOLDERS)
def test_folders_in_which_others_cannot_replace_an_entry(
    tmp_path: Path, give: Callable[[Path], None], mode: int, is_foreign: bool, keeps: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    if is_foreign:
        give(folder)
    assert paths.keeps_entries(folder.stat()) is keeps


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    assert paths.read(str(tmp_path / "file"), 5) == b"12345"
    for path, most in ((tmp_path / "file", 4), (tmp_path / "pipe", 5), (tmp_path, 5), (Path("/dev/zero"), 5)):
        with pytest.raises(OSError, match=r"."):
            paths.read(str(path), most)
