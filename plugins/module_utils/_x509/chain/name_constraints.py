# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare names with a certificate, and check nameConstraints (RFC 5280 section 4.2.1.10), by the rules of Go's crypto/x509.

The common name does not count.
"""

from __future__ import annotations

import ipaddress
import json
import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Callable, NamedTuple
from urllib.parse import urlsplit

from ..certificate_facts import CertificateFacts, parse_address
from ..encoding.go_parser import (
    ADDRESS,
    ALTERNATIVE_NAMES,
    DNS_NAME,
    EMAIL,
    NAME_CONSTRAINTS,
    NAME_KINDS,
    URI,
    GeneralName,
    is_domain,
)
from ..errors import CertificateError

# A label does not begin with a hyphen. Underscores are accepted, as in Go.
_HOST = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_][a-z0-9_-]*)*")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_MOST_NAMES_SHOWN = 100


def is_for_name(facts: CertificateFacts, name: str) -> bool:
    """Return True if the certificate is for this host name or address. IPv6 addresses may have brackets."""
    address = parse_address(_unbracketed(name))
    if address is not None:
        return any(parse_address(candidate) == address for candidate in facts.ip_addresses)
    return any(_matches(pattern, name) for pattern in facts.dns_names)


def describe_mismatch(facts: CertificateFacts, name: str) -> str:
    """Return Go's reason why the certificate is not for the name."""
    name = _unbracketed(name) if parse_address(_unbracketed(name)) else name
    if ALTERNATIVE_NAMES not in facts.extensions and _matches_labels(facts.common_name, name):
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


def _unbracketed(name: str) -> str:
    return name[1:-1] if len(name) >= 3 and name[0] == "[" and name[-1] == "]" else name


def _matches(pattern: str, name: str) -> bool:
    """Return True if the name matches. Only valid host names may have a wildcard or a trailing dot."""
    if _HOST.fullmatch(_lower(pattern).removeprefix("*.")) and _HOST.fullmatch(
        _lower(name.removesuffix("."))
    ):
        return _matches_labels(pattern, name)
    return _lower(pattern) == _lower(name) and name not in ("", ".")


def _matches_labels(pattern: str, name: str) -> bool:
    wanted: list[str] = _lower(pattern).split(".")
    labels = _lower(name.removesuffix(".")).split(".")
    return bool(pattern) and wanted[1:] == labels[1:] and wanted[0] in ("*", labels[0])


def _lower(text: str) -> str:
    """Return the text with ASCII letters in lower case. Unicode rules may turn one name into another."""
    return text.translate(_LOWER)


# The largest product of names and subtrees of a chain. Go before 1.26 has the same limit.
MOST_COMPARISONS = 250_000


#: The kind of a subtree, and what _subtree returns of it.
Subtree = tuple[int, Any]


class ConstraintRule(NamedTuple):
    """The rule for one kind of name."""

    #: Go's word for the kind.
    word: str
    #: Returns True if a name is in a subtree. The last argument is True for excluded subtrees.
    is_within: Callable[[Any, Any, bool], bool]


@lru_cache(maxsize=1000)  # The same chains are judged again for each moment.
def refusal(chain: Sequence[CertificateFacts]) -> str:
    """Return Go's reason if a certificate of the chain does not allow a name of a certificate below it, else "". The leaf is the first one."""
    comparisons = 0
    for position, member in enumerate(chain):
        above = chain[position + 1 :] if member.alternative_names else ()
        for constraints in filter(None, (entry.extensions.get(NAME_CONSTRAINTS) for entry in above)):
            comparisons += len(member.alternative_names) * sum(map(len, constraints))
            if comparisons > MOST_COMPARISONS:
                return "too many names and constraints to compare"
            permitted, excluded = (
                [(tag, _subtree(tag, base)) for tag, base in part if tag in NAME_KINDS]
                for part in constraints
            )
            for name in member.alternative_names:
                problem = _refused(name, permitted, excluded)
                if problem:
                    return problem
    return ""


