# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CustomResourceDefinition is deleted only if the API server shows that it has no objects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import CRD
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP_CONTENTS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.delete_objects import (
    _check_crd,
)

from tests.support.failures import fails


def _client(*, served: bool, items: int) -> Any:
    spec = {
        "group": "g",
        "names": {"plural": "contents"},
        "versions": [{"name": "v1", "served": served}],
    }
    return SimpleNamespace(
        find=lambda _path: {"spec": spec}, get=lambda _path, _query: {"items": [{}] * items}
    )


@pytest.mark.parametrize(("served", "items"), [(True, 1), (False, 0)])
def test_a_crd_that_has_or_may_have_objects_is_kept(served: bool, items: int) -> None:
    with fails("invalid-step", "objects"):
        _check_crd(_client(served=served, items=items), Reference(CRD, GROUP_CONTENTS))


def test_a_crd_without_objects_is_deleted() -> None:
    _check_crd(_client(served=True, items=0), Reference(CRD, GROUP_CONTENTS))
