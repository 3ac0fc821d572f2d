# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/other-writers.md, made from the table of other writers."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._managers import WRITERS, Writer
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import Target
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.target_managers import owners

BEGIN = """\
# Other writers of Secrets and webhooks

<!-- Made by `make docs` from plugins/module_utils/_managers.py: change that. -->

Before a task writes a Secret or the `caBundle` of an object, it checks the object's annotations, labels and field managers. If they
show another writer, the task fails before its first write. The message names the writer, its marks, and what to do instead. If
the object is already in the requested state, the task writes nothing and does not fail.

## What to do

| Writer | On an object with a caBundle | A CA that is added [with take_over](#take_over) | On a Secret |
|---|---|---|---|
"""
MARKS = """
A Secret also belongs to another owner if it has owner references, holds other keys, or holds a certificate for other names.

## How writers are recognised

| Writer | Any of |
|---|---|
"""
END = """
These marks do not count:

- The field manager `helm`. The objects of a chart's directory `crds/` have it, and Helm does not change them later.
- The label `app.kubernetes.io/instance`. Argo CD 2 tracks objects by it, but every chart sets it. Argo CD 2 is recognised by its
  field manager.
- The field managers of cert-manager and of OpenShift. They stay on an object whose annotation was removed.
- Annotations that configure a writer but do not show that it writes, such as `cert-manager.io/allow-direct-injection`.

## take_over

With `take_over: true` the modules `k8s_csr` and `webhook_cabundle` write the object in spite of the other writer. The role has
`webhook_certificate_take_over`. Use the other writer's own way first. Two writers of one field undo each other's work, and the API
server may refuse the webhook after each change.

- In a Secret, the task replaces certificate and key, and the marks stay. A writer that issues certificates itself, such as
  cert-manager, issues its own certificate again.
- In a `caBundle`, the task adds certificates and keeps those that are there.
- The task removes no certificates from a `caBundle` that another writer fills (merged or overwritten in the table), because only that
  writer could restore them. `webhook_cabundle` refuses `mode: exactly` and `mode: absent` for such an object, also with
  `take_over`. `k8s_csr` removes only the certificates that it added itself. To remove more, first remove the mark from the
  object, as in `kubectl annotate validatingwebhookconfiguration NAME cert-manager.io/inject-ca-from-`.

## cert-manager

cert-manager's cainjector writes a `caBundle` when its source changes, and after every change of the object. Since cert-manager 1.19, and
in 1.17 and 1.18 with the feature gate CAInjectorMerging, it adds its CA to the bundle and removes only expired certificates. So a CA
that a task adds stays. Older versions replace the whole bundle at once. cainjector ignores an object without one of the three
annotations `inject-*`, also if it has filled the bundle before. The tests verify both cases with a real cainjector.
"""
# Writer.bundle -> text about a CA that a task adds to the bundle.
BUNDLES = {
    "merges": "is merged. [Older versions](#cert-manager) overwrite it",
    "overwrites": "is overwritten, at once or at the writer's next check",
    "applies": "stays until the writer applies a manifest that has a `caBundle`",
}
EXAMPLE = Target("ValidatingWebhookConfiguration", "NAME")


def other_writers() -> str:
    """Return the page."""
    return "".join([BEGIN, *map(_advice, WRITERS), MARKS, *map(_recognition, WRITERS), END])


def _advice(writer: Writer) -> str:
    secret = writer.for_secrets[:1].upper() + writer.for_secrets[1:]
    found = [owner for owner in owners(EXAMPLE, _marked(writer)) if owner.writer == writer.name]
    target = _code(found[0].remedy) if found else "-"
    return _row(writer.name, target, BUNDLES.get(writer.bundle, "-"), secret)


def _recognition(writer: Writer) -> str:
    words = {"manager": "field manager"}
    marks = (f"{words.get(place, place)} `{pattern.replace('=', ': ')}`" for place, pattern in writer.marks)
    return _row(f"[{writer.name}]({writer.source})", "<br>".join(marks))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _marked(writer: Writer) -> dict[str, object]:
    """Return an object with the writer's first mark."""
    place, pattern = writer.marks[0]
    key, _equals, value = pattern.partition("=")
    if place == "manager":
        return {"metadata": {"managedFields": [{"manager": key}]}}
    return {"metadata": {f"{place}s": {key: value or "x"}}}


def _code(remedy: str) -> str:
    """Return the remedy with its YAML as inline code."""
    words, brace, rest = remedy.partition("{")
    return f"{words}`{brace}{rest}`" if brace else remedy
