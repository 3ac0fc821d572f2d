# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of the form that `aws eks get-token` returns, which a test cluster accepts."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "aws-tokens.csv"
ROLE = "arn:aws:sts::111122223333:assumed-role/deployer/session"
COUNT = 8


def make_token() -> str:
    """Return a new token: the prefix, and a signed URL of AWS STS. The signature is random.

    Source: https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster
    """
    url = (
        "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260901%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date=20260901T120000Z"
        f"&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature={secrets.token_hex(32)}"
    )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def write(directory: Path) -> None:
    """Write tokens of one IAM role with all permissions, as kube-apiserver's --token-auth-file reads them."""
    lines = (f'{make_token()},{ROLE},deployer,"system:masters"\n' for _number in range(COUNT))
    path = directory / FILE
    path.touch(0o600)
    path.write_text("".join(lines))


def read(directory: Path) -> list[str]:
    """Return the tokens of a cluster."""
    return [line.partition(",")[0] for line in (directory / FILE).read_text().splitlines()]
