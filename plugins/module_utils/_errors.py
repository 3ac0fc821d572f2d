# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The root of every error that this collection raises on purpose."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


class CertflowError(Exception):
    """Something that the user can act on.

    code: a stable word for programs in kebab-case, a key of _codes.CODES. A class has a default for its errors.
    cause: what is wrong, as one clause that names the object.
    evidence: what was seen, one fact an entry; shown beside the error, not in its text.
    remedy: what to do about it, as a sentence; empty where nothing certain can be said.
    values: further keys of the failed result.

    str() is always one line without hidden characters: the cause, then the remedy.
    """

    code = "invalid-input"
    values: Mapping[str, Any] = {}

    def __init__(self, cause: str, *, code: str = "", evidence: Sequence[str] = (), remedy: str = "") -> None:
        super().__init__(cause)
        if code:
            self.code = code
        self.cause = cause
        self.evidence = tuple(evidence)
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(_sentence(part) for part in (self.cause, self.remedy) if part.strip())


class MalformedObject(CertflowError):
    """An object of the API that lacks what its description promises, or holds something else there."""

    code = "malformed-object"


@contextmanager
def check_shape(what: object) -> Iterator[None]:
    """Raise MalformedObject in place of what reading an object of another shape raises. Its content is not quoted."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise MalformedObject(
            f"{what} is not shaped as the Kubernetes API describes it ({type(error).__name__})",
            remedy="See who answers at the API server's address, and which program wrote the object",
        ) from error


def as_error(exc: Exception) -> CertflowError:
    """Return the error. For an exception of another class return the error of a defect of this collection.

    That error names the line that raised the exception. It does not quote its text, which may hold a secret.
    """
    if isinstance(exc, CertflowError):
        return exc
    line = traceback.extract_tb(exc.__traceback__)[-1]
    file = line.filename.rpartition("module_utils/")[2]
    return CertflowError(
        f"a defect of this collection: {type(exc).__name__} at {file}:{line.lineno}",
        code="defect",
        remedy="Please report it with this line",
    )


def _sentence(text: str) -> str:
    """Put the text on one line, as a sentence. YAML and JSON at its end stay ready to be copied."""
    line = visible(text)
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?", ":", "}")) else ".")
