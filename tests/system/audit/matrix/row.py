# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A row of the matrix: a fault or a shape, what the API server does with it, and what the audit says about it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.world.certificates import Leaf

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import Lab

ACCEPTED = "accepted"
SILENT = "silent"
#: The bundle that is the certificate of the server.
LEAF = ("the leaf",)
#: In fields of webhooks: the namespace of the lab.
OWN_NAMESPACE = "OWN-NAMESPACE"


@dataclass(frozen=True)
class Pod:
    """A pod of a webhook, and its server."""

    #: None for a server without TLS.
    leaf: Leaf | None = field(default_factory=Leaf)
    #: The changes of the TLS context of the server.
    tls: Callable[[Any], None] | None = None
    #: False for an endpoint that gets no connections.
    is_ready: bool = True
    #: False if no program listens at the port.
    listens: bool = True
    #: Seconds until the server begins with the handshake.
    delay: float = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    #: The name of the port of the Service.
    port_name: str = ""


HEALTHY = (Pod(),)


@dataclass(frozen=True)
class Shape:
    """A webhook configuration, the Service that it calls, and the pods of the Service."""

    pods: tuple[Pod, ...] = HEALTHY
    #: Names of CAs, or the bytes of the caBundle, or None for no caBundle.
    bundle: tuple[str, ...] | bytes | None = ("root",)
    #: Changes the bytes of the caBundle.
    rewrite: Callable[[bytes], bytes] = bytes
    #: Fields of the webhook.
    webhook: Mapping[str, Any] = field(default_factory=dict)
    #: Fields of the Service.
    service: Mapping[str, Any] = field(default_factory=dict)
    #: Fields of the metadata of the configuration.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_mutating: bool = False
    #: The name of the Service that the webhook calls, "" for that of the shape.
    calls: str = ""
    #: The port that the webhook calls, 0 for that of the Service.
    port: int = 0
    #: The host of a URL, "" for a Service.
    url: str = ""
    #: The program that writes the configuration.
    field_manager: str = "an-operator"
    #: The further webhooks of the configuration, as changes of the first one.
    others: tuple[Mapping[str, Any], ...] = ()


#: Makes the objects of a row. Returns the names of the objects, and the function that asks the API server.
Make = Callable[["Lab", str], "Made"]


@dataclass(frozen=True)
class Made:
    """The objects of a row."""

    #: Their names in findings.
    names: tuple[str, ...]
    #: Returns the answer of the API server.
    ask: Callable[[], str]


@dataclass(frozen=True)
class Row:
    """A fault or a healthy shape."""

    name: str
    #: A part of the answer of the API server.
    answer: str
    #: The findings of the audit above info, as the page shows them, or SILENT.
    says: str
    what: Shape | Make
    #: True if `make test` runs the row too.
    is_daily: bool = False

    @property
    def id(self) -> str:
        """Return a name for objects: the first words, and a checksum."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40]
        return f"{words}-{zlib.crc32(self.name.encode()):08x}"


def chain(*sent: str, **fields: Any) -> tuple[Pod, ...]:
    """Return one pod with a leaf of the first CA, which sends the other CAs."""
    return (Pod(Leaf(sent, **fields)),)


def healthy(name: str, shape: Shape | Make, *, is_daily: bool = False) -> Row:
    """Return a row that the API server accepts, and about which the audit is silent."""
    return Row(name, ACCEPTED, SILENT, shape, is_daily)


def find_duplicates(rows: Sequence[Row]) -> list[str]:
    """Return the names and ids that two rows have."""
    return [
        text
        for texts in ([row.name for row in rows], [row.id for row in rows])
        for text in set(texts)
        if texts.count(text) > 1
    ]
