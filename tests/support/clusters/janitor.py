# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the end of a fleet's owner, and remove what it left running."""

from __future__ import annotations

import sys

from tests.support.clusters import directories
from tests.support.clusters.processes import Process


def main() -> None:
    Process(int(sys.argv[1]), int(sys.argv[2])).wait()
    directories.remove_leftovers()


if __name__ == "__main__":
    main()
