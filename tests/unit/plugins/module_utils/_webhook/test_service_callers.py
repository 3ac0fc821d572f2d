# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects that call a Service, and the caBundles that may be written."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Forbidden,
    MissingPermissions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import service_callers
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    KINDS,
    Target,
)

from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error, ca
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

SERVICE = ("apps", "hook")
OURS, KUBECTL, CAINJECTOR = "certflow.kubernetes", "kubectl-edit", "cert-manager-cainjector"


def config(bundle: str = "", *, service: str = "hook", **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"service": {"namespace": "apps", "name": service}, **changed}
    return {**found, "caBundle": encoded(bundle)} if bundle else found


def owned(manager: str, *path: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in reversed(path):
        fields = {name: fields}
    return {"manager": manager, "operation": "Update", "fieldsV1": fields}


def hooks(*configs: dict[str, Any], managers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a webhook configuration with webhooks w0.x, w1.x, and a field manager for each caBundle."""
    entries = [
        owned(manager, "f:webhooks", f'k:{{"name":"w{index}.x"}}', "f:clientConfig", "f:caBundle")
        for index, manager in enumerate(managers)
    ]
    webhooks = [{"name": f"w{index}.x", "clientConfig": part} for index, part in enumerate(configs)]
    return {"metadata": {"name": "hooks", "managedFields": entries}, "webhooks": webhooks}


def crd(part: dict[str, Any] | None, manager: str = "") -> dict[str, Any]:
    entry = owned(manager, "f:spec", "f:conversion", "f:webhook", "f:clientConfig", "f:caBundle")
    conversion: dict[str, Any] = {"strategy": "None"}
    if part is not None:
        conversion = {"strategy": "Webhook", "webhook": {"clientConfig": part}}
    return {"metadata": {"name": "things.x", "managedFields": [entry]}, "spec": {"conversion": conversion}}


def api_service(part: dict[str, Any], manager: str = "") -> dict[str, Any]:
    entry = owned(manager, "f:spec", "f:caBundle")
    return {"metadata": {"name": "v1.x", "managedFields": [entry]}, "spec": part}


VALIDATING, CRD, API_SERVICE = "ValidatingWebhookConfiguration", "CustomResourceDefinition", "APIService"
PEM = ca().pem
CASES: list[tuple[str, str, dict[str, Any], tuple[str, ...] | None, list[str]]] = [
    ("an empty caBundle", VALIDATING, hooks(config()), (), []),
    ("a caBundle without a certificate", VALIDATING, hooks(config("\n")), (), []),
    ("another Service", VALIDATING, hooks(config(service="other")), None, []),
    ("a URL", VALIDATING, hooks({"url": "https://hook.apps.svc/"}), None, []),
    ("a URL with an impossible port", VALIDATING, hooks({"url": "https://hook.apps.svc:99999/"}), None, []),
    ("a URL with an impossible host", VALIDATING, hooks({"url": "https://[hook]:443/"}), None, []),
    ("an impossible URL beside it", VALIDATING, hooks({"url": "https://[hook]:99999/"}, config()), (), []),
    ("no webhooks", VALIDATING, hooks(), None, []),
    ("ours", VALIDATING, hooks(config(PEM), managers=(OURS,)), (), []),
    ("ours in another webhook", VALIDATING, hooks(config(PEM), config(), managers=("x", OURS)), ("w1.x",), ["w0.x"]),
    ("of kubectl", VALIDATING, hooks(config(PEM), managers=(KUBECTL,)), None, ["w0.x"]),
    ("of cert-manager", "MutatingWebhookConfiguration", hooks(config(PEM), managers=(CAINJECTOR,)), None, ["w0.x"]),
    ("of an unknown client", VALIDATING, hooks(config(PEM)), None, ["w0.x"]),
    ("a webhook of another Service beside it", VALIDATING, hooks(config(), config(PEM, service="other")), (), []),
    ("a conversion", CRD, crd(config()), (), []),
    ("our conversion", CRD, crd(config(PEM), OURS), (), []),
    ("a foreign conversion", CRD, crd(config(PEM), KUBECTL), None, [""]),
    ("no conversion", CRD, crd(None), None, []),
    ("an APIService", API_SERVICE, api_service(config()), (), []),
    ("our APIService", API_SERVICE, api_service(config(PEM), OURS), (), []),
    ("a local APIService", API_SERVICE, api_service({}), None, []),
    ("an APIService without verification", API_SERVICE, api_service(config(insecureSkipTLSVerify=True)), None, [""]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "obj", "taken", "skipped"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_caller_and_its_bundles(
    kind: str, obj: dict[str, Any], taken: tuple[str, ...] | None, skipped: list[str]
) -> None:
    """``taken``: the webhooks of the target, None if no caBundle may be written."""
    caller = service_callers.judge(Target(kind, obj["metadata"]["name"]), obj, SERVICE)
    assert (caller.target.webhooks if caller and caller.is_usable else None) == taken
    assert list(caller.skipped if caller else {}) == skipped


@pytest.mark.parametrize(("record", "usable"), [("w0.x", True), ("w1.x", False)])
def test_a_recorded_anchor_makes_a_foreign_bundle_ours(record: str, usable: bool) -> None:
    """Another client added a CA to the bundle, and became its field manager."""
    obj = hooks(config(PEM + ca("other").pem), managers=(KUBECTL,))
    recorded = [f"{VALIDATING}/hooks/{record}={ca().fingerprint}"]
    caller = service_callers.judge(Target(VALIDATING, "hooks"), obj, SERVICE, recorded)
    assert caller is not None
    assert caller.is_usable is usable


def test_the_reason_names_the_field_manager() -> None:
    caller = service_callers.judge(
        Target(VALIDATING, "hooks"), hooks(config(PEM), managers=(KUBECTL,)), SERVICE
    )
    assert caller is not None
    assert caller.skipped == {"w0.x": "its caBundle was written by the field manager kubectl-edit"}


def path_of(kind: str) -> str:
    row = KINDS[kind]
    return f"/apis/{row.group}/{row.version}/{row.resource}"


def listing(*forbidden: str) -> ScriptedApi:
    objects = {VALIDATING: [hooks(config())], CRD: [crd(config()), crd(None)]}
    return ScriptedApi(
        {
            path_of(kind): api_error(Forbidden)
            if kind in forbidden
            else {"metadata": {"resourceVersion": "1"}, "items": objects.get(kind, [])}
            for kind in KINDS
        }
    )


def test_each_kind_is_listed_once() -> None:
    api = listing()
    callers = service_callers.list_callers(api, SERVICE)  # type: ignore[arg-type]
    assert [str(caller.target) for caller in callers] == [f"{VALIDATING} hooks", f"{CRD} things.x"]
    assert len(api.asked) == len(KINDS)


def test_one_failure_names_every_missing_permission_to_list() -> None:
    with pytest.raises(MissingPermissions) as error:
        service_callers.list_callers(listing(CRD, API_SERVICE), SERVICE)  # type: ignore[arg-type]
    assert "customresourcedefinitions" in error.value.cause
    assert "apiservices" in error.value.cause
    assert "validatingwebhookconfigurations" not in error.value.cause


def test_a_look_skips_the_kinds_that_cannot_be_listed() -> None:
    callers = service_callers.list_callers(listing(CRD), SERVICE, needs_all=False)  # type: ignore[arg-type]
    assert [caller.target.kind for caller in callers] == [VALIDATING]


def test_only_the_callers_of_a_page_are_kept() -> None:
    """The pages of a large list do not fit into the memory of a fork together."""
    kept: list[weakref.ref[Page]] = []

    class Page(dict[str, Any]):
        """A page that can be referenced weakly."""

    def pages(path: str) -> Iterator[Page]:
        for number in range(3 if path == path_of(CRD) else 0):
            page = Page(items=[crd(config()) if number == 1 else crd(None)])
            assert sum(reference() is not None for reference in kept) <= 1
            kept.append(weakref.ref(page))
            yield page

    api: Any = SimpleNamespace(pages=pages)
    assert [str(caller.target) for caller in service_callers.list_callers(api, SERVICE)] == [
        f"{CRD} things.x"
    ]
