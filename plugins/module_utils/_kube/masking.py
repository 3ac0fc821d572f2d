# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Mask secrets in the output of exec plugins, which may repeat arguments, and of proxies, which may echo headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MASK = "***"
# Shorter values occur in every message. A secret is longer.
SHORTEST = 4
# A shorter value is masked only as a whole word, because a value such as "prod" is a part of other words.
LONG = 8
# Of a longer text only the end is masked and returned, which also limits the work of the patterns.
LONGEST = 2000

_SENSITIVE_NAME = (
    r"[\w.-]*(?:secret|token|passw|passphrase|pwd|credential|(?:api|access|private)[_-]?key|assertion|signature|session-?id)"
    r"[\w.-]*"
)
_HEADER = r"(?:proxy-)?authorization|cookie|set-cookie|x-[\w-]*(?:auth|token|key|secret)[\w-]*"
# Pattern -> replacement. The name of the masked value stays.
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), shown)
    for pattern, shown in (
        # the user name and password of a URL
        (r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^\s/@]+@", rf"\1{MASK}@"),
        # a header: its scheme and value, up to a quote, a comma or a bracket
        (
            rf"(?<![\w-])({_HEADER})(['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|negotiate|digest)\s+)?[^\s'\"<>,}}]+",
            rf"\1\2{MASK}",
        ),
        (r"\b(basic|bearer|negotiate)\s+(?=[^\s<>'\"]*[0-9=+/._-])[^\s'\"<>,]{8,}", rf"\1 {MASK}"),
        # name=value, name: value, "name": "value", --name value
        (rf"((?<![\w.-]){_SENSITIVE_NAME}['\"]?\s*[:=]\s*['\"]?)(?!\s|\*\*\*)[^\s'\"<>,&}}]+", rf"\1{MASK}"),
        (rf"((?<![\w.-])--?{_SENSITIVE_NAME}['\"]?,?\s+['\"]?)(?!-|\*\*\*)[^\s'\"<>,}}]+", rf"\1{MASK}"),
    )
) + tuple(
    (re.compile(pattern), MASK)
    for pattern in (
        r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?",  # a JSON Web Token
        r"\bk8s-aws-v1\.[\w-]+",  # a token of EKS
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # an access key ID of AWS
        # a long word of lower case, upper case and digits, unlike a host name, a UUID or a checksum
        r"(?<![\w+/=-])(?=[\w+=-]*[a-z])(?=[\w+=-]*[A-Z])(?=[\w+=-]*[0-9])[\w+=-]{32,}(?![\w/])",
    )
)
_IS_SENSITIVE_NAME = re.compile(_SENSITIVE_NAME, re.IGNORECASE)
# Options and variables of the known plugins whose values a message needs: clusters, regions, profiles, files.
HARMLESS_OPTIONS = frozenset(
    "--api-version --authority-host --cluster --cluster-id --cluster-name --context --endpoint --environment -e --login -l "
    "--namespace --oidc-issuer-url --output --profile --project --region --role --role-arn -r --server-id --tenant-id -t "
    "--timeout -i".split()
)
HARMLESS_VARIABLES = frozenset(
    "AWS_CONFIG_FILE AWS_DEFAULT_REGION AWS_PROFILE AWS_REGION AWS_ROLE_ARN AWS_STS_REGIONAL_ENDPOINTS "
    "CLOUDSDK_ACTIVE_CONFIG_NAME CLOUDSDK_CONFIG CLOUDSDK_CORE_PROJECT HOME NO_PROXY PATH USE_GKE_GCLOUD_AUTH_PLUGIN".split()
)
_SUBCOMMAND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the last LONGEST characters of the text, with *** for ``secrets`` and for words that look secret."""
    text = text[-LONGEST:]
    for secret in sorted(set(secrets), key=len, reverse=True):
        edge = r"\b" if len(secret) < LONG else ""
        text = re.sub(f"{edge}{re.escape(secret)}{edge}", MASK, text)
    for pattern, shown in PATTERNS:
        text = pattern.sub(shown, text)
    return text


def plugin_secrets(config: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return the values that an exec plugin may repeat and a message must not show.

    config: the exec entry of a kubeconfig. All values of its arguments and variables count, except harmless ones.
    environ: the environment of the plugin. Its variables with the name of a secret count.
    """
    args, env = config.get("args") or (), config.get("env") or ()
    entries = {str(item.get("name")): str(item.get("value")) for item in env if isinstance(item, Mapping)}
    own = [value for name, value in entries.items() if name not in HARMLESS_VARIABLES]
    inherited = [value for name, value in environ.items() if _IS_SENSITIVE_NAME.fullmatch(name)]
    found = (*_argument_values(args), *own, *inherited)
    return [value for value in found if len(value) >= SHORTEST]


def _argument_values(args: Sequence[Any]) -> Iterator[str]:
    """Yield each value that is neither a subcommand nor the value of a harmless option."""
    option = ""
    for word in map(str, args):
        name, separator, value = word.partition("=")
        if word.startswith("-"):
            option = "" if separator else word
            if separator and name not in HARMLESS_OPTIONS:
                yield value
            continue
        if option not in HARMLESS_OPTIONS and (option or not _SUBCOMMAND.fullmatch(word)):
            yield word
        option = ""
