# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue a certificate on a cluster that has only IPv6 addresses, its API server included."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from tests.support import clusters
from tests.support.certificates.csr_rig import CsrRig, assert_one_line
from tests.support.clusters import Cluster


@pytest.fixture(scope="module")
def ipv6() -> Iterator[Cluster]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 on loopback: {error}")
    with clusters.running({"ipv6": "ipv6"}) as fleet:
        yield fleet["ipv6"]


def test_a_certificate_for_a_service_with_ipv6_addresses(ipv6: Cluster) -> None:
    """The API server's URL is an IPv6 address. A request with the address of the API server's own Service is refused."""
    assert ipv6.url.startswith("https://[::1]:")
    rig = CsrRig(ipv6)
    try:
        services = f"/api/v1/namespaces/{rig.name}/services"
        rig.make(services, {"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}})
        (address,) = ipv6.api("GET", f"{services}/hook")["spec"]["clusterIPs"]
        assert ipaddress.ip_address(address) in ipaddress.ip_network("fd00:10:96::/112")
        target = rig.hook()
        options: dict[str, Any] = {"targets": [target], "names": [address], "allow_names": [address]}
        first = rig.run(**options)
        assert first["changed"] and first["cluster"]["host"] == ipv6.url, first
        names = rig.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(address)]
        assert rig.bundle(target) == ipv6.ca_pem
        assert not rig.run(**options)["changed"]
        own = rig.run(names=["fd00:10:96::1"], secret={"name": "other-tls"})
        assert_one_line(own, "invalid-request", "fd00:10:96::1")
    finally:
        rig.close()
