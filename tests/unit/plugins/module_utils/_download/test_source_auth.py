# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test downloads from private mirrors: HTTPS servers on loopback that demand a credential, and redirections."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import redaction
from ansible_collections.certflow.kubernetes.plugins.module_utils._download import fetch, source_auth
from ansible_collections.certflow.kubernetes.plugins.module_utils._download.source_auth import SourceError
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller import (
    OPERATION,
)

from tests.support.certificates import server_pki as pki
from tests.support.upgrade.mirror import CONTENT, mirror

SECRET = "s3cr3t-of-the-mirror"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Write the files that the cases name, and return their paths by name."""
    client = pki.leaf("client", pki.ca("client CA"))
    contents = {
        "ca": pki.ca().certificate,
        "client.crt": client.certificate,
        "client.key": client.key,
        "both.pem": client.certificate + client.key,
        "encrypted.key": pki.encrypted(client.key),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    return {name: str(tmp_path / name) for name in contents}


def read(url: str, files: Mapping[str, str], given: Mapping[str, Any]) -> bytes:
    paths = {key: files.get(value, value) for key, value in given.items() if isinstance(value, str)}
    auth = source_auth.parse({"ca_path": files["ca"], **given, **paths})
    return fetch.read(url, time.monotonic() + 30, auth)


# For each way: the keys, the headers that the mirror demands, and True if it demands a client certificate.
WAYS: dict[str, tuple[dict[str, Any], dict[str, str], bool]] = {
    "headers": ({"headers": {"X-JFrog-Art-Api": SECRET}}, {"X-JFrog-Art-Api": SECRET}, False),
    "an own Authorization": ({"headers": {"Authorization": f"token {SECRET}"}}, {"Authorization": f"token {SECRET}"}, False),
    "a token": ({"token": SECRET}, {"Authorization": f"Bearer {SECRET}"}, False),
    "a user": ({"url_username": "me", "url_password": SECRET}, {"Authorization": BASIC}, False),
    "a client certificate": ({"client_cert": "client.crt", "client_key": "client.key"}, {}, True),
    "a file with certificate and key": ({"client_cert": "both.pem"}, {}, True),
    "a token and a certificate": ({"token": SECRET, "client_cert": "both.pem"}, {"Authorization": f"Bearer {SECRET}"}, True),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_a_private_mirror(files: dict[str, str], way: str) -> None:
    given, demanded, wants_certificate = WAYS[way]
    client_ca = pki.ca("client CA").certificate if wants_certificate else None
    with mirror(client_ca, demanded=demanded) as server:
        assert read(f"{server.url}/a.zip", files, given) == CONTENT
        with pytest.raises(
            SourceError, match=r"was answered with 401 Unauthorized by 127\.0\.0\.1"
        ) as caught:
            read(f"{server.url}/a.zip", files, {})
    assert "Set source_auth, for example with a token" in caught.value.remedy


@pytest.mark.parametrize("way", WAYS)
def test_another_host_gets_no_credential(files: dict[str, str], way: str) -> None:
    """Another port and another name are another host. A mirror that returns to its own host gets the credentials again."""
    given, demanded, wants_certificate = WAYS[way]
    client_ca = pki.ca("client CA").certificate
    with mirror(client_ca) as other:
        other.demanded = {}
        named = other.url.replace("127.0.0.1", "localhost")
        first_ca = client_ca if wants_certificate else None
        with mirror(first_ca, demanded=demanded, leads_to=f"{named}/b.zip?signature=x") as server:
            with pytest.raises(
                SourceError, match="leads to the host localhost, which answered with 401"
            ) as caught:
                read(f"{server.url}/a.zip", files, given)
            assert "signature" not in str(caught.value) and "first host only" in caught.value.remedy
            server.leads_to = "/b.zip"
            assert read(f"{server.url}/a.zip", files, given) == CONTENT
    ((_path, headers, has_certificate),) = other.requests
    assert not has_certificate
    assert not {*demanded, "Authorization"} & {*headers}
    assert SECRET not in json.dumps(headers) and BASIC not in json.dumps(headers)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "Check the credentials"),
        (403, "Check the credentials"),
        (404, "has this release"),
        (503, "later"),
    ],
)
@pytest.mark.parametrize("way", ["headers", "a token", "a user"])
def test_a_refused_credential_is_one_line_without_it(
    files: dict[str, str], way: str, status: int, remedy: str
) -> None:
    """The mirror repeats the credential in its words."""
    given, demanded, _certificate = WAYS[way]
    with mirror(demanded=dict.fromkeys(demanded, "another"), status=status) as server:
        with pytest.raises(SourceError, match=f"was answered with {status} .* by 127.0.0.1") as caught:
            read(f"{server.url}/a.zip", files, given)
        assert server.requests
    assert remedy in caught.value.remedy
    text = repr((str(caught.value), caught.value.__cause__, caught.value.evidence))
    assert SECRET not in text and BASIC.split()[1] not in text and "\\n" not in text


PASTED = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
# For each fault: the keys, and the message.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "two ways": ({"token": SECRET, "url_username": "me"}, "has token and url_username, which all set the header"),
    "a token and a header": ({"token": SECRET, "headers": {"authorization": SECRET}}, "has token and headers.Authorization"),
    "a password only": ({"url_password": SECRET}, "has url_password without url_username"),
    "a key only": ({"client_key": "client.key"}, "has client_key without client_cert"),
    "a line break in a token": ({"token": f"{SECRET}\n"}, "he token of source_auth has a character"),
    "a line break in a header": ({"headers": {"X-Key": f"{SECRET}\r\nX: y"}}, "he header 'X-Key' of source_auth"),
    "no certificate file": ({"client_cert": "/absent.pem"}, "he file /absent.pem cannot be read: No such file"),
    "no key": ({"client_cert": "client.crt"}, "are not a valid pair"),
    "an encrypted key": ({"client_cert": "client.crt", "client_key": "encrypted.key"}, "or the key is encrypted"),
    "a pasted key": ({"client_cert": "client.crt", "client_key": PASTED}, "has content in client_key"),
    "a pasted certificate": ({"client_cert": PASTED}, "has content in client_cert"),
    "a pasted CA": ({"ca_path": PASTED}, "has content in ca_path"),
    "a NUL in a path": ({"client_cert": f"{SECRET}\0"}, "has content in client_cert"),
    "a value as a name": ({"headers": {f"X-Key: {SECRET}": ""}}, "name in headers of source_auth has"),
    "an empty name": ({"headers": {"": SECRET}}, "name in headers of source_auth has"),
    "no CA file": ({"ca_path": "/absent.pem"}, "he file /absent.pem cannot be read"),
    "no CA in the file": ({"ca_path": "client.key"}, "has no CA certificate in PEM form"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_credentials_that_cannot_be_used_fail_before_a_request(
    files: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, said = FAULTS[fault]
    keys = {key: value for key, value in given.items() if key != "NETRC"}
    if "NETRC" in given:
        monkeypatch.setenv("NETRC", files.get(given["NETRC"], given["NETRC"]))
    with mirror() as server, pytest.raises(SourceError, match=said) as caught:
        read(f"{server.url}/a.zip", files, keys)
    assert not server.requests
    assert caught.value.remedy and SECRET not in f"{caught.value}{caught.value.__cause__}"


def test_a_mirror_without_encryption_gets_no_credential(files: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="is not https, so the credentials of source_auth") as caught:
        read("http://127.0.0.1:9/a.zip", files, {"token": SECRET})
    assert SECRET not in str(caught.value)


def test_a_ca_that_is_not_trusted_stays_one(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "other").write_text(pki.ca("another CA").certificate)
    with mirror() as server, pytest.raises(SourceError, match="its certificate is not trusted"):
        read(f"{server.url}/a.zip", files, {"ca_path": str(tmp_path / "other"), "token": SECRET})
    assert not server.requests


# Each value of the option that holds a credential, a misspelt key and a text included.
@pytest.mark.parametrize(
    "given",
    [
        {"token": SECRET},
        {"url_password": SECRET},
        {"headers": {"X": SECRET}},
        {"tokn": SECRET},
        f"token={SECRET}",
    ],
)
def test_the_invocation_shows_no_credential(given: Any) -> None:
    shown = redaction.invocation({"source_auth": given}, OPERATION.hidden)
    assert SECRET not in json.dumps(shown)
    assert redaction.secrets_in({"source_auth": given}, OPERATION.hidden) == ["source_auth"]


def test_the_invocation_shows_the_paths() -> None:
    given: dict[str, Any] = {"ca_path": "/ca.pem", "token": None, "headers": {}}
    shown = redaction.invocation({"source_auth": given}, OPERATION.hidden)
    assert shown["module_args"]["source_auth"] == given
    assert SECRET not in repr(source_auth.parse({"token": SECRET}))
