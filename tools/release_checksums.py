# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write plugins/module_utils/_snapshot/release/checksums.py. Run `make sums` after a row is added to RELEASES.

The go command fetches the modules into an empty cache, so it verifies each module with the checksum database. The settings of
the environment do not change that.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

TABLE = Path(__file__).parents[1] / "plugins" / "module_utils" / "_snapshot" / "release" / "checksums.py"
MODULE = "github.com/kubernetes-csi/external-snapshotter"
# Release -> the version of the client module, which has its CustomResourceDefinitions. Other releases are not available as
# modules: the tags of 5.x belong to module v4.
RELEASES = {
    "4.2.1": "4.2.0",
    "6.2.2": "6.2.0",
    "6.3.0": "6.3.0",
    "7.0.2": "7.0.0",
    "8.1.0": "8.0.0",
    "8.2.0": "8.2.0",
    "8.2.1": "8.2.0",
    "8.3.0": "8.2.0",
    "8.4.0": "8.4.0",
    "8.5.0": "8.4.0",
    "8.6.0": "8.6.0",
    "8.7.0": "8.7.0",
}
# The directory in the repository, the module that has it ("" or "client/"), the directory in the module, and the used files.
DIRECTORIES = (
    ("deploy/kubernetes/snapshot-controller", "", "deploy/kubernetes/snapshot-controller", "*-snapshot-controller.yaml"),
    ("deploy/kubernetes/webhook-example", "", "deploy/kubernetes/webhook-example", "*webhook.yaml"),
    ("deploy/kubernetes/webhook-example", "", "deploy/kubernetes/webhook-example", "*-template"),
    ("client/config/crd", "client/", "config/crd", "*.storage.k8s.io_*.yaml"),
)  # fmt: skip
# Settings that switch off the go command's checksum database.
LENIENT = ("GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOINSECURE", "GOFLAGS")
HEAD = '''\
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""SHA-256 sums of the files of each release that are used. Written by tools/release_checksums.py; do not edit.

Source: the modules github.com/kubernetes-csi/external-snapshotter/vN and .../client/vN, verified by the go command's
checksum database. The files equal those of the release's tag.
"""

from __future__ import annotations

'''
TAIL = """\
# Release -> file -> sum.
SUMS: dict[str, dict[str, str]] = {{
    release: {{
        name: value
        for name, values in FILES.items()
        for value, releases in values.items()
        if release in releases.split()
    }}
    for release in "{releases}".split()
}}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        sums = {
            release: _sums_of(
                {"": _download("", release, cache), "client/": _download("client/", client, cache)}
            )
            for release, client in RELEASES.items()
        }
        _go(cache, "clean", "-modcache")
    TABLE.write_text(render(sums))


def render(sums: dict[str, dict[str, str]]) -> str:
    """Return the text of the table's file. Most files are the same in several releases, so the table is by file."""
    releases: dict[str, dict[str, list[str]]] = {}
    for release, files in sums.items():
        for name, value in files.items():
            releases.setdefault(name, {}).setdefault(value, []).append(release)
    lines = [
        "# File, by its path in the repository -> its sum -> the releases that have it.",
        "FILES: dict[str, dict[str, str]] = {",
    ]
    for name, values in sorted(releases.items()):
        rows = (f'        "{value}": "{" ".join(having)}",' for value, having in values.items())
        lines += [f'    "{name}": {{', *rows, "    },"]
    return "\n".join([HEAD.rstrip("\n"), "", *lines, "}", TAIL.format(releases=" ".join(sums))])


def _sums_of(modules: dict[str, Path]) -> dict[str, str]:
    found = {
        f"{directory}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for directory, module, below, pattern in DIRECTORIES
        for path in (modules[module] / below).glob(pattern)
    }
    return dict(sorted(found.items()))


def _download(module: str, version: str, cache: str) -> Path:
    major = version.partition(".")[0]
    answer = _go(cache, "mod", "download", "-json", f"{MODULE}/{module}v{major}@v{version}")
    return Path(json.loads(answer)["Dir"])


def _go(cache: str, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if name not in LENIENT}
    done = subprocess.run(
        ["go", *arguments],
        env=own | {"GOMODCACHE": cache, "GOENV": "off"},
        cwd="/",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
