# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Clean text of other programs for each place to which it goes.

``visible`` is for logs and terminals, ``safe_name`` for names that Ansible renders, and ``harmless`` for the variables of a later job.
Reports add the escapes of their formats. ``mask`` is for sentences that quote other programs: a policy or a webhook that refuses a
Secret may quote its private key. Exec plugins may also repeat their arguments, and proxies may echo the headers of a request.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import operator
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

# Control (C0, DEL, C1), format (bidirectional marks, zero-width characters, tags), surrogates, line and paragraph
# separators: the categories of the Unicode Character Database, https://www.unicode.org/reports/tr44/#General_Category_Values
HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# Invisible characters of other categories: the grapheme joiner and the fillers.
HIDDEN_CHARACTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
LONGEST_QUOTE = 80
# A message of a cluster may have any length.
LONGEST_TEXT = 600
LONGEST_NAME = 200
MOST_NAMES = 5
# The parts that a name must not have: braces of templates, the header with which a template sets its own delimiters, the beginning
# of the keys by which Ansible marks a dictionary as another type, and parts that lead a path out of its directory, because Ansible
# uses names of hosts and groups as file names (host_vars/, caches of facts).
_RISKY = re.compile(r"[{}]|#jinja2:|^__(?=ansible_)|^/|(?:^|(?<=/))\.{1,2}(?=/|$)", re.IGNORECASE)
#: Page of the documentation that messages about missing permissions name.
PERMISSIONS_PAGE = "https://certflow.github.io/certflow.kubernetes/docsite/guide_permissions.html"

_PARENTHESES = str.maketrans("{}", "()")
_BLANKS = re.compile(r"[ \t\r\n]+")

MASK = "***"
LONGEST_WORD = 40
# From the first line of a private key to its last one, or to the end of the text. Wider than the grammar, because text that was
# indented or cut off still contains the secret.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [^-\n]*PRIVATE KEY.*?(?:-----END [^-\n]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# A word of base64 in both alphabets, with the escapes of JSON and of URLs, and the shorter words after it.
_WORD = re.compile(
    rf"([A-Za-z0-9+/=_%\\-]{{{LONGEST_WORD},}})"
    rf"((?:\s+(?![A-Za-z0-9+/=_%\\-]{{{LONGEST_WORD}}})[A-Za-z0-9+/]+={{0,2}}(?=[\s\"'\\.,;:)\]}}>`&<|]|\Z))*)"
)
# The last line of a PEM body.
_REST = re.compile(
    r"\s+(?:[\w+/]{1,40}(?:=|(?=\s*-----END))|(?=[\w+/]{0,40}[a-z])(?=[\w+/]{0,40}[A-Z])[\w+/]{0,40}[0-9])[\w+/]*={0,2}"
)
# Not a digest or a tag of an image, not a part of a name or of a path, and not a fingerprint or a serial number (RFC 5280
# limits it to 20 bytes).
_HEXADECIMAL = re.compile(
    r"(?:(?<![\w./:@+-])|(?<=\b0x))(?!(?:(?<=SHA-256 )[0-9a-f]{64}|(?<=serial )[0-9a-f]{40})\b)"
    rf"(?:[0-9a-f]{{{LONGEST_WORD},}}|[0-9A-F]{{{LONGEST_WORD},}})(?![\w-]|\.\w)"
)
# As many numbers: bytes as Go and JSON write them, and hexadecimal pairs. A fingerprint has 32.
_NUMBERS = re.compile(
    r"(?<!\w)(?:0x|\\x)?[0-9a-fA-F]{1,3}"
    rf"(?:(?:\s*[:,]\s*|\s+|(?=\\x))(?:0x|\\x)?[0-9a-fA-F]{{1,3}}\b){{{LONGEST_WORD - 1},}}"
)
# A dump of bytes as lines: the offset, pairs of digits, and the same bytes as text.
_DUMP = re.compile(
    r"(?:\b|(?<=\\n))[0-9a-f]{7,8}:?(?:\s+[0-9a-f]{2,4}\b){8,16}(?:[ \t]+(?:\|[^\n]{0,16}\||[^\s|\\][^\s\\]{0,15}))?",
    re.IGNORECASE,
)
# The CertificateSigningRequest of a kubelet's first certificate is named by the base64 of a digest (pkg/kubelet/certificate/bootstrap).
_NODE_REQUEST = re.compile(r"node-csr-[\w-]{43}(?![\w-])")
# What comes before the name of an identity of AWS. The API server of Amazon EKS names the user so.
_ARN, _LONGEST_ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::\d{12}:\Z"), 50
_MASKS = re.compile(r"\*\*\*(?:\s+\*\*\*)+")
_STEP = 8
# The kinds of characters. Encoded bytes change between them at random, names and paths rarely.
_KINDS = str.maketrans(
    {
        **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A"),
        **dict.fromkeys("abcdefghijklmnopqrstuvwxyz", "a"),
        **dict.fromkeys("0123456789", "0"),
    }
)
# Of LONGEST_WORD characters: 3 of 1,000 parts of the base64 of random bytes have less, 13 of 1,000 if it is encoded twice.
_FEWEST_CHANGES, _FEWEST_UPPER, _FEWEST_LOWER = 16, 6, 5
# The algorithms Ed25519, Ed448, X25519 and X448 in base64 (RFC 8410). Their keys are too short to be found by counts alone.
_SHORT_KEY = "wBQYDK2V"
# Words that may show a part of a known key. Each part of 24 characters holds one of the stored parts.
_SHOWN_PART, _STORED_PART = 24, 16
_LETTERS = re.compile(rf"[A-Za-z0-9+/_-]{{{_SHOWN_PART},}}")
# The parts of the keys that this process made or read. They are compared, because some parts of a key look like a name.
_PARTS_OF_KEYS: set[str] = set()
# What the task itself names: the path of its kubeconfig, contexts and clusters. Parts of names are shorter than this.
_LONG_RUN = re.compile(r"[A-Za-z0-9+=]{20}")
_OWN_TEXTS: set[str] = set()
# Longer than a key of RSA with 16384 bits. The value in a Secret may have a megabyte.
_LONGEST_KEY = 20_000
# A shorter value is masked only as a whole word, because a value such as "prod" is a part of other words.
LONG_SECRET = 8
# Of a longer text only the end is returned. More is read, because the name before a value may be what shows that it is secret.
LONGEST_MASKED, LONGEST_READ = 2000, 20_000

