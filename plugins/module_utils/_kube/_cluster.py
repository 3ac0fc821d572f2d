# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a cluster shows of itself, as plain data for the rules that recognise its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import Client


def cluster_facts(client: Client) -> dict[str, Any]:
    """Return what the cluster shows of itself.

    version: {"gitVersion"}; api_host: host name of the API server's address; api_groups: names; nodes: at most five,
    each {"name", "labels", "annotations", "addresses", "provider_id", "os_image", "kubelet_version"};
    cluster_roles, config_maps ("namespace/name"): those that exist of the few that are a provider's mark;
    service_networks: CIDRs; unreadable: {fact: reason} for what this user may not read.
    Raises ConnectionFailed and AuthenticationError; any other refusal is a reason in unreadable.
    """
    raise NotImplementedError
