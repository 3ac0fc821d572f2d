# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check of a role's variables: missing, misspelt and invalid ones."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import owners
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    k8s_csr,
    k8s_csr_info,
    snapshot_controller,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._action import role_options
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import check_variables, specs
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.values import UNDEFINED, closest

pytestmark = pytest.mark.quick

ROLES = ("webhook_certificate", "snapshot_controller")
SPECS = {role: specs.of_role(role) for role in ROLES}
NEEDED: dict[str, dict[str, Any]] = {
    "webhook_certificate": {"service": "hook", "namespace": "apps", "secret": {"name": "tls"}},
    "snapshot_controller": {"version": "8.7.0"},
}


def lines(role: str, **values: Any) -> list[str]:
    """Return the problems of these variables, whose names lack the name of the role."""
    given = {f"{role}_{name}": value for name, value in {**NEEDED[role], **values}.items()}
    return check_variables.find_problems(SPECS[role], {"": given})


TARGET = {"kind": "APIService", "name": "v1.metrics"}
VALID: tuple[tuple[str, dict[str, Any]], ...] = (
    ("webhook_certificate", {}),
    ("webhook_certificate", {"secret": '{"name": "tls"}'}),
    ("webhook_certificate", {"approve": "false", "wait": "", "wait_timeout": "30", "expiration_seconds": None}),
    ("webhook_certificate", {"targets": [TARGET], "names": "a,b", "signer_name": "", "providers": {"eks": "x"}}),
    ("webhook_certificate", {"connection": {"host": "https://x", "api_key": "t", "validate_certs": "no"}}),
    ("webhook_certificate", {"kubeconfig": {"apiVersion": "v1"}, "connection": {}}),
    ("snapshot_controller", {"failure_policy": "", "undo": 0, "accept": ["kubectl"], "controller": {"replicas": 2}}),
)  # fmt: skip


@pytest.mark.parametrize(("role", "values"), VALID)
def test_valid_variables(role: str, values: dict[str, Any]) -> None:
    """An empty text and null count as unset. Texts of extra variables are converted as a module would do."""
    assert lines(role, **values) == []


# Role, values, the whole line. $ stands for the role's name and an underscore.
INVALID: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "webhook_certificate",
        {"service": "", "secret": {"name": ""}},
        "$service and $secret are not set. Set them in the inventory, or in a file that you give with -e @FILE.",
    ),
    ("snapshot_controller", {"version": UNDEFINED}, "$version is not set. Set it in the inventory, or in a file that you give with -e @FILE."),
    ("webhook_certificate", {"secret": "my-tls"}, "$secret is not a dictionary: 'my-tls'. Write $secret: {name: my-tls}."),
    ("webhook_certificate", {"secret": {"nmae": "x"}}, "$secret has the key nmae. Did you mean name?"),
    ("webhook_certificate", {"secret": {"name": "x", "kind": "y"}}, "$secret has the key kind. Its keys are annotations, ca_key, certificate_key, labels, name, private_key_key and type."),
    ("webhook_certificate", {"targets": "1"}, "$targets[0] is not a dictionary: '1'. Write $targets: [{kind: ValidatingWebhookConfiguration, name: 1}]."),
    ("webhook_certificate", {"targets": [{**TARGET, "kind": "Service"}]}, "$targets[0].kind has an invalid value: 'Service'. Use one of these: ValidatingWebhookConfiguration, MutatingWebhookConfiguration, CustomResourceDefinition, APIService."),
    ("webhook_certificate", {"targets": [{"kind": "APIService"}]}, "$targets[0] lacks name."),
    ("webhook_certificate", {"wait_timeout": "many"}, "$wait_timeout is not an integer: 'many'."),
    ("webhook_certificate", {"wait_timeout": True}, "$wait_timeout is not an integer: a boolean."),
    ("webhook_certificate", {"approve": "perhaps"}, "$approve is not true or false: 'perhaps'."),
    ("webhook_certificate", {"service": ["a"]}, "$service is not a text: a list."),
    ("webhook_certificate", {"key_type": "rsa"}, "$key_type has an invalid value: 'rsa'. Use one of these: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519."),
    ("webhook_certificate", {"connection": {"api_token": "s3cret"}}, "$connection has the key api_token. Its keys are api_key, ca_cert, client_cert, client_key, host, impersonate_groups, impersonate_user, no_proxy, proxy, proxy_headers and validate_certs."),
    ("webhook_certificate", {"connection": {"apikey": "s3cret"}}, "$connection has the key apikey. Did you mean api_key?"),
    ("webhook_certificate", {"connection": {"context": "x"}}, "$connection has the key context. Did you mean the variable $context?"),
    ("webhook_certificate", {"connection": {"api_key": ["s3cret"]}}, "$connection.api_key is not a text."),
    ("webhook_certificate", {"connection": {"validate_certs": "s3cret"}}, "$connection.validate_certs is not true or false."),
    ("webhook_certificate", {"connection": "s3cret"}, "$connection is not a dictionary."),
    ("snapshot_controller", {"source_auth": "s3cret"}, "$source_auth is not a dictionary."),
    ("webhook_certificate", {"accept": ["helm", "helmm"]}, "$accept has the item 'helmm', which is not one of its words. Did you mean helm?"),
    ("snapshot_controller", {"accept": "helm,manager:x,kubctl"}, "$accept has the item 'kubctl', which is not one of its words. Did you mean kubectl?"),
    ("snapshot_controller", {"backup": "backups"}, "$backup has the value backups, which is not an absolute path. Set backup to an absolute path. Leave it empty to write no backup."),
    ("snapshot_controller", {"failure_policy": "fail"}, "$failure_policy has an invalid value: 'fail'. Use one of these: Ignore, Fail."),
)  # fmt: skip


