# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is put back after a write without effect, while others write the same object."""

from __future__ import annotations

import copy
from typing import Any, Callable, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Conflict,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import (
    ABSENT,
    RECORD,
    BundleAction,
    BundleEdit,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import RepairOptions
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)

from tests.support.certificates.authority import NOW, authority
from tests.unit.plugins.module_utils._csr.flow import applied
from tests.unit.plugins.module_utils._webhook.objects import (
    api_service,
    client_config,
    configuration,
    encoded,
)

pytestmark = pytest.mark.quick

Edit = Callable[[dict[str, Any]], Any]
OLD, NEW = authority("old"), authority("new")
BOTH = OLD.pem + NEW.pem
SERVICE = ("kube-system", "hook")
OTHER = {"namespace": "kube-system", "name": "other", "port": 443}
AVAILABLE, HOOKS = Target("APIService", "v1.example.com"), Target("ValidatingWebhookConfiguration", "hooks")


class OneObject:
    """An API server with one object. Each write gives it another version."""

    def __init__(self, obj: dict[str, Any]) -> None:
        self.obj = obj

    def patch(self, _path: str, operations: list[dict[str, Any]], *, dry_run: bool = False) -> dict[str, Any]:
        assert not dry_run
        for operation in operations:
            held = self._at(operation["path"])
            if operation["path"] == "/metadata/resourceVersion" and operation["value"] != held:
                raise Conflict("another version", status=409)
            if operation["op"] == "test" and operation["value"] != held:
                raise UnprocessableObject("a test failed", status=422)
        self.edit(lambda obj: applied(obj, operations))
        return copy.deepcopy(self.obj)

    def edit(self, change: Edit) -> None:
        change(self.obj)
        self.obj["metadata"]["resourceVersion"] = str(int(self.obj["metadata"]["resourceVersion"]) + 1)

    def _at(self, path: str) -> Any:
        place: Any = self.obj
        for part in path.split("/")[1:]:
            place = (
                place[int(part)]
                if isinstance(place, list)
                else place.get(part.replace("~1", "/").replace("~0", "~"))
            )
        return place


def aggregated() -> tuple[Target, dict[str, Any], str, dict[str, Any]]:
    return AVAILABLE, api_service(**client_config(), insecureSkipTLSVerify=True), NEW.pem, {"secures": True}


def verified() -> tuple[Target, dict[str, Any], str, dict[str, Any]]:
    return AVAILABLE, api_service(**client_config(OLD.pem)), OLD.pem, {"mode": ABSENT}


def admission() -> tuple[Target, dict[str, Any], str, dict[str, Any]]:
    obj = configuration(("a.x.io", client_config(BOTH)), ("b.x.io", client_config(BOTH)))
    return HOOKS, obj, OLD.pem, {"mode": ABSENT}


def action_on(made: tuple[Target, dict[str, Any], str, dict[str, Any]]) -> BundleAction:
    """Return the repair of the first webhook."""
    target, obj, pem, options = made
    obj["metadata"].update(uid="1", annotations={"team": "a"})
    secure = {**obj, "spec": {**obj.get("spec", {}), "insecureSkipTLSVerify": False}}
    config, *_others = bundle_targets.client_configs(target, secure)
    prints = tuple(entry.fingerprint for entry in bundle_content.certificates(pem))
    return BundleAction(target, obj, (BundleEdit(config, pem, prints, **options),), NOW)


def put_back(made: tuple[Target, dict[str, Any], str, dict[str, Any]], change: Edit) -> tuple[bool, Any, Any]:
    """Return if the first webhook of a repair was put back, and the object before the repair and in the end."""
    action = action_on(made)
    server = OneObject(copy.deepcopy(dict(action.obj)))
    client = cast("Client", server)
    written = action.carry_out(client, RepairOptions((), check_mode=False))
    assert RECORD in server.obj["metadata"]["annotations"]
    server.edit(change)
    return written.put_back(client, {action.edits[0].webhook}), action.obj, server.obj


def set_status(obj: dict[str, Any]) -> None:
    obj["status"] = {"conditions": [{"type": "Available", "status": "False"}]}


