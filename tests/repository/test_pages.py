# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that generated pages agree with their tables."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import trust_anchors
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import (
    causes,
    remedies,
    signer_probe,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_faults
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import PLAYBOOK_VARIABLES

from tools.ci import tree
from tools.ci.venvs import REPOSITORY
from tools.docs import cause_pages, downgrades, hazards, pages, rbac, rst


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_agrees_with_its_tables(name: str) -> None:
    assert (rst.GUIDES / name).read_text() == pages.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("name", rbac.TASKS)
def test_a_file_of_a_task_has_the_rules_of_its_parts(name: str) -> None:
    assert (rbac.FOLDER / f"{name}.yaml").read_text() == rbac.text_of(name), "run `make docs`"


def test_the_table_of_downgrades_agrees_with_the_plans() -> None:
    told = downgrades.PAGE.part(downgrades.NAME)
    assert told.strip() == downgrades.downgrades().strip(), "run `make docs`"


def test_every_guide_is_in_one_section() -> None:
    sections = yaml.safe_load((REPOSITORY / "docs" / "docsite" / "extra-docs.yml").read_text())["sections"]
    names = [name for section in sections for name in section["toctree"]]
    assert sorted(names) == sorted(path.stem for path in rst.GUIDES.glob("*.rst"))


def test_every_guide_has_its_label_and_a_kind() -> None:
    for path in rst.GUIDES.glob("*.rst"):
        kind, _underscore, name = path.stem.partition("_")
        assert kind in ("explanation", "guide", "reference", "tutorial"), path.name
        assert f"\n.. _{rst.label(name)}:\n" in f"\n{path.read_text()}", path.name


def test_every_address_of_the_site_leads_to_a_guide() -> None:
    site = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["documentation"]
    address = re.compile(re.escape(site) + r"docsite/(\w+)\.html")
    texts = [
        (REPOSITORY / name).read_text()
        for name in tree.listed_files()
        if name.endswith((".md", ".py", ".rst", ".yaml", ".yml"))
    ]
    names = {name for text in texts for name in address.findall(text)}
    assert names
    assert [name for name in names if not (rst.GUIDES / f"{name}.rst").exists()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`a` is *new*", "``a`` is *new*"),
        ("the names *.svc and a_", "the names \\*.svc and a\\_"),
        ("`Lease`s", "``Lease``\\ s"),
        ("see [`x`](#a-b)", f"see :ref:`x <{rst.LABELS}p.a_b>`"),
        ("[x](/docs/rbac/a.yaml)", f"`x <{rst.FILES}docs/rbac/a.yaml>`__"),
        ("**wrong** at https://a.b/c_d.", "**wrong** at https://a.b/c_d."),
    ],
)
def test_light_markup_becomes_rst(text: str, expected: str) -> None:
    assert rst.inline(text, "p") == expected


def test_a_table_is_read_as_it_was_written() -> None:
    rows = [["head", 'a "b"'], ["*.svc", "one, two"], ["a|b_", ""]]
    assert rst.read_table(rst.table(rows[0], rows[1:])) == rows


def test_every_hazard_has_its_releases() -> None:
    assert list(hazards.BETWEEN) == [row.id for row in table.HAZARDS]


def test_every_cause_and_symptom_has_a_text() -> None:
    assert set(cause_pages.CAUSES) == set(remedies.REMEDIES) == {cause.code for cause in causes.CAUSES}
    assert set(cause_pages.SYMPTOMS) == {cause.symptom for cause in causes.CAUSES}


def test_every_signer_with_a_table_of_refusals_has_a_source() -> None:
    assert [row.name for row in signers.SIGNERS.values() if row.flag and row.rules and not row.source] == []


@pytest.mark.parametrize("name", ["approve", "probe"])
def test_a_role_permits_the_serving_signers(name: str) -> None:
    """The names are examples. They are the serving signers of the table of providers."""
    role = yaml.safe_load((REPOSITORY / f"docs/rbac/{name}.yaml").read_text())
    (rule,) = [rule for rule in role["rules"] if rule.get("resources") == ["signers"]]
    assert sorted(rule["resourceNames"]) == sorted(signer_probe.serving_signers())


def first_cells(page: str) -> list[str]:
    """Return the code in the first cell of each row of a page's tables."""
    rows = rst.read_table((rst.GUIDES / page).read_text())
    return [cell.strip("`") for cell, *_rest in rows if cell.startswith("``")]


def test_the_page_of_the_inventory_names_every_provider_that_it_detects() -> None:
    page = (REPOSITORY / "plugins/inventory/kubeconfig.py").read_text()
    named = [row.name for row in providers.PROVIDERS if row.kubeconfig_marks]
    assert [name for name in named if f"V({name})" not in page] == []


def test_the_page_of_the_probe_has_every_fault_of_a_call() -> None:
    """Only the audit finds the others. Two more codes are of answers, not of calls."""
    page = (REPOSITORY / "plugins/modules/webhook_probe.py").read_text()
    part = page[page.index("Codes of a failed call") : page.index("Codes of an unexpected answer")]
    of_audit = {"bundle-empty", "ca-expired", "certificate-unread"}
    faults = {row.id for row in call_faults.FAULTS} - of_audit
    assert set(re.findall(r"C\(([a-z-]+)\)", part)) - {"conversion-refused", "unnamed"} == faults


def test_the_page_of_variables_has_every_variable_of_the_playbooks() -> None:
    shown = [name for name in first_cells("reference_playbook_variables.rst") if name.startswith("certflow_")]
    assert sorted(shown) == sorted(PLAYBOOK_VARIABLES)


def test_the_page_of_the_report_has_every_key_and_status() -> None:
    shown = {name for cell in first_cells("reference_report.rst") for name in cell.split("``, ``")}
    keys = {
        field.name
        for field in (
            *report_schema.of_kind(report_schema.CLUSTER, report_schema.RUN),
            *report_schema.FLEET_RUN,
        )
    }
    assert shown == {*keys, *report_schema.RUN_STATUSES}


def test_the_page_of_anchors_has_every_published_ca() -> None:
    text = (rst.GUIDES / "explanation_trust_anchors.rst").read_text()
    assert [place.name for place in trust_anchors.CONFIG_MAPS if f"``{place.name}``" not in text] == []


def test_pages_that_galaxy_shows_have_no_relative_links() -> None:
    """Galaxy shows README files without the files beside them."""
    pages_of_galaxy = [REPOSITORY / "README.md", *REPOSITORY.glob("roles/*/README.md")]
    links = [
        f"{path.relative_to(REPOSITORY)}: {link}"
        for path in pages_of_galaxy
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if not re.match(r"https://|#", link)
    ]
    assert links == []
