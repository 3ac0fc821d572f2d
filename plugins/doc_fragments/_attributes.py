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
  action_group:
    description:
      - Use C(group/certflow.kubernetes.k8s) in C(module_defaults) to set the connection for this module. The group
        extends C(kubernetes.core.k8s).
    support: full
    membership:
      - certflow.kubernetes.k8s
"""
    PROBE = r"""
attributes:
  check_mode:
    description:
      - Sends the same requests as otherwise, except that it does not write the line break of O(renew_connections).
    support: full
  diff_mode:
    description:
      - The module changes only a line break at the end of a C(caBundle), so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second run changes nothing.
    support: partial
    details:
      - With O(renew_connections) each run that has no other proof changes a line break.
  action_group:
    description:
      - Use C(group/certflow.kubernetes.k8s) in C(module_defaults) to set the connection for this module. The group
        extends C(kubernetes.core.k8s).
    support: full
    membership:
      - certflow.kubernetes.k8s
"""
    PROOF = r"""
attributes:
  check_mode:
    description:
      - Reads and sends server dry runs, and creates nothing. It reports what it cannot verify this way as unproven.
    support: full
  diff_mode:
    description:
      - The module deletes everything that it creates, so there is no difference to show.
    support: N/A
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
