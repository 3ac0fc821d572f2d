# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about other managers, made from the table of managers."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._managers import (
    APPLIES,
    MANAGERS,
    MERGES,
    OVERWRITES,
    PLACES,
    DetectedManager,
    Manager,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import (
    Target,
    remedy_for,
)

from tools.docs import rst

BEGIN = """\
# Other managers of Secrets and webhooks

Before a task writes a Secret or the `caBundle` of an object, it checks the object's annotations, labels and field managers. If they
show another manager, the task fails before its first write. The message names the manager, its markers, and what to do instead. If
the object is already in the requested state, the task writes nothing and does not fail.

## What to do

| Manager, and its word for accept | On an object with a caBundle | A CA that is added [with accept](#accept) | On a Secret |
|---|---|---|---|
"""
MARKERS = """
A Secret also belongs to another manager if it has owner references, holds other keys, or holds a certificate for other names.

## How managers are recognised

| Manager | Any of |
|---|---|
"""
END = """
These markers do not count:

- The field manager `helm`. The objects of a chart's directory `crds/` have it, and Helm does not change them later.
- The label `app.kubernetes.io/instance`. Argo CD 2 tracks objects by it, but every chart sets it. Argo CD 2 is recognised by its
  field manager.
- The field managers of cert-manager and of OpenShift. They stay on an object whose annotation was removed.
- Annotations that configure a manager but do not show that it writes, such as `cert-manager.io/allow-direct-injection`.

## accept

If the option `accept` has the word of a manager, the modules `k8s_csr`, `webhook_cabundle` and `webhook_probe` write its objects. The
role has `webhook_certificate_accept`. An item may limit the word to objects, as in `{helm: [ValidatingWebhookConfiguration/example]}`. For
a Secret, `operator` stands for owner references, and `foreign-secret` for other keys or other names. Use the other manager's own way first. Two managers of one field undo each other's work, and the API
server may refuse the webhook after each change.

- In a Secret, the task replaces certificate and key, and the markers stay. A manager that issues certificates itself, such as
  cert-manager, issues its own certificate again.
- In a `caBundle`, the task adds certificates and keeps those that are there.
- The task removes no certificates from a `caBundle` that another manager fills (merged or overwritten in the table), because only that
  manager could restore them. `webhook_cabundle` refuses `mode: exactly` and `mode: absent` for such an object, also with
  `accept`. `k8s_csr` removes only the certificates that it added itself. To remove more, first remove the marker from the
  object, as in `kubectl annotate validatingwebhookconfiguration NAME cert-manager.io/inject-ca-from-`.

## cert-manager

cert-manager's cainjector writes a `caBundle` when its source changes, and after every change of the object. Since cert-manager 1.19, and
in 1.17 and 1.18 with the feature gate CAInjectorMerging, it adds its CA to the bundle and removes only expired certificates. So a CA
that a task adds stays. Older versions replace the whole bundle at once. cainjector ignores an object without one of the three
annotations `inject-*`, also if it has filled the bundle before. The tests verify both cases with a real cainjector.
"""
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
    text = "".join([BEGIN, *map(_advice, rows), MARKERS, *map(_recognition, rows), END])
    return rst.page(text, "other_managers", "Made by `make docs` from plugins/module_utils/_managers.py.")


def _advice(manager: Manager) -> str:
    secret = manager.for_secrets[:1].upper() + manager.for_secrets[1:]
    target = _code(remedy_for(EXAMPLE, DetectedManager(manager, ()))) if manager.bundle else "-"
    return _row(f"{manager.name} (`{manager.key}`)", target, BUNDLES.get(manager.bundle, "-"), secret)


def _recognition(manager: Manager) -> str:
    markers = (
        f"{PLACES.get(place, place)} `{pattern.replace('=', ': ')}`" for place, pattern in manager.markers
    )
    return _row(f"[{manager.name}]({manager.source.partition('; ')[0]})", "<br>".join(markers))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _code(remedy: str) -> str:
    """Return the remedy with its YAML as inline code."""
    words, brace, rest = remedy.partition("{")
    return f"{words}`{brace}{rest}`" if brace else remedy
