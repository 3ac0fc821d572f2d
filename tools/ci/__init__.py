# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every quality gate of the repository, and the virtual environments of the gates.

`python3 -m tools.ci` runs with Python 3.11 or newer and needs only the standard library.
"""
