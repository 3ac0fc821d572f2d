# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the pictures of the report's page for the documentation (`make pictures`). It needs Chromium.

optipng makes them smaller if it is installed. The text of a picture depends on the fonts of the machine, so no test compares them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import html

from tests.support.audit import browser, report_sample
from tools.docs import rst

FOLDER = rst.GUIDES / "images"
_OPEN_SHARED = "[...document.querySelectorAll('#broken tbody')].find((one) => one.querySelector('li[data-name]')).querySelector('.more details').open = true"


class Picture(NamedTuple):
    """A picture of the page."""

    size: tuple[int, int]
    scheme: str
    #: JavaScript that runs before the picture is taken.
    script: str


#: File -> picture.
PICTURES = {
    "audit-page.png": Picture((1280, 1080), "light", _OPEN_SHARED),
    "audit-page-narrow.png": Picture((390, 1000), "dark", "scrollTo(0, document.querySelector('#broken').offsetTop - 8)"),
}  # fmt: skip


def main() -> None:
    """Write the pictures."""
    program = browser.find()
    if program is None:
        sys.exit(f"Chromium is not installed: none of {', '.join(browser.NAMES)} is on the PATH")
    with tempfile.TemporaryDirectory() as folder, browser.Browser(program) as page:
        path = Path(folder) / "audit.html"
        path.write_text(html.render(report_sample.compared()), encoding="utf-8")
        for name, picture in PICTURES.items():
            page.show(picture.size, scheme=picture.scheme)
            page.open(path)
            page.value(picture.script)
            # The second frame has the change.
            page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            (FOLDER / name).write_bytes(page.picture())
            if optipng := shutil.which("optipng"):
                subprocess.run([optipng, "-quiet", "-o5", "-strip", "all", FOLDER / name], check=True)
            print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
