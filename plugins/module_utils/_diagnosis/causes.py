# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of causes for which a request is not issued, or not as it was requested.

reference_diagnosis.rst has a section about each cause, with its title. tools/docs/cause_pages.py explains it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import control_plane, ended, unissued
from .observation import (
    APPROVED,
    DENIED,
    FAILED,
    GONE,
    LIKELY,
    ONE_OF,
    PENDING,
    PROVEN,
    SEVERAL,
    CsrObservation,
    Diagnosis,
)
from .unissued import Rule


@dataclass(frozen=True)
class Cause:
    """One cause."""

    #: The code of its diagnoses.
    code: str
    #: The cause in words, for the heading of its section in reference_diagnosis.rst.
    title: str
    #: The only symptom to which its rule applies.
    symptom: str
    #: Returns a diagnosis if the cause applies to the observation.
    rule: Rule


#: For each symptom, final causes come first, and causes that only list possibilities come last.
CAUSES: tuple[Cause, ...] = (
    Cause(
        "no-right-to-approve",
        "It is not approved, and you have no permission to approve it",
        PENDING,
        unissued.no_permission_to_approve,
    ),
    Cause("never-approved", "It is not approved", PENDING, unissued.never_approved),
    Cause("denied", "It was denied", DENIED, ended.denied),
    Cause(
        "signer-not-served",
        "This cluster's provider does not serve the signer",
        APPROVED,
        unissued.not_served,
    ),
    Cause("no-such-signer", "No signer has this name", APPROVED, unissued.no_such_signer),
    Cause(
        "signer-switched-off",
        "kube-controller-manager has no CA for the signer",
        APPROVED,
        control_plane.switched_off,
    ),
    Cause(
        "controller-manager-stopped", "kube-controller-manager does not run", APPROVED, control_plane.stopped
    ),
    Cause(
        "cert-manager-gate-off",
        "cert-manager does not serve certificate signing requests",
        APPROVED,
        unissued.gate_off,
    ),
    Cause("signer-reports", "Its signer reports the cause in an Event", APPROVED, unissued.reported),
    Cause(
        "name-never-issued", "The request has a name that EKS ignores", APPROVED, unissued.forbidden_prefix
    ),
    Cause("signing-ca-expired", "The signing CA has expired", APPROVED, control_plane.expired_ca),
    Cause(
        "signer-depends-on-provider",
        "The marks of the provider are too few to tell if it serves the signer",
        APPROVED,
        unissued.depends_on_provider,
    ),
    Cause("left-over", "It was left over, days ago", APPROVED, unissued.left_over),
    Cause("approved-not-issued", "No readable fact shows the cause", APPROVED, unissued.unexplained),
    Cause("failed", "The signer refused the content", FAILED, ended.failed),
    Cause("deleted", "It was deleted by a user or a controller", GONE, ended.deleted),
    Cause("collected", "The cluster deleted it", GONE, ended.collected),
)


def diagnose(observation: CsrObservation) -> Diagnosis | None:
    """Return why the request is not issued, or not as it was requested. Return None if there is no fault.

    The first proven cause is the diagnosis. Without one, the likely causes are listed together. Without a likely cause,
    the first list of possible causes is the diagnosis. Unless the cause is proven, the evidence also names the facts
    that could not be read.
    """
    diagnoses = [
        diagnosis
        for cause in CAUSES
        if observation.symptom == cause.symptom and (diagnosis := cause.rule(observation))
    ]
    for diagnosis in diagnoses:
        if diagnosis.certainty == PROVEN:
            return diagnosis
    if not diagnoses:
        return None
    likely = [diagnosis for diagnosis in diagnoses if diagnosis.certainty == LIKELY]
    best = _merge(likely) if likely else diagnoses[0]
    return replace(best, evidence=(*best.evidence, *observation.unreadable))


def _merge(likely: Sequence[Diagnosis]) -> Diagnosis:
    if len(likely) == 1:
        return likely[0]
    causes = (f"({number}) {diagnosis.cause}" for number, diagnosis in enumerate(likely, 1))
    return Diagnosis(
        SEVERAL,
        f"One of: {' '.join(causes)}",
        ONE_OF,
        tuple(dict.fromkeys(text for diagnosis in likely for text in diagnosis.evidence)),
        " ".join(dict.fromkeys(diagnosis.remedy for diagnosis in likely)),
    )
