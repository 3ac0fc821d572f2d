# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What every module of this collection promises to Ansible."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  check_mode:
    description:
      - Reads, decides and says what would change, without writing anything but server dry runs and access reviews.
    support: full
  diff_mode:
    description:
      - Shows what changes in meaning - names, dates, fingerprints - never PEM and never a key.
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
      - Does the same in check mode, as it only reads.
    support: full
  diff_mode:
    description:
      - Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - Reads only.
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
      - Reads, looks and sends server dry runs as ever, and does not write the line break that O(renew_connections) asks for.
    support: full
  diff_mode:
    description:
      - A line break at the end of a C(caBundle) means nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second run changes nothing.
    support: partial
    details:
      - With O(renew_connections) each run that finds no other proof changes a line break.
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
      - Reads and sends server dry runs as ever, and creates nothing. What cannot be seen then is said to be unproven.
    support: full
  diff_mode:
    description:
      - Nothing that it creates is left, so there is no difference to show.
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
