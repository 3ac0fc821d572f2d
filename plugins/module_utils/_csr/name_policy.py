# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide which names a certificate may have, and check their form.

The cluster's CA signs every approved request, even with the names of the API server. So these rules apply to the requests
of this collection and to every request that it approves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .._base.text import PERMISSIONS_PAGE
from .errors import RequestError

DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123
_LABEL = re.compile(DNS_LABEL)
# k8s.io/apimachinery validation.IsDNS1123Subdomain: names of objects, whose parts may be longer than a DNS label.
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_NAME = re.compile(rf"{DNS_LABEL}(?:\.{DNS_LABEL})*")
# Unusual notations of an IPv4 address: up to four numbers in decimal, octal or hexadecimal (inet_aton). Python and Go
# refuse them, and other programs disagree about their meaning.
_NUMBER = r"(?:[0-9]+|0x[0-9a-f]*)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}")
_LIKE_HOST = re.compile(r"[a-z0-9._-]+")
_API_SERVER = re.compile(r"kubernetes(\.default(\.svc(\..*)?)?)?")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)(?:(//)([^/?#]*@)?([^/?#]*))?(.*)", re.DOTALL)
# The only domain that no one can own outside a cluster (RFC 6762). Any other one is a name in allow_names.
CLUSTER_DOMAIN = "cluster.local"
LONGEST_DNS_NAME = 253


@dataclass(frozen=True)
class GuardedNames:
    """The names and addresses of the cluster itself, which a request must not have."""

    api_server: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    #: The service networks, as CIDRs.
    networks: tuple[str, ...] = ()
    #: The resources that this identity may not read, so that their names are not guarded.
    unreadable: tuple[str, ...] = ()


NOTHING_GUARDED = GuardedNames()


@dataclass(frozen=True)
class RefusedName:
    """A name that a certificate must not have."""

    name: str
    reason: str
    #: True if the cluster itself has the name, or if it matches many names.
    is_critical: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Return the DNS names of a Service. The API server verifies the last one when it calls a webhook."""
    return service, f"{service}.{namespace}", f"{service}.{namespace}.svc"


def forbidden_names(
    dns_names: Iterable[str],
    ip_addresses: Iterable[str] = (),
    *,
    service: str = "",
    namespace: str = "",
    allow: Iterable[str] = (),
    cluster: GuardedNames = NOTHING_GUARDED,
    other_names: Iterable[str] = (),
) -> tuple[RefusedName, ...]:
    """Return the names that must not be requested or approved, each with its reason.

    service, namespace: the Service whose names are permitted.
    allow: more permitted names.
    other_names: e-mail addresses and URIs.
    """
    allow = tuple(allow)
    spelled_out, identities = set(map(normalize, allow)), set(map(_normal_identity, allow))
    names = [
        *(name for name in (*dns_names, *ip_addresses) if normalize(name) not in spelled_out),
        *(name for name in other_names if _normal_identity(name) not in identities),
    ]
    return tuple(filter(None, (_refusal(name, service, namespace, cluster) for name in names)))


def is_critical(name: str, *, cluster: GuardedNames = NOTHING_GUARDED) -> bool:
    """Return True if the cluster itself has the name, or if it is a wildcard. Only allow_names permits such a name."""
    refusal = _refusal(name, "", "", cluster)
    return refusal is not None and refusal.is_critical


def warnings(allow: Iterable[str], *, cluster: GuardedNames = NOTHING_GUARDED) -> tuple[str, ...]:
    """Return a warning for each critical name in ``allow``, and for each resource whose names are not guarded."""
    refusals = (_refusal(name, "", "", cluster) for name in allow)
    return (
        *(f"allow_names permits {refusal}" for refusal in refusals if refusal and refusal.is_critical),
        *(
            f"this identity has no permission to read {what}, so names and addresses were not compared with them ({PERMISSIONS_PAGE})"
            for what in cluster.unreadable
        ),
    )


def _critical_reasons(name: str, cluster: GuardedNames) -> Iterator[str]:
    """Yield why only allow_names permits a name. name: in its normal spelling."""
    if "*" in name:
        yield "a wildcard permits names that no rule has checked"
    if _API_SERVER.fullmatch(name):
        yield "it is the API server's name inside the cluster"
    if name in map(normalize, cluster.api_server):
        yield "it is the API server's"
    if name in map(normalize, cluster.nodes):
        yield "it is a node's"
    if any(_is_in(name, network) for network in cluster.networks):
        yield "it is an address of the service network"
    if _address(name) is None and _NUMBERS.fullmatch(name):
        yield "it is a number, which programs read as different addresses"


def _refusal(name: str, service: str, namespace: str, cluster: GuardedNames) -> RefusedName | None:
    text = normalize(name)
    reason = next(_critical_reasons(text, cluster), "")
    if reason:
        return RefusedName(name, reason, is_critical=True)
    if service and namespace:
        own = service_names(service, namespace)
        if text in (*own, f"{own[-1]}.{CLUSTER_DOMAIN}"):
            return None
        return RefusedName(name, f"it does not belong to Service {namespace}/{service}", is_critical=False)
    return RefusedName(name, "it belongs neither to the Service nor to allow_names", is_critical=False)


def normalize(name: str) -> str:
    """Return the normal spelling of a name. DNS ignores case and a final dot, and an address has many notations."""
    address = _address(name)
    return name.lower().removesuffix(".") if address is None else str(address)


def _normal_identity(name: str) -> str:
    """Return the normal spelling of a URI or an e-mail address.

    Only the scheme and the host of a URI (RFC 3986 section 6.2.2.1), and the domain of an address, ignore case.
    """
    uri = _URI.fullmatch(name)
    if uri is None:
        local, at, domain = name.rpartition("@")
        return f"{local}{at}{domain.lower()}" if at and "/" not in domain else name
    scheme, slashes, user, host, rest = (part or "" for part in uri.groups())
    return f"{scheme.lower()}{slashes}{user}{host.lower()}{rest}"


def may_be_of_node(name: str, others: Iterable[str]) -> bool:
    """Return True for a DNS name that is not one of a Service.

    others: all names of the request. "hook" and "hook.apps" belong to a Service if "hook.apps.svc" is among them.
    """
    services = (other for other in others if other.removesuffix(f".{CLUSTER_DOMAIN}").endswith(".svc"))
    return is_dns_name(name) and not any(f"{service}.".startswith(f"{name}.") for service in services)


def is_host_name(text: str) -> bool:
    """Return True for an address, and for a host name of more than one part. A single word may be any name.

    Signers such as Vault also accept underscores and other names that are no DNS names.
    """
    name = normalize(text.strip()).removeprefix("*.")
    return is_address(name) or ("." in name and _LIKE_HOST.fullmatch(name) is not None)


def is_address(text: str) -> bool:
    """Return True for an IPv4 or IPv6 address in a notation that Go reads."""
    return _address(text) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that Go reads (net.ParseIP), or None.

    Go treats ::ffff:a.b.c.d and a.b.c.d as equal (net.IP.Equal), and refuses a zone.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def _is_in(name: str, network: str) -> bool:
    address = _address(name)
    try:
        return address is not None and address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def is_dns_name(name: str) -> bool:
    """Return True for a DNS name of RFC 1123: lower case, labels of at most 63 characters, 253 characters in all."""
    return len(name) <= LONGEST_DNS_NAME and _DNS_NAME.fullmatch(name) is not None


def split_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the DNS names and the IP addresses among names, each once and in its normal spelling."""
    normal = dict.fromkeys(map(normalize, names))
    addresses = tuple(filter(is_address, normal))
    return tuple(name for name in normal if name not in addresses), addresses


def check_names(names: Iterable[str]) -> None:
    """Raise RequestError for a name that is neither a DNS name nor an IP address. `*.` may lead a DNS name.

    A DNS name does not end in a number (RFC 1123 section 2.1), so a wrong address is refused.
    """
    for name in names:
        bare = name.removeprefix("*.")
        is_dns = is_dns_name(bare.lower()) and not bare.rpartition(".")[2].isdigit()
        if not (is_dns or is_address(name)):
            raise RequestError(
                f"the name {name!r} in names is neither a DNS name nor an IP address",
                remedy="Correct it. A DNS name has at most 253 characters, and labels of 1 to 63 lowercase letters, digits, and inner "
                "hyphens. Its last label is not a number. An IP address has no mask",
            )


def check_object_names(*, service: str, namespace: str, secret: str) -> None:
    """Raise RequestError for a name that the API server would refuse for such an object.

    Service: RFC 1035 label (it begins with a letter); Namespace: RFC 1123 label; Secret: RFC 1123 subdomain.
    """
    for fault in _object_name_faults(service, namespace, secret):
        raise RequestError(
            fault, remedy="Use lowercase letters, digits and inner hyphens, in the name of a Secret also dots"
        )


def _object_name_faults(service: str, namespace: str, secret: str) -> Iterator[str]:
    yield from (
        f"the {option} {name!r} is not a valid name"
        for option, name in (("service", service), ("namespace", namespace))
        if not _LABEL.fullmatch(name)
    )
    if service[:1].isdigit():
        yield f"the service {service!r} is not a valid name: such a name begins with a letter"
    if len(secret) > LONGEST_DNS_NAME or not _SUBDOMAIN.fullmatch(secret):
        yield f"the Secret {secret!r} is not a valid name"