def _refused(name: GeneralName, permitted: Sequence[Subtree], excluded: Sequence[Subtree]) -> str:
    kind, encoded = name
    if kind not in NAME_KINDS:
        return ""
    rule = RULES[kind]
    shown = _shown(_subtree(kind, encoded))
    try:
        value = _comparable(kind, encoded)
    except CertificateError as error:
        return error.cause
    allowing = [base for tag, base in permitted if tag == kind]
    if allowing and not any(rule.is_within(value, base, False) for base in allowing):
        return f"{rule.word} {shown} is not permitted by any constraint"
    for base in (base for tag, base in excluded if tag == kind):
        if rule.is_within(value, base, True):
            return f"{rule.word} {shown} is excluded by constraint {_shown(base)}"
    return ""


def _shown(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _subtree(kind: int, value: bytes) -> Any:
    """Return a name or a subtree as text, as an address or as a network."""
    if kind != ADDRESS:
        return value.decode("ascii")
    if len(value) in (4, 16):
        return ipaddress.ip_address(value)
    half = len(value) // 2
    length = bin(int.from_bytes(value[half:], "big")).count("1")
    return ipaddress.ip_network((value[:half], length), strict=False)


def _comparable(kind: int, encoded: bytes) -> Any:
    """Return the part of a name that is compared with a subtree. Raises CertificateError for an invalid name."""
    value = _subtree(kind, encoded)
    if kind == ADDRESS:
        return value
    local, domain = "", value
    if kind == URI:
        domain = _host(value)
    elif kind == EMAIL:
        local, _at, domain = value.rpartition("@")
        if not local or not domain:
            raise CertificateError(f"cannot parse rfc822Name {json.dumps(value)}")
    if not is_domain(domain):
        word = {DNS_NAME: "x509: cannot parse dnsName", EMAIL: "x509: cannot parse rfc822Name"}.get(
            kind, "URI SAN"
        )
        raise CertificateError(f"{word} {json.dumps(value)}")
    return f"{local}@{domain.lower()}" if kind == EMAIL else domain.lower()


def _host(uri: str) -> str:
    shown = json.dumps(uri)
    try:
        host = (urlsplit(uri).netloc.rpartition("@")[2]).lower()
    except ValueError:
        raise CertificateError(f"cannot parse URI {shown}") from None
    if not host:
        raise CertificateError(f"URI with empty host ({shown}) cannot be matched against constraints")
    if not host.endswith("]"):
        host = host.rpartition(":")[0] if ":" in host else host
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    raise CertificateError(f"URI with IP ({shown}) cannot be matched against constraints")


def _domain_within(name: str, subtree: str, is_excluded: bool) -> bool:
    """Return True if a lowercase name is in a subtree.

    "example.com" contains itself and its subdomains, ".example.com" only the subdomains.
    """
    subtree = subtree.lower()
    if name.endswith(subtree):
        rest = name[: len(name) - len(subtree)]
        return not subtree or not rest or subtree.startswith(".") or rest.endswith(".")
    # "*.example.com" includes the excluded "a.example.com".
    below = subtree.partition(".")
    return is_excluded and name.startswith("*") and bool(below[1]) and name.partition(".")[1:] == below[1:]


def _email_within(name: str, subtree: str, is_excluded: bool) -> bool:
    local, _at, domain = name.rpartition("@")
    if "@" not in subtree:
        return _domain_within(domain, subtree, is_excluded)
    wanted_local, _at, wanted_domain = subtree.rpartition("@")
    return local == wanted_local and domain == wanted_domain.lower()


RULES: dict[int, ConstraintRule] = {
    DNS_NAME: ConstraintRule("DNS name", _domain_within),
    ADDRESS: ConstraintRule("IP address", lambda address, network, _is_excluded: address in network),
    EMAIL: ConstraintRule("email address", _email_within),
    URI: ConstraintRule("URI", _domain_within),
}