@pytest.mark.parametrize(("role", "values", "line"), INVALID)
def test_an_invalid_variable_is_one_line(role: str, values: dict[str, Any], line: str) -> None:
    """The line never shows a value of the connection."""
    found = lines(role, **values)
    assert found[0] == line.replace("$", f"{role}_")
    assert "s3cret" not in "".join(found)


def test_a_name_of_the_cluster_that_leads_nowhere_is_an_error() -> None:
    values = {
        "webhook_certificate_service": "a",
        "webhook_certificate_namespace": "b",
        "webhook_certificate_secret": {"name": "c"},
    }
    spec = SPECS["webhook_certificate"]
    hosts: dict[str, dict[str, Any]] = {"x": {**values, "certflow_context": UNDEFINED}, "y": values}
    [line] = check_variables.find_problems(spec, hosts)
    assert line == "x: certflow_context refers to a variable that is not defined."


# Name -> the variable that is meant, "" for a name that is accepted.
NAMES = {
    "webhook_certificate_targts": "webhook_certificate_targets",
    "webhook_certifcate_targets": "webhook_certificate_targets",
    "wbehook_certificate_secret": "webhook_certificate_secret",
    "certflow_max_failure": "certflow_max_failures",
    "certflow_kubeconfg": "certflow_kubeconfig",
    "certfow_host": "certflow_hosts",
    "CERTFLOW_CONTEXT": "certflow_context",
    "Certflow_Max_Failure": "certflow_max_failures",
    "WEBHOOK_CERTIFICATE_TARGETS": "webhook_certificate_targets",
    "CertflowContext": "certflow_context",
    "certflow-fail-on-change": "certflow_fail_on_change",
    "certflow.context": "certflow_context",
    "certflow_context ": "certflow_context",
    "\uff23\uff25\uff32\uff34flow_context": "certflow_context",
    "certfl\u043ew_c\u043entext": "certflow_context",
    "WEBHOOK_CERTIFICATE_SECRET": "webhook_certificate_secret",
    "webhook-certificate-discover-targets": "webhook_certificate_discover_targets",
    "webhook_certificate_targets": "",
    "webhook_certificate_result": "",
    "__webhook_certificate_secrets": "",
    "certflow_report_s": "certflow_report",
    "certflow_server": "",
    "certflow_provider": "",
    "webhook_certificate_of_team_a": "",
    "awx_job_id": "",
    "tower_job_id": "",
    "inventory_hostname": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_name(name: str) -> None:
    line = check_variables.misspelt(SPECS["webhook_certificate"], [name]).get(name, "")
    assert line.endswith(f"Did you mean {NAMES[name]}?") if NAMES[name] else not line


def test_a_name_near_a_variable_of_a_role_that_is_set_may_belong_to_another_role() -> None:
    spec, near = SPECS["webhook_certificate"], "webhook_certificate_target"
    assert check_variables.misspelt(spec, [near])
    assert not check_variables.misspelt(spec, [near], ["webhook_certificate_targets"])
    assert check_variables.misspelt(spec, ["certflow_contxt"], ["certflow_context"])


# Name -> the word that the line about an unknown variable of the playbooks has, "" for a name that is accepted.
UNKNOWN = {
    "certflow_canary": "prefix",
    "certflow-canary": "prefix",
    "certflow_phase": "certflow_ca_phase?",
    "CERTFLOW_CANARY": "prefix",
    "certflow_report_path": "prefix",
    "certflow_server": "",
    "certflow_hosts": "",
    "certflow_window": "",
    "__certflow_x": "",
    "webhook_certificate_x": "",
    "certflowx": "",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_name(name: str) -> None:
    line = check_variables.unknown(SPECS["webhook_certificate"], [name]).get(name, "")
    assert UNKNOWN[name] in line
    assert bool(line) is bool(UNKNOWN[name])


def test_no_variable_is_taken_for_a_misspelt_one_by_the_other_role() -> None:
    every = {*specs.PLAYBOOK_VARIABLES, *(name for spec in SPECS.values() for name in spec.options)}
    assert [check_variables.misspelt(spec, every) for spec in SPECS.values()] == [{}, {}]


@pytest.mark.parametrize("role", ROLES)
def test_every_type_of_a_role_is_known(role: str) -> None:
    options = SPECS[role].options
    assert {option["type"] for option in options.values()} <= check_variables.NAMES.keys()
    assert {option["elements"] for option in options.values() if option["type"] == "list"} <= {
        "str",
        "dict",
        "raw",
    }


MODULES = {"webhook_certificate": k8s_csr, "snapshot_controller": snapshot_controller}


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_of_the_role_is_an_option_of_its_module(role: str) -> None:
    """The action plugin hands the variables to the module by name. An option may have another name in the role."""
    names = [name for name in SPECS[role].options if name.startswith(role) and name != f"{role}_connection"]
    values = {name: f"value of {name}" for name in names}
    options = role_options.options(role, values, MODULES[role].OPERATION.argument_spec)
    renamed = {variable: option for option, variable in role_options.RENAMED.get(role, {}).items()}
    suffixes = {name: name.removeprefix(f"{role}_") for name in names}
    assert options == {renamed.get(suffix, suffix): values[name] for name, suffix in suffixes.items()}


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_has_the_type_and_the_choices_of_its_option(role: str) -> None:
    spec = MODULES[role].OPERATION.argument_spec
    for option, variable in role_options._variables(role).items():
        row = SPECS[role].options.get(variable)
        if row is None:
            continue
        own, of_module = row.get("choices"), spec[option].get("choices")
        assert own is None or of_module is None or set(own) <= set(of_module), variable
        known = {"raw", spec[option].get("type", "str")}
        assert row["type"] in known or spec[option].get("type") == "raw", variable
        assert set(row.get("options", ())) <= set(spec[option].get("options") or row.get("options", ())), (
            variable
        )
        for name, part in (spec[option].get("options") or {}).items():
            assert row.get("options", {}).get(name, part).get("choices") == part.get("choices"), (
                variable,
                name,
            )


#: Word -> the name that is meant.
CLOSE = {"nmae": "name", "nam": "name", "names": "name", "kind": "", "soaks": "soak", "max_concurency": "max_concurrency", "x": ""}  # fmt: skip


@pytest.mark.parametrize("word", CLOSE)
def test_the_closest_name_differs_by_at_most_two_letters(word: str) -> None:
    assert closest(word, ["name", "hosts", "max_concurrency", "soak"]) == CLOSE[word]


@pytest.mark.parametrize(
    "connection", [{"host": "https://example.com", "api_key": ""}, "host=https://example.com"]
)
def test_empty_variables_are_no_options(connection: object) -> None:
    """A name of the cluster with only spaces is one, so that it is refused and does not lead to another cluster."""
    values: dict[str, object] = {
        "kubeconfig": "",
        "context": " ",
        "targets": [],
        "providers": {},
        "probe": None,
    }
    values |= {"approve": False, "wait_timeout": 0, "connection": connection}
    given = {f"webhook_certificate_{name}": value for name, value in values.items()}

    def options(operation: Operation) -> dict[str, Any]:
        return role_options.options("webhook_certificate", given, operation.argument_spec)

    common = {"context": " ", "wait_timeout": 0, "host": "https://example.com"}
    assert options(k8s_csr.OPERATION) == {**common, "approve": False}
    assert options(k8s_csr_info.OPERATION) == common


# Role, message of a module, message in the role. $ stands for the role's name and an underscore.
MESSAGES: tuple[tuple[str, str, str], ...] = (
    ("webhook_certificate", "Set wait_timeout to 1 or more seconds", "Set $wait_timeout to 1 or more seconds"),
    ("webhook_certificate", "the option wait_timeout has the value 0", "$wait_timeout has the value 0"),
    ("webhook_certificate", "Set targets, or remove probe", "Set $targets, or remove $probe"),
    ("webhook_certificate", "Set secret.type: Opaque for other keys", "Set $secret.type: Opaque for other keys"),
    ("webhook_certificate", "Set another secret.name, or accept: [helm] to replace it", "Set another $secret.name, or $accept: [helm] to replace it"),
    ("webhook_certificate", "with the certificate, trust: chain accepts it", "with the certificate, $trust: chain accepts it"),
    ("webhook_certificate", "Failed to establish a new connection: [Errno 111]", "Failed to establish a new connection: [Errno 111]"),
    ("webhook_certificate", "https://secret.name/x, https://service.example", "https://secret.name/x, https://service.example"),
    ("webhook_certificate", "kubeconfig /x (the task's option kubeconfig), context a", "kubeconfig /x ($kubeconfig), context a"),
    ("webhook_certificate", "a service: not found", "a service: not found"),
    ("webhook_certificate", "Check kubeconfig, context and cluster_uid", "Check $kubeconfig, $context and $cluster_uid"),
    ("webhook_certificate", "Set host too, or use kubeconfig and context instead", "Set $connection.host too, or use $kubeconfig and $context instead"),
    ("webhook_certificate", "remove the task's option host, or the task's option context", "remove $connection.host, or $context"),
    ("webhook_certificate", "Secret a/b: the namespace, the service and the host of kube-system", "Secret a/b: the namespace, the service and the host of kube-system"),
    ("webhook_certificate", "Set $signer_name", "Set $signer_name"),
    ("webhook_certificate", "https://x.signer_name/wait-timeout and my-secret.name", "https://x.signer_name/wait-timeout and my-secret.name"),
    ("snapshot_controller", "Set webhook_port to 8443", "Set $webhook_port to 8443"),
    ("snapshot_controller", "Set controller_arguments or namespace.", "Set $arguments or $install_namespace."),
    ("snapshot_controller", "state it with accept: [kubectl]", "state it with $accept: [kubectl]"),
)  # fmt: skip


@pytest.mark.parametrize(("role", "text", "shown"), MESSAGES)
def test_a_message_in_a_role_names_the_variables_of_the_role(role: str, text: str, shown: str) -> None:
    prefix = f"{role}_"
    assert role_options.name_variables(role, text.replace("$", prefix)) == shown.replace("$", prefix)
    assert role_options.name_variables(role, shown.replace("$", prefix)) == shown.replace("$", prefix)


#: Owner -> its variable for the option accept.
ACCEPT = {
    "webhook_certificate": "webhook_certificate_accept",
    "snapshot_controller": "snapshot_controller_accept",
    "repair": "certflow_repair_accept",
    "cluster_ca": "certflow_repair_accept",
}
#: Sentences of this collection around the text of the option.
AROUND = (
    "Upgrade it there, or set $", "Upgrade it there, or also set $", "Or keep its certificates: mode: add with $", "set $ before the next renewal",
    "Or write it nevertheless with $", "Repair the field with its owner. To let this collection write it, set $", "Set $ with the names of the objects",
    "or restart it in a maintenance window with $", "a webhook loses trust in what it calls, as set with $",
)  # fmt: skip


@pytest.mark.parametrize("owner", ACCEPT)
def test_every_part_of_a_result_names_the_variable_for_accept(owner: str) -> None:
    option = owners.accept_option(["helm"], "Secret a/b")
    for text in (text.replace("$", option) for text in AROUND):
        inner = {"reason": text, "remedy": text, "code": "x", "object": {"name": text}, "evidence": [text]}
        result = {
            "left": {"count": 1, "first": inner},
            "repairs": [inner],
            "lines": [text],
            "remedy": text,
            "warnings": [text],
        }
        named = {key: role_options.name_in_result(owner, key, value) for key, value in result.items()}
        shown = text.replace(option, f"{ACCEPT[owner]}{option.removeprefix('accept')}")
        assert named["left"]["first"] == {**inner, "reason": shown, "remedy": shown}
        assert (named["repairs"][0]["remedy"], named["remedy"]) == (shown, shown)
        assert (named["lines"], named["warnings"]) == ([shown], [shown])
        assert named["left"]["first"]["object"] == {"name": text}, "an object keeps its name"


@pytest.mark.parametrize("owner", ["webhook_certificate", "repair", "cluster_ca", "audit"])
def test_a_missing_kubeconfig_names_the_variable(owner: str) -> None:
    text = "the option kubeconfig and KUBECONFIG are not set, and ~/.kube/config does not exist"
    assert " kubeconfig " not in f" {role_options.name_variables(owner, text)}"
