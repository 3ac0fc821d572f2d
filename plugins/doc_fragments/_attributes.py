# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Attributes of the modules: check mode, diff mode, idempotence, action group."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  check_mode:
    description:
      - Reads, decides and reports what would change. It sends only server dry runs and access reviews.
    support: full
  diff_mode:
    description:
      - Shows names, dates and fingerprints of what changes. It never shows PEM text or a key.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second run changes nothing.
    support: full
  action_group:
    description:
      - Use C(group/certflow.kubernetes.k8s) in C(module_defaults) to set the connection for this module. The group
        extends C(kubernetes.core.k8s).
    support: full
    membership:
      - certflow.kubernetes.k8s
"""
    INFO = r"""
attributes:
  check_mode:
    description:
      - Does the same in check mode, because it only reads.
    support: full
  diff_mode:
    description:
      - The module changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - The module only reads.
    support: full
"""
