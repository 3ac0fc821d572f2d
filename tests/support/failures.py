# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Expect a failure by its code and by the names in its text, never by its sentence.

A name is data: an object, an option, a field, a host, a number. It has no white space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError


@contextmanager
def fails(code: str, *names: str) -> Iterator[pytest.ExceptionInfo[CertflowError]]:
    """Expect a CertflowError with this code, whose cause and remedy hold each of the names."""
    with pytest.raises(CertflowError) as caught:
        yield caught
    assert caught.value.code == code, str(caught.value)
    assert not absent(names, f"{caught.value.cause} {caught.value.remedy}"), str(caught.value)


def has_failed(result: Mapping[str, Any], code: str, *names: str) -> bool:
    """Return True for the failed result of a module with this code, whose sentences hold each of the names."""
    text = " ".join(str(result.get(key, "")) for key in ("msg", "cause", "remedy"))
    return bool(result.get("failed")) and result.get("code") == code and not absent(names, text)


def absent(names: Sequence[str], text: str) -> list[str]:
    """Return the names that a text lacks. Raises ValueError for a name that is a sentence."""
    sentences = [name for name in names if not name or name.split() != [name]]
    if sentences:
        raise ValueError(f"not names: {sentences}")
    return [name for name in names if name not in text]
