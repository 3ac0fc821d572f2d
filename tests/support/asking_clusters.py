# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters whose API server asks a webhook of this machine who a user is, or what it may do."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clusters
from tests.support.clusters import kubeconfig
from tests.support.webhooks.https_webhook import Reply, WebhookServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster


@contextlib.contextmanager
def asked_by_an_api_server(
    profile: str, answer: Callable[[dict[str, Any]], Reply], directory: Path, *flags: str
) -> Iterator[Cluster]:
    """Start a cluster of a profile whose API server asks a webhook for each user. It calls without TLS.

    flags: more flags of the API server. "{}" stands for the file that leads to the webhook.
    """
    server = WebhookServer(answer).serve()
    webhook = kubeconfig.write(directory / "webhook", "asked", f"http://127.0.0.1:{server.port}", "", user={})
    usual = clusters.PROFILES[profile]
    more = tuple(flag.format(webhook) for flag in flags)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(server):
        patch.setitem(
            clusters.PROFILES, profile, dataclasses.replace(usual, apiserver=(*usual.apiserver, *more))
        )
        with clusters.running({"asking": profile}) as fleet:
            yield fleet["asking"]
