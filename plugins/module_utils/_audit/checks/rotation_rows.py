# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of a rotation of the cluster's CA. They have no finding on a cluster that publishes one CA. Pure."""

from __future__ import annotations

from ..facts import cluster_data as data
from ..facts.finding import INFO, WARNING
from . import rotation_checks
from .check_row import FAILS, ROTATION, Check

_MANUAL = "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/"
_OBJECTS = (data.CONFIGURATIONS, data.DEFINITIONS, data.API_SERVICES)
_CA = (data.CLUSTER_CA, data.API_SERVER)

ROTATION_ROWS: tuple[Check, ...] = (
    Check(
        "cluster-ca-rotation",
        "The CA of the cluster is being rotated",
        ROTATION,
        INFO,
        _CA,
        "At the switch the successor begins to sign. Clients and webhooks that trust only the outgoing CA then fail, one after the other.",
        "Let every client and webhook trust both CAs before the switch. Renew the certificates after it. Remove the outgoing CA last.",
        f"aws/containers-roadmap#2874; {_MANUAL}",
        rotation_checks.check_rotation,
    ),
    Check(
        "bundle-without-successor",
        "The caBundle lacks the successor of the cluster's CA",
        ROTATION,
        WARNING,
        (*_OBJECTS, *_CA, data.SERVICES, data.PORT_FORWARD, data.ENDPOINTS, data.REQUESTS),
        "The API server refuses the first certificate that the successor signs. " + FAILS,
        "Add the successor to the caBundle, and keep the outgoing CA. If cert-manager injects it with inject-apiserver-ca, restart "
        "cainjector.",
        "aws/containers-roadmap#2874; aws/karpenter-provider-aws#9522",
        rotation_checks.check_bundles,
    ),
    Check(
        "kubeconfig-without-successor",
        "The kubeconfig of this run lacks the successor of the cluster's CA",
        ROTATION,
        WARNING,
        _CA,
        "After the switch no task with this kubeconfig connects to the API server.",
        "Write the result certificate_authority_data into certificate-authority-data of the kubeconfig.",
        _MANUAL,
        rotation_checks.check_kubeconfig,
    ),
    Check(
        "ca-order",
        "Programs with OpenSSL refuse the API server, because another CA of the same name comes first",
        ROTATION,
        WARNING,
        (*_CA, data.CLUSTER_INFO),
        'curl, Python and Ruby fail with "certificate signature failure". Programs in Go, such as kubectl, accept the API server.',
        "Put the CA in use before the other CA. For a kubeconfig, the result certificate_authority_data has this order.",
        "aws/containers-roadmap#2638",
        rotation_checks.check_order,
    ),
    Check(
        "client-ca-without-successor",
        "Aggregated API servers do not accept client certificates of the successor",
        ROTATION,
        INFO,
        (data.CLIENT_CA, *_CA),
        "They refuse users and components whose client certificate the successor signed.",
        "Add the successor to the file of --client-ca-file of each API server.",
        _MANUAL,
        rotation_checks.check_client_ca,
    ),
    Check(
        "pods-before-successor",
        "Pods are older than the successor of the cluster's CA",
        ROTATION,
        INFO,
        (data.PODS, *_CA),
        "A program that read ca.crt only at its start does not trust the API server after the switch.",
        "Restart these workloads before the switch, unless their program reads ca.crt again.",
        _MANUAL,
        rotation_checks.check_pods,
    ),
    Check(
        "nodes-before-successor",
        "Nodes are older than the successor of the cluster's CA",
        ROTATION,
        INFO,
        (data.NODES, *_CA),
        "A kubelet that got the CA when its node joined does not trust the API server after the switch.",
        "Replace the nodes that you manage, or add the successor to their kubeconfig, before the switch.",
        _MANUAL,
        rotation_checks.check_nodes,
    ),
    Check(
        "outgoing-ca-left",
        "The cluster still publishes the outgoing CA after the switch",
        ROTATION,
        INFO,
        (*_CA, *_OBJECTS),
        "An owner of the key of the outgoing CA can still act as the API server, or as a webhook whose caBundle has this CA.",
        "Renew the certificates that the outgoing CA signed. Then remove it from the caBundles, and from the published CAs.",
        _MANUAL,
        rotation_checks.check_outgoing,
    ),
)
