# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the pages of docs/docsite/rst that are made from tables of the code (`make docs`). A test compares them.

So a page and the messages of the modules cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._base import codes
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import (
    causes,
    ended,
    pod_certificates,
    remedies,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import show_span
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.pod_certificates import (
    NOT_SERVED,
)

from tools.docs import (
    audit,
    cause_pages,
    downgrades,
    hazards,
    managers,
    playbook_variables,
    provider_page,
    rbac,
    report,
    rst,
)

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
        Signer,
        SignerRule,
    )

# The beginnings of the API server's messages when it refuses to create a request.
OF_THE_API_SERVER = ("spec.", "use of ")


def why_not_issued() -> str:
    """Return the page about diagnoses."""
    return rst.rendered(
        "diagnosis",
        "Made by `make docs` from the tables in plugins/module_utils/_csr and _diagnosis, and from tools/docs/cause_pages.py.",
        symptoms="".join(_symptom_rows()),
        sections=[
            (symptom, meaning, "".join(map(_cause_section, _causes_of(symptom))))
            for symptom, meaning in cause_pages.SYMPTOMS.items()
        ],
        refusals="".join(_refusals()),
        at_create="".join(_at_create()),
        collected="".join(_collected_rows()),
        pod_causes="".join(
            _row(f"`{row.code}`", row.condition, row.title, row.remedy, rst.linked(row.source))
            for row in pod_certificates.POD_CAUSES
        ),
        pod_off=_row(f"`{NOT_SERVED.code}`", "", NOT_SERVED.cause, NOT_SERVED.remedy, ""),
    )


def failure_codes() -> str:
    """Return the page about failure codes."""
    rows = (f"| `{code}` | {meaning} |\n" for code, meaning in codes.CODES.items())
    return rst.rendered(
        "failure_codes",
        "Made by `make docs` from the table in plugins/module_utils/_base/codes.py.",
        codes="".join(rows),
    )


PAGES: dict[str, Callable[[], str]] = {
    "reference_failure_codes.rst": failure_codes,
    "reference_diagnosis.rst": why_not_issued,
    "reference_providers.rst": provider_page.provider_page,
    "reference_other_managers.rst": managers.other_writers,
    "reference_playbook_variables.rst": playbook_variables.variables,
    "reference_hazards.rst": hazards.hazards,
    "reference_audit.rst": audit.checks,
    "reference_audit_report.rst": report.audit_report,
}


def _causes_of(symptom: str) -> list[causes.Cause]:
    return [cause for cause in causes.CAUSES if cause.symptom == symptom]


def _symptom_rows() -> Iterator[str]:
    for symptom, meaning in cause_pages.SYMPTOMS.items():
        links = ", ".join(f"[{cause.code}](#{_anchor(cause.title)})" for cause in _causes_of(symptom))
        yield _row(f"[`{symptom}`](#{_anchor(symptom)})", meaning, links)


def _cause_section(cause: causes.Cause) -> str:
    text = cause_pages.CAUSES[cause.code]
    return (
        f"\n### {cause.title}\n\n`{cause.code}`: {text.meaning}\n\n"
        f"- **How to recognise it.** {text.signs}\n"
        f"- **Remedy.** {remedies.REMEDIES[cause.code].format(name='NAME', signer='SIGNER')}\n"
        f"- **Sources.** {'; '.join(map(rst.linked, text.sources))}\n"
    )


def _refusals() -> Iterator[str]:
    for signer in _kubernetes_signers():
        if signer.rules:
            yield f"\n### {signer.name}\n\n| Message | Remedy |\n|---|---|\n"
            yield from _rule_rows(rule for rule in signer.rules if not _is_at_create(rule))
            yield f"\nSource: {rst.linked(signer.source)}\n"
    yield "\n### Other programs\n\n| Reason | Meaning | Remedy |\n|---|---|---|\n"
    for refusal in (*ended.DENIALS, *ended.REFUSALS):
        yield _row(f"`{refusal.text}`", refusal.meaning, refusal.remedy)


def _at_create() -> Iterator[str]:
    yield from _rule_rows(signers.API_RULES)
    for signer in _kubernetes_signers():
        yield from _rule_rows(filter(_is_at_create, signer.rules))
        if signer.unusable:
            yield _row(f"signer `{signer.name}`", f"{signer.unusable}.")


def _kubernetes_signers() -> Iterator[Signer]:
    """Return the signers of Kubernetes. The messages of other signers are not known."""
    return (row for row in signers.SIGNERS.values() if row.flag)


def _is_at_create(rule: SignerRule) -> bool:
    return rule.text.startswith(OF_THE_API_SERVER)


def _rule_rows(rules: Iterable[SignerRule]) -> Iterator[str]:
    for rule in rules:
        text = rule.text.rstrip()
        yield _row(f"`{text}{' ...' if rule.text.endswith(' ') else ''}`", rule.remedy)


def _collected_rows() -> Iterator[str]:
    for row in ended.COLLECTED:
        yield _row(f"`{row.symptom}`", show_span(row.after), row.since, row.note)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _anchor(title: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def main() -> None:
    for name, make in PAGES.items():
        (rst.GUIDES / name).write_text(make())
        print(name)
    rbac.write()
    downgrades.write()
    print(f"{downgrades.PAGE.path.name}: {downgrades.NAME}")


if __name__ == "__main__":
    main()
