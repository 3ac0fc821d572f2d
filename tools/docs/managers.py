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

Before a task writes to a Secret or to the `caBundle` of an object, it looks at the annotations, labels and field managers
of that object. Where they show another writer, it fails before its first write and says who that is, by which marks, and
what to do instead. An object that is as wanted already is not written to, whoever owns it.

## What to do

| Writer | On an object with a caBundle | A caBundle that is added [nevertheless](#take_over) | On a Secret |
|---|---|---|---|
"""
MARKS = """
A Secret is somebody else's as well where it has owner references, holds other keys, or a certificate for other names.

## How they are recognised

| Writer | Any of |
|---|---|
"""
END = """
What is no mark:

- The field manager `helm`: the objects of a chart's directory `crds/` carry it, and Helm does not touch them again.
- The label `app.kubernetes.io/instance`: Argo CD 2 tracks by it, and every chart sets it. There, Argo CD is recognised by
  its field manager.
- The field managers of cert-manager and of OpenShift: they stay on an object whose annotation is gone.
- Annotations by which you ask a writer for something, such as `cert-manager.io/allow-direct-injection`.

## take_over

`take_over: true` of `k8s_csr` and `webhook_cabundle`, `webhook_certificate_take_over` of the role, writes nevertheless.
Try the other writer's own way first: two writers of one field undo each other's work, and each time the API server may
refuse the webhook for a while.

- In a Secret, certificate and key are replaced, and the marks stay. A writer that issues certificates itself, as
  cert-manager does, issues its own again.
- In a `caBundle`, certificates are added beside those that are there.
- Nothing is taken out of a `caBundle` that another writer writes itself (merged or overwritten, by the table), since only
  that writer could put it back: `webhook_cabundle` refuses `mode: exactly` and `mode: absent` for such an object with
  `take_over` too, and `k8s_csr` removes from it what it added itself, and nothing else. For more, take the mark off the
  object first, as in `kubectl annotate validatingwebhookconfiguration NAME cert-manager.io/inject-ca-from-`.

## cert-manager

Its cainjector writes when its source changes, and after every change of the object. Since cert-manager 1.19 (1.17 and 1.18
with the feature gate CAInjectorMerging) it adds its CA to what is there and drops only what has expired, so that an added
CA stays. Older ones replace the whole bundle at once. An object without one of the three annotations `inject-*` is left
alone, whatever was injected before. The tests see both with a real cainjector.
"""
# Writer.bundle -> what becomes of a bundle that is added.
BUNDLES = {
    "merges": "merged; overwritten by [older ones](#cert-manager)",
    "overwrites": "overwritten, at once or when it next looks",
    "applies": "stays until a manifest that holds a `caBundle` is applied",
}
EXAMPLE = Target("ValidatingWebhookConfiguration", "NAME")


def other_writers() -> str:
    """The page."""
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
    """An object with the writer's first mark."""
    place, pattern = writer.marks[0]
    key, _equals, value = pattern.partition("=")
    if place == "manager":
        return {"metadata": {"managedFields": [{"manager": key}]}}
    return {"metadata": {f"{place}s": {key: value or "x"}}}


def _code(remedy: str) -> str:
    """What is to be pasted, as code."""
    words, brace, rest = remedy.partition("{")
    return f"{words}`{brace}{rest}`" if brace else remedy