SENSITIVE_NAME = (
    r"[\w.-]{0,100}(?:secret|token|passw|passphrase|pwd|credential|(?:api|access|private)[_-]?key|assertion|signature|session-?id)"
    r"[\w.-]{0,100}"
)
_HEADER = r"(?:proxy-)?authorization|cookie|set-cookie|x-[\w-]{0,100}(?:auth|token|key|secret)[\w-]{0,100}"
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
        (rf"((?<![\w.-]){SENSITIVE_NAME}['\"]?\s*[:=]\s*['\"]?)(?!\s|\*\*\*)[^\s'\"<>,&}}]+", rf"\1{MASK}"),
        (rf"((?<![\w.-])--?{SENSITIVE_NAME}['\"]?,?\s+['\"]?)(?!-|\*\*\*)[^\s'\"<>,}}]+", rf"\1{MASK}"),
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


def visible(text: str) -> str:
    """Return the text on one line, with an escape such as \\x1b for each hidden character. Letters of all scripts stay.

    A second call does not change the result.
    """
    line = _BLANKS.sub(" ", text).strip(" ")
    if line.isprintable() and line.isascii():
        return line
    return "".join(map(_visible, line))


def _visible(character: str) -> str:
    """Return the character, or its escape sequence if a reader would not see it."""
    return character.encode("unicode_escape").decode() if is_hidden(character) else character


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the text on one line, without keys, and at most ``longest`` characters of it.

    It is masked before it is cut, because the half of a key may not look like one.
    """
    line = visible(mask(text))
    return line if len(line) <= longest else f"{line[:longest]}..."


def safe_name(name: str) -> str:
    """Return the name for a host, a group or a key, with "_" for each risky part.

    ansible-core before 2.19 renders the name of a host or a group as a template wherever a play shows it. Log files and
    terminals obey control characters. A changed name gets the beginning of its SHA-256 sum, which keeps names distinct.
    """
    shown = "".join("_" if is_hidden(character) else character for character in _RISKY.sub("_", name))
    if shown == name and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown[: LONGEST_NAME - 9]}_{digest}"


def harmless(value: Any) -> Any:
    """Return plain data for an artifact. A later job gets it as extra variables, in which Ansible renders each template.

    Keys become safe names. Texts are shortened, and lose braces and the headers of templates.
    """
    if isinstance(value, str):
        return re.sub("#(?=jinja2)", "_", shortened(value).translate(_PARENTHESES), flags=re.IGNORECASE)
    if isinstance(value, Mapping):
        return {safe_name(str(key)): harmless(item) for key, item in value.items()}
    return [harmless(item) for item in value] if isinstance(value, (list, tuple)) else value


def quoted(value: object) -> str:
    """Return a shortened string in quotes. For any other value return its type.

    The text of a YAML value can be gigabytes larger than its file, because aliases repeat it.
    """
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return f"'{visible(value[:LONGEST_QUOTE])}{'...' if len(value) > LONGEST_QUOTE else ''}'"


def plural(number: object, noun: str) -> str:
    """Return a number with its noun, such as "1 step" and "2 steps"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def nearest(word: str, names: Collection[str]) -> str:
    """Return the most similar names and the number of the others, or "none"."""
    return some(difflib.get_close_matches(word, names, max(1, len(names)), cutoff=0)) or "none"


