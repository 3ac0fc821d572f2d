# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about other managers, made from the table of managers."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    APPLIES,
    MANAGERS,
    MERGES,
    OVERWRITES,
    PLACES,
    REWRITERS,
    Manager,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
    remedy_for,
)

from tools.docs import rst

# Manager.bundle -> text about a CA that a task adds to the bundle.
BUNDLES = {
    MERGES: "is merged. [Older versions](#cert-manager) overwrite it",
    OVERWRITES: "is overwritten, at once or at the manager's next check",
    APPLIES: "stays until the manager applies a manifest that has a `caBundle`",
}
EXAMPLE = Target("ValidatingWebhookConfiguration", "NAME")


def other_writers() -> str:
    """Return the page."""
    rows = [row for row in MANAGERS if row.for_secrets]
    return rst.rendered(
        "other_managers",
        "Made by `make docs` from plugins/module_utils/_base/object_managers.py.",
        advice="".join(map(_advice, rows)),
        recognition="".join(map(_recognition, rows)),
        rewriters="".join(
            _row(row.name, _markers(row), f"{row.for_targets}.", rst.linked(row.source)) for row in REWRITERS
        ),
    )


def _advice(manager: Manager) -> str:
    secret = manager.for_secrets[:1].upper() + manager.for_secrets[1:]
    target = _code(remedy_for(EXAMPLE, manager)) if manager.bundle else "-"
    return _row(f"{manager.name} (`{manager.key}`)", target, BUNDLES.get(manager.bundle, "-"), secret)


def _recognition(manager: Manager) -> str:
    return _row(f"[{manager.name}]({manager.source.partition('; ')[0]})", _markers(manager))


def _markers(manager: Manager) -> str:
    markers = (
        f"{PLACES.get(place, place)} `{pattern.replace('=', ': ')}`" for place, pattern in manager.markers
    )
    return "<br>".join(markers)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _code(remedy: str) -> str:
    """Return the remedy with its YAML as inline code."""
    words, brace, rest = remedy.partition("{")
    return f"{words}`{brace}{rest}`" if brace else remedy
