# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Why a request is not issued: the rules of _causes over one observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .causes import CAUSES
from .diagnosis import LIKELY, ONE_OF, PROVEN, Diagnosis
from .observation import CsrObservation


def diagnose(observation: CsrObservation) -> Diagnosis | None:
    """Return why the request is not issued, or not as asked for; None where all is well.

    The first proven rule wins, else the likely ones are listed together, else the first that lists what it may be.
    What is less than proven also says what could not be read.
    """
    found = [
        diagnosis
        for cause in CAUSES
        if observation.symptom == cause.symptom and (diagnosis := cause.rule(observation))
    ]
    for diagnosis in found:
        if diagnosis.certainty == PROVEN:
            return diagnosis
    likely = [diagnosis for diagnosis in found if diagnosis.certainty == LIKELY]
    if not found:
        return None
    best = _merged(likely) if likely else found[0]
    return replace(best, evidence=(*best.evidence, *observation.unreadable))


def _merged(likely: Sequence[Diagnosis]) -> Diagnosis:
    if len(likely) == 1:
        return likely[0]
    return Diagnosis(
        "several",
        f"One of: {' '.join(f'({number}) {one.cause}' for number, one in enumerate(likely, 1))}",
        ONE_OF,
        tuple(dict.fromkeys(text for one in likely for text in one.evidence)),
        " ".join(dict.fromkeys(one.remedy for one in likely)),
    )
