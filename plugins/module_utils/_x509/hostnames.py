# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare a host name with the names of a certificate, by the rules of Go's crypto/x509 VerifyHostname.

The common name does not count.
"""

from __future__ import annotations

import ipaddress
import re
import string
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from .subject_names import SubjectFacts

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# A label does not begin with a hyphen. Underscores are accepted, as in Go.
_HOST = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_][a-z0-9_-]*)*")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_MOST_NAMES_SHOWN = 100


def holds(facts: SubjectFacts, name: str) -> bool:
    """Return True if the certificate is for this host name or address. IPv6 addresses may have brackets."""
    address = parse_address(_unbracketed(name))
    if address is not None:
        return any(parse_address(candidate) == address for candidate in facts.ip_addresses)
    return any(_matches(pattern, name) for pattern in facts.dns_names)


def mismatch(facts: SubjectFacts, name: str, *, has_alternative_names: bool) -> str:
    """Return Go's reason why the certificate is not for the name."""
    name = _unbracketed(name) if parse_address(_unbracketed(name)) else name
    if not has_alternative_names and _matches_labels(facts.common_name, name):
        return "certificate relies on legacy Common Name field, use SANs instead"
    is_address = parse_address(name) is not None
    if is_address and not facts.ip_addresses:
        return f"cannot validate certificate for {name} because it doesn't contain any IP SANs"
    valid = (
        [str(parse_address(entry) or entry) for entry in facts.ip_addresses]
        if is_address
        else facts.dns_names
    )
    if len(valid) >= _MOST_NAMES_SHOWN:
        return f"certificate is valid for {len(valid)} {'IP SANs' if is_address else 'names'}, but none matched {name}"
    if not any(valid):
        return f"certificate is not valid for any names, but wanted to match {name}"
    return f"certificate is valid for {', '.join(valid)}, not {name}"


def parse_address(text: str) -> Address | None:
    """Return the address, None for another text and for a zone. ::ffff:0:0/96 becomes the IPv4 address."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _unbracketed(name: str) -> str:
    return name[1:-1] if len(name) >= 3 and name[0] == "[" and name[-1] == "]" else name


def _matches(pattern: str, name: str) -> bool:
    """Return True if the name matches. Only valid host names may have a wildcard or a trailing dot."""
    if _is_pattern(pattern) and _HOST.fullmatch(_lower(name.removesuffix("."))):
        return _matches_labels(pattern, name)
    return _lower(pattern) == _lower(name) and name not in ("", ".")


def _matches_labels(pattern: str, name: str) -> bool:
    wanted: list[str] = _lower(pattern).split(".")
    labels = _lower(name.removesuffix(".")).split(".")
    if not pattern or len(wanted) != len(labels):
        return False
    return wanted[1:] == labels[1:] and wanted[0] in ("*", labels[0])


def _is_pattern(pattern: str) -> bool:
    text = _lower(pattern)
    return _HOST.fullmatch(text.removeprefix("*.")) is not None


def _lower(text: str) -> str:
    """Return the text with ASCII letters in lower case. Unicode rules may turn one name into another."""
    return text.translate(_LOWER)
