# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words of the option accept are parsed, limited to objects, and disjoint."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.doc_fragments._accept import ModuleDocFragment
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    MANAGERS,
    OPERATOR,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import ASK, HAZARDS
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.pod_specs import (
    WORKLOADS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import KINDS
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.modules import (
    k8s_csr,
    snapshot_controller,
    snapshot_controller_info,
    webhook_cabundle,
    webhook_repair,
)

from tests.support.failures import fails

WEBHOOK, POD = "ValidatingWebhookConfiguration hooks", "Deployment kube-system/controller"
# Items, word, object, the answer.
COVERED: list[tuple[list[Any], str, str, bool]] = [
    ([], "helm", WEBHOOK, False),
    (["helm"], "helm", WEBHOOK, True),
    (["helm"], "flux", WEBHOOK, False),
    (["helm"], "helm", "", True),
    ([{"helm": "ValidatingWebhookConfiguration/hooks"}], "helm", WEBHOOK, True),
    ([{"helm": "ValidatingWebhookConfiguration/hooks"}], "helm", POD, False),
    ([{"helm": "ValidatingWebhookConfiguration/hooks"}], "helm", "", False),
    ([{"helm": "Deployment/other/controller"}], "helm", POD, False),
    ([{"helm": ["ValidatingWebhookConfiguration/x", "Deployment/kube-system/controller"]}], "helm", POD, True),
    (["flux", {"helm": ["Deployment/kube-system/controller"]}], "flux", WEBHOOK, True),
    (["manager:terraform"], "manager:terraform", POD, True),
    (["manager:terraform"], "manager:pulumi", POD, False),
    ([{"manager:terraform": "Deployment/kube-system/controller"}], "manager:terraform", POD, True),
]  # fmt: skip
WRONG: tuple[list[Any], ...] = (
    ["hlem"], ["unseen"], [""], [None], [7], [["helm"]], ["manager:"], ["manager"], [{}, "x"],
    [{"helm": None}], [{"helm": []}], [{"helm": "hooks"}], [{"helm": [None]}], [{"helm": "a/b/c/d"}], [{"helm": {}}],
    [{}], [{"helm": True}], [{"helm": 5}], [{"helm": {"Deployment/a/b": False}}], [{"helm": {"Deployment/a/b"}}],
    [{"helm": "deployment/a/b"}], [{"helm": "Deployment/b"}], [{"helm": "Deployment//b"}], [{"helm": "Deployment/a/"}],
    [{"helm": "ClusterRole/a/b"}], [{"helm": ""}], [{"helm": ["Deployment/a/b", "Deployments/a/b"]}],
    [{"arguments-dropped": "Deployment/a/b"}], [{None: "Deployment/a/b"}], [{("helm",): "Deployment/a/b"}],
)  # fmt: skip


@pytest.mark.parametrize(("items", "word", "target", "expected"), COVERED)
def test_a_word_covers_its_objects(items: list[Any], word: str, target: str, expected: bool) -> None:
    assert accept.parse(items).covers(word, target) is expected


@pytest.mark.parametrize("items", WRONG, ids=str)
def test_an_unknown_item_is_refused(items: list[Any]) -> None:
    with fails("invalid-input", "accept") as caught:
        accept.parse(items)
    assert caught.value.remedy


def test_a_misspelt_word_gets_a_proposal() -> None:
    with fails("invalid-input", "'hlem',", "helm?"):
        accept.parse(["hlem"])


def test_the_sets_of_words_are_disjoint() -> None:
    managers = [row.key for row in MANAGERS]
    hazards = [row.id for row in HAZARDS]
    words = [*managers, *hazards, accept.OTHER_CONTENT, *accept.LIMITED]
    assert sorted(set(words)) == sorted(words)
    assert not any(":" in word for word in words)


def test_everything_covers_every_word_and_nothing_covers_none() -> None:
    assert accept.EVERYTHING.covers("helm", WEBHOOK) and accept.EVERYTHING.has_managers(WEBHOOK)
    assert not accept.NOTHING.covers("helm", WEBHOOK) and not accept.NOTHING.has_managers(WEBHOOK)


def test_every_kind_that_is_written_can_be_named() -> None:
    kinds = {name: 2 if kind.namespaced else 1 for name, kind in KINDS.items()}
    kinds |= dict.fromkeys(bundle_targets.KINDS, 1) | dict.fromkeys(WORKLOADS.values(), 2)
    for kind, parts in kinds.items():
        accept.parse([{"helm": "/".join([kind, *"xy"[:parts]])}])


def test_the_page_lists_every_word() -> None:
    text = str(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["accept"]["description"])
    assert [word for word in accept.WORDS if f"V({word})" not in text] == []


def test_every_module_has_the_option_and_its_page() -> None:
    pages = {
        k8s_csr, snapshot_controller, snapshot_controller_info, webhook_cabundle, webhook_repair,
    }  # fmt: skip
    for page in pages:
        documented = yaml.safe_load(page.DOCUMENTATION)
        assert "certflow.kubernetes._accept" in documented["extends_documentation_fragment"], page.__name__
        assert "accept" not in documented.get("options", {})


def test_words_of_hazards() -> None:
    assert set(accept.HAZARDS) == {row.id for row in HAZARDS if row.handling == ASK}
    assert {"openshift", "olm", OPERATOR, "manager"}.isdisjoint(accept.UPGRADABLE)
