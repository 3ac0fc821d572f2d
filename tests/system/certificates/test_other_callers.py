# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr does not replace a certificate that an object trusts which is no target of the task, on a real control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates.authority import SERVER_AUTH, Issued, dns, issue
from tests.support.certificates.csr_rig import CsrRig, assert_one_line
from tests.support.clusters import pki
from tests.support.permissions import rbac
from tests.support.rig import encoded
from tests.support.webhooks import called_objects
from tests.support.webhooks.bundle_rig import API_SERVICE, DEFINITION, PATHS, VALIDATING, ca, pem

if TYPE_CHECKING:
    from collections.abc import Callable

_PATCH = "application/json-patch+json"
#: A host that no Service has.
_HOST = "hook.example.com"


def _config(rig: CsrRig, **fields: Any) -> dict[str, Any]:
    return {**called_objects.service(rig.name, "hook"), "caBundle": encoded(pem("team")), **fields}


def _second(rig: CsrRig, target: dict[str, Any], config: dict[str, Any], name: str = "second") -> str:
    webhook = called_objects.webhook(f"{name}.certflow.test", config)
    rig.cluster.api(
        "PATCH",
        f"{PATHS[VALIDATING]}/{target['name']}",
        [{"op": "add", "path": "/webhooks/-", "value": webhook}],
        _PATCH,
    )
    return str(target["name"])


def _configuration(rig: CsrRig, _target: dict[str, Any]) -> str:
    other = rig.hook("other")
    rig.set_bundle(other, pem("team"))
    return str(other["name"])


def _conversion(rig: CsrRig, _target: dict[str, Any]) -> str:
    body = called_objects.definition(f"{rig.name}.certflow.test", _config(rig))
    return str(rig.make(PATHS[DEFINITION], body)["metadata"]["name"])


def _aggregated(rig: CsrRig, _target: dict[str, Any]) -> str:
    body = called_objects.api_service(f"{rig.name}.certflow.test", _config(rig))
    return str(rig.make(PATHS[API_SERVICE], body)["metadata"]["name"])


def _by_url(rig: CsrRig, target: dict[str, Any]) -> str:
    return _second(rig, target, {"url": f"https://{_HOST}/", "caBundle": encoded(pem("team"))})


def _not_named(rig: CsrRig, target: dict[str, Any]) -> str:
    _second(rig, target, _config(rig))
    target["webhooks"] = ["hook.certflow.test"]
    return str(target["name"])


#: What else trusts the certificate in the Secret. Each function makes it, and returns the name of its object.
OTHERS: dict[str, Callable[[CsrRig, dict[str, Any]], str]] = {
    "another configuration": _configuration,
    "a conversion": _conversion,
    "an aggregated API": _aggregated,
    "a URL of the same configuration": _by_url,
    "a webhook that the task does not name": _not_named,
}


def _adopt(rig: CsrRig, host: str = _HOST) -> dict[str, Any]:
    """Let a team have its certificate in the Secret, and a webhook that trusts it. Return the target."""
    names = dns(f"hook.{rig.name}.svc", host)
    pair = issue("hook", Issued(ca("team").certificate, ca("team").key), names=names, usages=[SERVER_AUTH])
    rig.put_secret({"tls.crt": pair.pem, "tls.key": pki.private_pem(pair.key).decode()})
    target = rig.hook()
    rig.set_bundle(target, pem("team"))
    return target


def _due(target: dict[str, Any], **options: Any) -> dict[str, Any]:
    names = {"names": [_HOST], "allow_names": [_HOST]}
    return {"targets": [target], "renew_before": "900d", **names, **options}


@pytest.mark.parametrize("other", OTHERS)
def test_a_certificate_stays_that_another_object_trusts(rig: CsrRig, other: str) -> None:
    target = _adopt(rig)
    name = OTHERS[other](rig, target)
    before = rig.data()
    rig.refused("still-needed", name, check_mode=True, **_due(target))
    rig.refused("still-needed", name, **_due(target))
    assert rig.csrs() == []
    accepted = rig.run(check_mode=True, **_due(target, accept=["downtime"]))
    assert accepted["changed"], accepted
    assert any(name in warning for warning in accepted["warnings"]), accepted
    assert rig.data() == before


def test_a_certificate_stays_that_another_object_trusts_by_its_wildcard(rig: CsrRig) -> None:
    target = _adopt(rig, "*.example.com")
    wanted = _due(target, names=["*.example.com"], allow_names=["*.example.com"])
    rig.refused("still-needed", _by_url(rig, target), **wanted)


def test_a_certificate_without_a_known_ca_stays_that_another_object_trusts(rig: CsrRig) -> None:
    """The only target is new and has no CA, so no known CA vouches for a certificate that works."""
    first, new = _adopt(rig), rig.hook("new")
    options = _due(new, renew_before=None)
    rig.refused("still-needed", first["name"], **options)
    done = rig.run(**{**options, "targets": [first, new]})
    assert not done.get("failed"), done


def test_a_renewal_of_a_ca_of_its_own_keeps_a_copy(rig: CsrRig) -> None:
    target = rig.hook()
    options: dict[str, Any] = {"signer_name": "ephemeral-ca", "targets": [target]}
    rig.run(**options)
    copy = rig.hook("copy")
    rig.set_bundle(copy, rig.bundle(target))
    before = rig.data()
    result = rig.run(**options, renew_before="900d")
    assert_one_line(result, "still-needed", copy["name"])
    assert rig.data() == before


def test_the_next_certificate_of_the_same_ca_harms_no_other_object(rig: CsrRig) -> None:
    target, other = rig.hook(), rig.hook("other")
    rig.run(targets=[target])
    rig.set_bundle(other, rig.bundle(target))
    mark = len(rig.cluster.requests(user=rig.user))
    renewed = rig.run(targets=[target], renew_before="900d", expiration_seconds=2592000)
    assert renewed["changed"], renewed
    verbs = {
        entry["verb"]
        for entry in rig.cluster.requests(user=rig.user)[mark:]
        if "webhook" in entry["requestURI"]
    }
    assert "list" not in verbs


def test_an_identity_that_may_not_list_objects_gets_a_warning(rig: CsrRig) -> None:
    target = _adopt(rig)
    rig.user = f"limited-{rig.id}"
    rules = [role for name in ("request", "store", "rotate", "approve") for role in rbac.roles_of(name)]
    rig.grant(
        rig.user,
        *rules,
        rbac.cluster_role(
            {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["get", "patch"]}
        ),
    )
    rig.kubeconfig = rig.cluster.kubeconfig_for(rig.user)
    done = rig.run(check_mode=True, **_due(target))
    assert not done.get("failed"), done
    assert any("it is not known which other objects" in warning for warning in done["warnings"]), done
