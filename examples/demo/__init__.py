# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of `make demo` (story.py), `make demo-fleet` (fleet.py), `make demo-ca` (cluster_ca.py) and `make demo-upgrade` (upgrade.py)."""
