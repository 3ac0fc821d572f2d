# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every judge of owners answers as recorded for each mark of an owner."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept, owners

from tests.unit.plugins.module_utils._base import owner_answers


def test_the_answers_are_those_that_are_recorded() -> None:
    assert owner_answers.page() == owner_answers.PAGE.read_text(encoding="utf-8")


def test_the_option_of_a_refusal_is_one_that_lifts_it() -> None:
    obj = {
        "metadata": {"annotations": {"meta.helm.sh/release-name": "a"}, "ownerReferences": [{"kind": "X"}]}
    }
    target = "Secret apps/hook-tls"
    refused = owners.refuse(owners.owners(obj), accept.NOTHING, target)
    assert refused is not None
    assert refused.option == "accept: [{helm: [Secret/apps/hook-tls]}, {operator: [Secret/apps/hook-tls]}]"
    items = [{word: ["Secret/apps/hook-tls"]} for word in refused.words]
    assert owners.refuse(owners.owners(obj), accept.parse(items), target) is None
    assert owners.refuse(owners.owners(obj), accept.parse(items), "Secret apps/other") is not None
