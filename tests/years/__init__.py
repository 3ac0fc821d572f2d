# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Years of a fleet: time that jumps, events from a seed, ordinary runs of the playbooks, and the API server as the judge.

`make years SEED=1 ROUNDS=24` runs it. A round is a month. See the page "Reliability" of the documentation, and the docstring of each file.
"""
