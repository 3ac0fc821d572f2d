# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The base class of the errors that this collection raises."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


class CertflowError(Exception):
    """An error that the user can act on. Its text is one line without hidden characters: the cause, then the remedy.

    code: a key of codes.CODES, for programs. A class has a default for its errors.
    cause: the failure as one clause, with the name of the object.
    evidence: observed facts. The result shows them beside the text.
    remedy: the next action of the user as an imperative sentence, "" if it is not known.
    values: further keys of the failed result.
    """

    code = "invalid-input"
    values: Mapping[str, Any] = {}
    #: True if permissions help. The operation then adds the files of docs/rbac for the task to the remedy.
    lacks_permissions = False
    #: These files, if they are not those of the task.
    roles: tuple[str, ...] = ()

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
    """An object of the API lacks a field, or a field has the wrong type."""

    code = "api-error"


@contextmanager
def check_shape(what: object) -> Iterator[None]:
    """Raise MalformedObject if the block fails because the object has another shape. The error does not quote the object."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise MalformedObject(
            f"{what} is not shaped as the Kubernetes API describes it ({type(error).__name__})",
            remedy="Check which server answers at the API server's address, and which program wrote the object",
        ) from error


def as_error(exc: Exception) -> CertflowError:
    """Return the error. For an exception of another class return the error of a defect of this collection.

    That error names the line that raised the exception. It does not quote its text, which may hold a secret.
    """
    if isinstance(exc, CertflowError):
        return exc
    line = traceback.extract_tb(exc.__traceback__)[-1]
    return CertflowError(
        f"a defect of this collection: {type(exc).__name__} at {line.filename.rpartition('_utils/')[2]}:{line.lineno}",
        code="defect",
        remedy="Please report it with this line",
    )


def _sentence(text: str) -> str:
    """Put the text on one line, as a sentence. YAML and JSON at its end stay ready to be copied."""
    line = visible(text)
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?", ":", "}")) else ".")
