# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Output of other programs: words that are masked, and words that must stay because a message needs them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import (
    LONGEST_MASKED,
    LONGEST_READ,
    mask_login,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.credentials import find_secrets

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
LONG = "aB3" * 12
MASKED = {
    "Authorization: Bearer abc": "Authorization: ***",
    "proxy-authorization: Basic dXNlcjpwYXNz</p>": "proxy-authorization: ***</p>",
    "'Authorization': 'Bearer abc', 'Host': 'x'": "'Authorization': '***', 'Host': 'x'",
    "Cookie: session=abc; other": "Cookie: *** other",
    "X-Auth-Token: abc Host: x": "X-Auth-Token: *** Host: x",
    "sent Bearer abc.def-123456": "sent Bearer ***",
    "the bearer of this certificate": "the bearer of this certificate",
    "basic authentication is disabled": "basic authentication is disabled",
    "--client-secret abc --client-id me": "--client-secret *** --client-id me",
    "--client-secret=abc": "--client-secret=***",
    "['--client-secret', 'abc', '--x']": "['--client-secret', '***', '--x']",
    "--client-secret --tenant-id x": "--client-secret --tenant-id x",
    "AWS_SECRET_ACCESS_KEY=abc/def+ AWS_REGION=eu-west-1": "AWS_SECRET_ACCESS_KEY=*** AWS_REGION=eu-west-1",
    '{"access_token": "abc", "expires": 5}': '{"access_token": "***", "expires": 5}',
    "password: hunter2": "password: ***",
    "https://me:pass@host/path?sig=1&X-Amz-Signature=abc&y=z": "https://***@host/path?sig=1&X-Amz-Signature=***&y=z",
    f"token {JWT} expired": "token *** expired",
    "k8s-aws-v1.aHR0cHM6Ly9zdHM is expired": "*** is expired",
    "for AKIAIOSFODNN7EXAMPLE here": "for *** here",
    f"got {LONG}.": "got ***.",
    # words that a message needs
    "Token has expired and refresh failed": "Token has expired and refresh failed",
    "the token is invalid: sign in again": "the token is invalid: sign in again",
    "request 550e8400-e29b-41d4-a716-446655440000": "request 550e8400-e29b-41d4-a716-446655440000",
    "arn:aws:eks:eu-west-1:111122223333:cluster/shop": "arn:aws:eks:eu-west-1:111122223333:cluster/shop",
    "https://0A1B2C.gr7.eu-west-1.eks.amazonaws.com": "https://0A1B2C.gr7.eu-west-1.eks.amazonaws.com",
    "sha256:" + "0a" * 32: "sha256:" + "0a" * 32,
    "/home/User1/.kube/Cache/Very/Long/Path/To/File2": "/home/User1/.kube/Cache/Very/Long/Path/To/File2",
    "No module named 'azure.identity'": "No module named 'azure.identity'",
}


@pytest.mark.parametrize("text", MASKED)
def test_words_that_look_like_secrets(text: str) -> None:
    assert mask_login(text) == MASKED[text]
    assert mask_login(MASKED[text]) == MASKED[text]


@pytest.mark.parametrize(
    ("args", "secrets"),
    [
        (["eks", "get-token", "--cluster-name", "shop", "--region", "eu-west-1"], []),
        (["--region=eu-west-1", "get-token"], []),
        (["get-token", "--client-secret", "hunter", "--client-id", "0f1e2d"], ["hunter", "0f1e2d"]),
        (["--client-secret=hunter", "--debug", "-x"], ["hunter"]),
        (["token", "S3cret", "abc"], ["S3cret"]),
        (["-p", "hunter", "login"], ["hunter"]),
        (["--pin", "123"], []),  # too short to differ from other words
        (None, []),
    ],
)
def test_arguments_of_a_plugin(args: Any, secrets: list[str]) -> None:
    assert find_secrets({"args": args}, {}) == secrets


def test_variables_of_a_plugin() -> None:
    env = [{"name": "AWS_PROFILE", "value": "prod"}, {"name": "AAD_X", "value": "hunter"}]
    environ = {"HOME": "/home/me", "AWS_SECRET_ACCESS_KEY": "from-task", "LANG": "en_US", "GH_TOKEN": "abc"}
    assert find_secrets({"env": env}, environ) == ["hunter", "from-task"]


@pytest.mark.parametrize(
    "text", ["--password hunter2-Prod!x", "Authorization: Basic hunter2-Prod!x", "password: hunter2-Prod!x"]
)
def test_a_value_is_masked_wherever_the_text_is_cut(text: str) -> None:
    """The name before it may be what shows that it is secret."""
    for after in range(LONGEST_MASKED - 50, LONGEST_MASKED + 10):
        assert "hunter2" not in mask_login(f"failed {text} {'y ' * (after // 2)}{'y' * (after % 2)}")
    for after in range(LONGEST_READ - 80, LONGEST_READ + 10):  # the patterns shorten the end
        assert "hunter2" not in mask_login(
            f"failed {text} password={'z' * (after - 100)} {'y ' * 40} the end"
        )


def test_a_secret_that_is_part_of_another_leaves_nothing() -> None:
    assert mask_login("x hunter2-long x hunter2 x", ["hunter2", "hunter2-long"]) == "x *** x *** x"


def test_a_short_value_is_masked_as_a_word() -> None:
    assert mask_login("prod in production, hunter22x", ["prod", "hunter22"]) == "*** in production, ***x"


def test_only_the_end_of_long_words_is_looked_at() -> None:
    assert len(mask_login("secret" * 100_000)) <= LONGEST_MASKED
