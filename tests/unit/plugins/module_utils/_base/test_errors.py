# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of an error is one clear line for every cause."""

from __future__ import annotations

import pickle

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError


@pytest.mark.parametrize(
    ("cause", "remedy", "text"),
    [
        ("no such context", "", "No such context."),
        ("no such context", "Name another", "No such context. Name another."),
        ("no such context.", "Name another.", "No such context. Name another."),
        ("is it there?", "Look!", "Is it there? Look!"),
        ("line one\nline two\r\n\ttab", "  ", "Line one line two tab."),
        ("no\x1b[2J such\u202e context", "name\x9b it", r"No\x1b[2J such\u202e context. Name\x9b it."),
    ],
)
def test_text(cause: str, remedy: str, text: str) -> None:
    assert str(CertflowError(cause, evidence=["seen"], remedy=remedy)) == text


def test_attributes_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(CertflowError("cause", evidence=["one", "two"], remedy="remedy")))
    assert (error.cause, error.evidence, error.remedy) == ("cause", ("one", "two"), "remedy")
