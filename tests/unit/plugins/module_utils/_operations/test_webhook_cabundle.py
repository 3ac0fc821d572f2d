# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""webhook_cabundle looks at the endpoints of every CA that it removes, also of one that another client adds meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import trust_removal
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    EndpointScan,
    ServedChain,
)

from tests.support.certificates.authority import DAY, NOW, authority
from tests.support.failures import fails
from tests.unit.plugins.module_utils._audit.world import leaf, served, silent
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi
from tests.unit.plugins.module_utils._webhook.objects import client_config, configuration

pytestmark = pytest.mark.quick

OLD, NEW, ADDED = (authority(name, not_before=NOW - 90 * DAY) for name in ("old", "new", "added"))
KIND, NAME = "ValidatingWebhookConfiguration", "hooks"
PATH = bundle_targets.path(bundle_targets.Target(KIND, NAME))


def hooks(version: str, *cas: Any) -> dict[str, Any]:
    place = client_config("".join(ca.pem for ca in cas), service=("shop", "hook"))
    return configuration(("a", place), resourceVersion=version)


def run(
    api: ScriptedApi, *chains: ServedChain, mode: str = "exactly", accept: Any = (), patch: pytest.MonkeyPatch
) -> Any:
    """Leave only the new CA, or remove the old one."""
    patch.setattr(ScriptedApi, "now", lambda _api: NOW)
    patch.setattr(served_chains, "scan", lambda *_args, **_options: EndpointScan(chains))
    options = {
        "targets": [{"kind": KIND, "name": NAME}],
        "ca_bundle": (NEW if mode == "exactly" else OLD).pem,
        "mode": mode,
        "accept": accept,
    }
    unset = dict.fromkeys(("cluster_trust_bundle", "certificate", "service"))
    return webhook_cabundle.run(api, {**unset, **options}, False)  # type: ignore[arg-type]


def change_after_read(api: ScriptedApi, after: dict[str, Any]) -> None:
    """Let another client write the object between the read and the first write."""

    def is_late(_method: str, _path: str, body: Any) -> Any:
        if body[0]["value"] == "7":
            api.objects[PATH] = after
            raise Conflict("the object was changed", status=409)
        return body

    api.on_write = is_late


MOVED = configuration(("a", client_config(OLD.pem + NEW.pem, service=("shop", "other"))), resourceVersion="8")