def set_bundle(obj: dict[str, Any]) -> None:
    for place in [obj["spec"]] if "spec" in obj else [entry["clientConfig"] for entry in obj["webhooks"]]:
        place["caBundle"] = encoded(BOTH + "\n")


def set_service(obj: dict[str, Any]) -> None:
    for place in [obj["spec"]] if "spec" in obj else [entry["clientConfig"] for entry in obj["webhooks"]]:
        place["service"] = OTHER


def create_again(obj: dict[str, Any]) -> None:
    obj["metadata"]["uid"] = "2"


def record_another(obj: dict[str, Any]) -> None:
    obj["metadata"]["annotations"][RECORD] = '{"b.x.io": {}}'


def move(obj: dict[str, Any]) -> None:
    obj["webhooks"].reverse()


def change_the_other(obj: dict[str, Any]) -> None:
    obj["webhooks"][1]["clientConfig"]["caBundle"] = encoded(NEW.pem + "\n")


def add_label(obj: dict[str, Any]) -> None:
    obj["metadata"]["labels"] = {"team": "a"}


@pytest.mark.parametrize(
    ("made", "change"),
    [
        (aggregated, set_status),
        (aggregated, add_label),
        (verified, set_status),
        (admission, add_label),
        (admission, change_the_other),
    ],
)
def test_a_change_beside_the_field_does_not_keep_it(made: Any, change: Edit) -> None:
    """The API server writes the status Available=False just if the repair took the API away."""
    is_back, before, now = put_back(made(), change)
    assert is_back
    assert now.get("spec") == before.get("spec")
    assert (now.get("webhooks") or [None])[0] == (before.get("webhooks") or [None])[0]
    assert now["metadata"]["annotations"] == {"team": "a"}


@pytest.mark.parametrize("change", [set_bundle, set_service, create_again, record_another])
@pytest.mark.parametrize("made", [aggregated, verified, admission])
def test_a_field_of_another_client_stays(made: Any, change: Edit) -> None:
    is_back, _before, now = put_back(made(), change)
    assert not is_back
    again = copy.deepcopy(now)
    change(again)
    assert again == now


class LostAnswer(OneObject):
    """The first write takes effect, its answer is lost, and the client repeats it."""

    is_lost = True

    def patch(self, path: str, operations: list[dict[str, Any]], *, dry_run: bool = False) -> dict[str, Any]:
        if self.is_lost:
            self.is_lost = False
            self.written(path, operations)
        return super().patch(path, operations, dry_run=dry_run)

    def written(self, path: str, operations: list[dict[str, Any]]) -> None:
        super().patch(path, operations)

    def find(self, _path: str) -> dict[str, Any]:
        return copy.deepcopy(self.obj)


class AnotherClient(LostAnswer):
    """Another client writes the same just before."""

    def written(self, _path: str, operations: list[dict[str, Any]]) -> None:
        own = [operation for operation in operations if "annotations" not in operation["path"]]
        self.edit(lambda obj: applied(obj, own))


@pytest.mark.parametrize("made", [aggregated, verified, admission])
@pytest.mark.parametrize("server_class", [LostAnswer, AnotherClient])
def test_only_what_this_run_wrote_is_put_back(server_class: type[LostAnswer], made: Any) -> None:
    action = action_on(made())
    server = server_class(copy.deepcopy(dict(action.obj)))
    client = cast("Client", server)
    written = action.carry_out(client, RepairOptions((), check_mode=False))
    after = copy.deepcopy(server.obj)
    is_own = server_class is LostAnswer
    assert written.put_back(client, {action.edits[0].webhook}) is is_own
    expected = action.obj if is_own else after
    assert [server.obj.get(key) for key in ("spec", "webhooks")] == [
        expected.get(key) for key in ("spec", "webhooks")
    ]


def test_a_webhook_that_was_moved_keeps_its_field() -> None:
    is_back, _before, now = put_back(admission(), move)
    assert not is_back
    assert [entry["name"] for entry in now["webhooks"]] == ["b.x.io", "a.x.io"]