def some(names: Sequence[str]) -> str:
    """Return at most five of the names, and the number of the others: "a, b, c, d, e and 62 more"."""
    shown = ", ".join(map(visible, names[:MOST_NAMES]))
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def suggestion(word: str, names: Iterable[str]) -> str:
    """Return the question whether the most similar name is meant, "" without a similar one."""
    similar = difflib.get_close_matches(word, list(names), 1)
    return f"Did you mean {similar[0]}?" if similar else ""


def remember_key(pem: str) -> None:
    """Let ``mask`` know the first private key of a PEM text until the process ends, also in base64 as the data of a Secret.

    The base64 of a key depends on the length of what stands before it. Text around the key stays unknown, because it may have names.
    """
    key = "".join(_PRIVATE_KEY.findall(pem)[:1])[:_LONGEST_KEY]
    encoded = (base64.b64encode(key.encode("utf-8", "replace")[skip:]).decode() for skip in range(3))
    for form in ("".join(key.split()), *encoded):
        starts = range(0, len(form) - _STORED_PART + 1, _STEP)
        _PARTS_OF_KEYS.update(form[start : start + _STORED_PART] for start in starts)


def spare(texts: Iterable[str]) -> None:
    """Let ``mask`` leave the words of these names and paths until the process ends. A text that may be encoded bytes stays unknown."""
    _OWN_TEXTS.update(
        text for text in texts if LONGEST_WORD <= len(text) <= LONGEST_MASKED and not _LONG_RUN.search(text)
    )


def mask(text: str) -> str:
    """Return the text with *** for each private key in PEM, and each word of base64 or hexadecimal of 40 or more characters.

    The last line of a PEM body may be shorter. Bytes that are written as 40 or more numbers are masked too. Of a key that
    ``remember_key`` got, each part of 24 characters of a line is masked. Digests, names and paths stay. The work grows
    linearly with the text.
    """
    masked = _DUMP.sub(MASK, _WORD.sub(_without_encoded, _PRIVATE_KEY.sub(MASK, text)))
    masked = _NUMBERS.sub(MASK, _HEXADECIMAL.sub(MASK, masked))
    masked = _LETTERS.sub(_without_known, masked) if _PARTS_OF_KEYS else masked
    return _MASKS.sub(MASK, masked) if masked != text else text


def _without_encoded(match: re.Match[str]) -> str:
    word = _NODE_REQUEST.sub("", match[1])
    last = max(0, len(word) - LONGEST_WORD)
    parts = (word[start : start + LONGEST_WORD] for start in (*range(0, last, _STEP), last))
    if (
        _ARN.search(match.string, max(0, match.start() - _LONGEST_ARN), match.start())
        or not any(map(_is_encoded, parts))
        or any(match[1] in text for text in _OWN_TEXTS)
    ):
        return match[0]
    rest = _REST.match(match.string, match.end(1))
    return MASK + (match.string[rest.end() : match.end()] if rest else match[2])


def _without_known(match: re.Match[str]) -> str:
    word = match[0].replace("-", "+").replace("_", "/")
    parts = (word[start : start + _STORED_PART] for start in range(len(word) - _STORED_PART + 1))
    return match[0] if _PARTS_OF_KEYS.isdisjoint(parts) else MASK


def _is_encoded(part: str) -> bool:
    """Return True for a part of a short key, and if characters of different kinds are mixed as in base64 of random bytes."""
    kinds = part.translate(_KINDS)
    return _SHORT_KEY in part or (
        kinds.count("A") >= _FEWEST_UPPER
        and kinds.count("a") >= _FEWEST_LOWER
        and "0" in kinds
        and sum(map(operator.ne, kinds, kinds[1:])) >= _FEWEST_CHANGES
    )


def mask_login(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the last LONGEST_MASKED characters of the text, with *** for ``secrets`` and for words that look secret.

    It is for programs that know credentials of the run. They may repeat a header, an argument or a variable. The first words
    after a cut become *** too, because what was before them may be what shows that they are secret.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        edge = r"\b" if len(secret) < LONG_SECRET else ""
        text = re.sub(f"{edge}{re.escape(secret)}{edge}", MASK, text)
    text = mask(text)
    is_cut, text = len(text) > LONGEST_MASKED, text[-LONGEST_READ:]
    for pattern, shown in PATTERNS:
        text = pattern.sub(shown, text)
    # A header has a name, a scheme and a value.
    return re.sub(r"\A\s*\S+(?:\s+\S+){0,2}", MASK, text[-LONGEST_MASKED:]) if is_cut else text


def matches(text: str, pattern: str) -> bool:
    """Return True if the whole text matches a pattern, in which "*" stands for any text.

    The module fnmatch compiles each pattern, which would cost each of Ansible's forks 10 ms.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    place = len(first)
    for part in rest[:-1]:
        place_of_part = text.find(part, place)
        if place_of_part < 0:
            return False
        place = place_of_part + len(part)
    return len(text) >= place + len(rest[-1]) and text.endswith(rest[-1])


def is_hidden(character: str) -> bool:
    """Return True for a control character or an invisible character."""
    return unicodedata.category(character) in HIDDEN_CATEGORIES or character in HIDDEN_CHARACTERS