@pytest.mark.parametrize(
    ("mode", "after"),
    [
        ("exactly", hooks("8", OLD, NEW, ADDED)),  # it holds a CA that was not judged
        ("absent", hooks("8", OLD)),  # the CA that was to stay is gone
        ("absent", MOVED),  # the endpoints of the other Service were not seen
    ],
)
def test_a_removal_is_the_one_that_was_judged(
    mode: str, after: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ScriptedApi({PATH: hooks("7", OLD, NEW)})
    change_after_read(api, after)
    with fails("conflict", "changed"):
        run(api, served(leaf(NEW)), mode=mode, patch=monkeypatch)


def test_a_ca_that_another_client_adds_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ScriptedApi({PATH: hooks("7", OLD, NEW)})
    change_after_read(api, hooks("8", OLD, NEW, ADDED))
    assert ADDED.fingerprint in str(run(api, served(leaf(NEW)), mode="absent", patch=monkeypatch).values)


def test_an_accepted_removal_of_what_is_served_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ScriptedApi({PATH: hooks("7", OLD, NEW)})
    with fails("still-needed"):
        run(api, served(leaf(OLD)), patch=monkeypatch)
    result = run(api, served(leaf(OLD)), accept=[{"downtime": [f"{KIND}/{NAME}"]}], patch=monkeypatch)
    assert result.changed
    assert "as set with accept: " in result.warnings[0]


def test_the_targets_of_a_service_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at an endpoint that does not answer takes its whole time, and the task has one time for all of them."""
    names, looks = [f"hooks-{number}" for number in range(8)], list[tuple[Any, float]]()
    services = [("shop", "hook")] * 7 + [("shop", "other")]

    def hook(number: int) -> dict[str, Any]:
        # Python 3.9 does not show the chain, so there a look counts for one text of the caBundle.
        end = "\n" * number if served_chains.SHOWS_CHAINS else ""
        place = client_config(OLD.pem + NEW.pem + end, service=services[number])
        return configuration(("a", place), name=names[number])

    def scan(_client: Any, config: Any, *, until: float, **_options: Any) -> EndpointScan:
        looks.append((config.service, until))
        return EndpointScan((silent(),))

    objects = {
        bundle_targets.path(bundle_targets.Target(KIND, name)): hook(n) for n, name in enumerate(names)
    }
    monkeypatch.setattr(served_chains, "scan", scan)
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
    unset = dict.fromkeys(("cluster_trust_bundle", "certificate", "service"))
    options = {
        "targets": [{"kind": KIND, "name": name} for name in names],
        "ca_bundle": OLD.pem,
        "mode": "absent",
        "accept": [{"unseen": [f"{KIND}/{name}" for name in names]}],
    }
    api = ScriptedApi(objects)
    result = webhook_cabundle.run(api, {**unset, **options}, True)  # type: ignore[arg-type]
    assert [service for service, _until in looks] == [("shop", "hook"), ("shop", "other")]
    assert len({until for _service, until in looks}) == 1
    assert [name in warning for name, warning in zip(names, result.warnings)] == [True] * 8
    with fails("still-needed", names[0]):
        webhook_cabundle.run(api, {**unset, **options, "accept": ()}, True)  # type: ignore[arg-type]


def test_the_removal_of_an_expired_ca_reads_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode add removes what has expired. It verifies nothing."""
    expired = authority("expired", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    api = ScriptedApi({PATH: hooks("7", OLD, expired)})
    api.on_write = lambda _method, _path, body: body
    monkeypatch.setattr(trust_removal, "_scan", None)
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
    unset = dict.fromkeys(("cluster_trust_bundle", "certificate", "service"))
    options = {"targets": [{"kind": KIND, "name": NAME}], "ca_bundle": NEW.pem, "mode": "add", "accept": ()}
    result = webhook_cabundle.run(api, {**unset, **options}, False)  # type: ignore[arg-type]
    assert expired.fingerprint in str(result.diff)


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("place", "count"),
    [
        (client_config(service=None, url="https://hooks.example.com/x"), 1),
        (client_config(OLD.pem, service=None, url="https://hooks.example.com/x"), 0),
        (client_config(service=("shop", "hook")), 0),  # a public CA issues no certificate for it
    ],
)
@pytest.mark.parametrize("names", ["a", "abc"])
def test_the_first_ca_of_a_url_ends_the_trust_in_the_roots_of_the_system(
    place: dict[str, Any], count: int, names: str, check_mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several webhooks of one address are one warning."""
    api = ScriptedApi({PATH: configuration(*((name, place) for name in names), resourceVersion="7")})
    monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
    unset = dict.fromkeys(("cluster_trust_bundle", "certificate", "service"))
    options = {"targets": [{"kind": KIND, "name": NAME}], "ca_bundle": NEW.pem, "mode": "add", "accept": ()}
    result = webhook_cabundle.run(api, {**unset, **options}, check_mode)  # type: ignore[arg-type]
    assert result.changed
    assert [warning for warning in result.warnings if "roots" in warning] == list(result.warnings)
    assert len(result.warnings) == count


@pytest.mark.parametrize("source", [{"name": None, "signer_name": ""}, {"name": "", "signer_name": None}])
def test_an_empty_source_selects_no_trust_bundle(source: dict[str, Any]) -> None:
    """An empty answer of a survey would select each bundle that belongs to no signer."""
    bundle = {"metadata": {"name": "corporate"}, "spec": {"trustBundle": NEW.pem}}
    found = {"metadata": {}, "items": [bundle]}
    api = ScriptedApi({"/apis/certificates.k8s.io/v1/clustertrustbundles": found})
    options = dict.fromkeys(("ca_bundle", "certificate", "service"))
    with fails("no-trust-anchor"):
        webhook_cabundle.run(
            api,  # type: ignore[arg-type]
            {**options, "cluster_trust_bundle": source, "targets": [], "mode": "add", "accept": ()},
            False,
        )
    assert not api.asked
