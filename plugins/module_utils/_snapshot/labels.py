# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Name the programs of external-snapshotter, and the labels by which an upgrade tells pods apart. Pure."""

from __future__ import annotations

# The name of upstream's Deployment, ServiceAccount and image of the controller.
CONTROLLER_NAME = "snapshot-controller"
CONTROLLER, VALIDATION, CONVERSION, SIDECAR = "controller", "validation", "conversion", "csi-snapshotter"
# A label of pods. It tells the pods of a release from older ones while both run under one Service.
RELEASE_LABEL = "app.kubernetes.io/version"
# A label of a webhook's pods. It tells the pods with another port of the same release apart.
PORT_LABEL = "certflow.kubernetes/port"
# A label of pods and ReplicaSets without their Deployment. Its value is the Deployment's name.
ORPHAN_LABEL = "certflow.kubernetes/detached"
