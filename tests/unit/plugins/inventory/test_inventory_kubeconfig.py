# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin kubeconfig: what becomes a host, with which variables, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.certflow.kubernetes.plugins.inventory import kubeconfig
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import safe_name
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import kubeconfig_parsing
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._inventory import contexts

from tests.support.failures import absent, fails

TOKEN = "not-for-anybodys-eyes"
ARN = "arn:aws:eks:eu-west-1:111122223333:cluster/shop"
GET_TOKEN = {"command": "/usr/local/bin/aws", "args": ["--region", "eu-west-1", "eks", "get-token"]}


def config(
    *names: str, cluster: str = "", server: str = "https://192.0.2.1:6443", user: Any = None, **more: str
) -> dict[str, Any]:
    """A kubeconfig with these contexts, each with a cluster and a user of its own."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster or f"{name}-cluster", "cluster": {"server": server, **more}} for name in names],
        "users": [{"name": f"{name}-user", "user": user or {"token": TOKEN}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": cluster or f"{name}-cluster", "user": f"{name}-user"}} for name in names],
    }  # fmt: skip


def found(*names: str, file: str = "a.yml") -> list[contexts.Context]:
    return read(file, config(*names))


def read(file: str, content: Any) -> list[contexts.Context]:
    """All contexts of a kubeconfig."""
    parsed = contexts.parse(file, content)
    return contexts.contexts({file: parsed}, parsed.entries["contexts"])


@pytest.mark.parametrize(
    ("given", "provider"),
    [
        ({}, "unknown"),
        ({"server": "https://ABC.gr7.eu-west-1.eks.amazonaws.com"}, "eks"),
        ({"server": "https://abc.gr7.cn-north-1.eks.amazonaws.com.cn"}, "eks"),
        ({"server": "https://abc.eks-cluster.eu-west-1.api.aws"}, "eks"),
        ({"server": "https://eks.amazonaws.com.example.com"}, "unknown"),
        ({"server": "https://shop-0a1b.hcp.westeurope.azmk8s.io:443"}, "aks"),
        ({"server": "https://gke-0a1b-1234.europe-west1.gke.goog"}, "gke"),
        ({"cluster": "gke_shop_europe-west1_one"}, "gke"),
        ({"user": {"exec": {"command": "gke-gcloud-auth-plugin"}}}, "gke"),
        ({"server": "https://127.0.0.1:6443", "tls-server-name": "abc.eu-west-1.eks.amazonaws.com"}, "eks"),
        ({"server": "https://[broken"}, "unknown"),
        ({"cluster": ARN}, "eks"),
        ({"cluster": ARN.replace("aws", "aws-us-gov")}, "eks"),
        ({"cluster": "kind-shop"}, "kubeadm"),
        ({"user": {"exec": GET_TOKEN}}, "eks"),
        ({"user": {"exec": {"command": "aws-iam-authenticator", "args": ["token", "-i", "shop"]}}}, "eks"),
        ({"user": {"exec": {"command": "aws", "args": None}}}, "unknown"),
        ({"user": {"exec": {"command": "kubelogin", "args": ["get-token"]}}}, "unknown"),
        ({"cluster": "kind-shop", "user": {"exec": GET_TOKEN}}, "unknown"),  # one contradicts the other
    ],
)
def test_the_provider_is_what_the_kubeconfig_shows(given: dict[str, Any], provider: str) -> None:
    (context,) = read("a.yml", config("c", **given))
    assert context.provider == provider


def test_a_password_in_an_address_is_not_shown() -> None:
    (context,) = read("a.yml", config("c", server="https://user:password@192.0.2.1"))
    assert context.server == ""


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ([], [], ["prod-a", "prod-b", "test"]),
        (["prod-*"], [], ["prod-a", "prod-b"]),
        (["prod-*", "test"], ["*-b"], ["prod-a", "test"]),
        ([], ["[pt]*-a"], ["prod-b", "test"]),
    ],
)
def test_patterns(include: list[str], exclude: list[str], left: list[str]) -> None:
    assert contexts.wanted(["prod-a", "prod-b", "test"], include, exclude) == set(left)


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["prod"], [], ("'prod'", "include", "prod-a,")),
        (["test", "PROD*"], [], ("'PROD*'", "include")),
        ([], ["prd-*"], ("'prd-*'", "exclude")),
        (["test"], ["t*"], ("include", "exclude")),
    ],
)
def test_patterns_that_cannot_be_meant(
    include: list[str], exclude: list[str], names: tuple[str, ...]
) -> None:
    with fails("invalid-connection", *names):
        contexts.wanted(["prod-a", "test"], include, exclude)


def test_kubeconfigs_without_a_context() -> None:
    with fails("invalid-connection"):
        contexts.wanted([], [], [])


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("prod", "prod"),
        (ARN, ARN),
        ("Łódź 東京 (old)", "Łódź 東京 (old)"),
        ("a/b.c", "a/b.c"),
        ("a..b", "a..b"),
        ("{{ x }}", "__ x __"),
        ("{% x %}", "_% x %_"),
        ("{# x #}", "_# x #_"),
        ("#jinja2: y", "_ y"),
        ("a\x1b\x7f\x9b\nb", "a____b"),
        ("a\u202e\u200bb", "a__b"),
        ("../../etc/x", "_/_/etc/x"),
        ("/etc/x", "_etc/x"),
        ("a/..", "a/_"),
        ("x" * 300, "x" * 191),
    ],
)
def test_names_of_hosts(name: str, safe: str) -> None:
    """A changed name has a suffix, so two contexts stay two hosts."""
    if name == safe:
        assert safe_name(name) == name
        return
    assert re.fullmatch(re.escape(safe) + "_[0-9a-f]{8}", safe_name(name))


def test_two_contexts_stay_two_hosts() -> None:
    names = ["{a", "}a", "_a", "a\x00", "a\x01"]
    assert [context.name for context in contexts.hosts(found(*names), "k8s-").values()] == names
    assert len(contexts.hosts(found(*names), "k8s-")) == len(names)


def test_a_host_name_that_two_contexts_get_is_refused() -> None:
    both = found("{a", safe_name("{a"))
    with fails("invalid-connection", both[1].name):
        contexts.hosts(both, "")


BOMB: list[Any] = ["x"]
for _level in range(40):
    BOMB = [BOMB] * 9


@pytest.mark.parametrize("value", [5, True, BOMB, {"a": BOMB}])
@pytest.mark.parametrize(
    ("section", "key", "field"),
    [
        ("contexts", "context", "cluster"),
        ("contexts", "context", "user"),
        ("contexts", "", "name"),
        ("clusters", "", "name"),
        ("clusters", "cluster", "server"),
        ("clusters", "cluster", "tls-server-name"),
        ("users", "", "name"),
        ("users", "user", "token"),
    ],
)
def test_a_field_of_another_type_is_refused(section: str, key: str, field: str, value: Any) -> None:
    """The value is never converted to text, which would be endless for nested aliases."""
    content = config("c")
    entry = content[section][0]
    (entry[key] if key else entry)[field] = value
    with pytest.raises(CertflowError) as caught:
        read("a.yml", content)
    assert caught.value.code == "invalid-connection"
    assert len(str(caught.value)) < 200


def test_aliases_are_counted_before_they_are_expanded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    text = "\n".join([*lines, "clusters: [{name: c, cluster: {server: *a9}}]", ""])
    assert len(text) < 1000
    (tmp_path / "k").write_text(text)
    with pytest.raises(CertflowError) as caught:
        contexts.load(DataLoader(), str(tmp_path / "k"))
    assert caught.value.code == "invalid-connection"
    strict = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "COLUMNS": "500"}
    assert "aliases" in inventory(tmp_path, {"kubeconfig": ["k"]}, **strict)


def test_a_file_above_the_bound_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "k").open("wb") as file:
        file.truncate(kubeconfig_parsing.MOST_BYTES + 1)
    with fails("invalid-connection", "16"):
        contexts.load(DataLoader(), str(tmp_path / "k"))


def test_two_contexts_of_one_name_are_refused() -> None:
    both = [*found("a", "b"), *found("b", "c", file="other.yml")]
    with fails("invalid-connection", "'b'", "a.yml", "other.yml"):
        contexts.hosts(both, "")


@pytest.mark.parametrize(
    ("content", "code", "names"),
    [
        (None, "invalid-connection", ()),
        ("some text", "invalid-connection", ()),
        ({"kind": "Config"}, "invalid-connection", ()),
        ({"contexts": ["x"]}, "invalid-connection", ("contexts",)),
        ({"contexts": [{"name": "x", "context": {"cluster": "y"}}]}, "invalid-connection", ("'y'",)),
        ({**config("c"), "contexts": 2 * config("c")["contexts"]}, "invalid-connection", ("'c'",)),
    ],
)
def test_what_is_no_kubeconfig(content: Any, code: str, names: tuple[str, ...]) -> None:
    with fails(code, "a.yml", *names):
        read("a.yml", content)


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        (f"users: [{{token: {TOKEN}", "invalid-connection", "YAML"),
        (f"$ANSIBLE_VAULT;1.1;AES256\n{TOKEN}\n", "invalid-connection", "--ask-vault-pass)"),
    ],
)
def test_what_cannot_be_read_is_not_quoted(text: str, code: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "k").write_text(text)
    with fails(code, str(tmp_path / "k"), name) as caught:
        contexts.load(DataLoader(), str(tmp_path / "k"))
    assert TOKEN not in str(caught.value)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the inventory; a pattern; a directory without its hidden files and its directories; each once."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("a.yml", "b.yml", "fleet/c", "fleet/.hidden", "fleet/cache/x", "home/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    given = ["*.yml", "fleet", "~/d", "a.yml"]
    wanted = [str(tmp_path / name) for name in ("a.yml", "b.yml", "fleet/c", "home/d")]
    assert list(kubeconfig._files(given, str(tmp_path))) == wanted
    assert list(kubeconfig._files("a.yml:~/d", str(tmp_path))) == [wanted[0], wanted[3]]


@pytest.mark.parametrize(
    ("given", "code", "name"),
    [
        ("absent", "invalid-connection", "absent"),
        (["*.json"], "invalid-connection", "*.json"),
        (["empty"], "invalid-connection", "empty"),
        ({"a": "b"}, "invalid-input", "kubeconfig"),
    ],
)
def test_paths_that_lead_nowhere(given: Any, code: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with fails(code, name):
        list(kubeconfig._files(given, str(tmp_path)))


def ansible(tmp_path: Path, program: str, *arguments: str, **environment: str) -> str:
    """Standard output and errors of a program of this environment."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    variables = {**os.environ, **environment}
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


def inventory(tmp_path: Path, options: dict[str, Any], *arguments: str, **environment: str) -> str:
    """What ansible-inventory prints."""
    text = yaml.safe_dump({"plugin": "certflow.kubernetes.kubeconfig", **options})
    (tmp_path / "clusters.yml").write_text(text)
    return ansible(tmp_path, "ansible-inventory", "-i", "clusters.yml", "--list", *arguments, **environment)


def plain(value: Any) -> Any:
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def test_the_inventory_that_ansible_gets(tmp_path: Path) -> None:
    """Two files, one of them encrypted; groups by provider and of one's own; no credential anywhere."""
    (tmp_path / "one.yml").write_text(yaml.safe_dump(config("a", "b", "{{ 6 * 7 }}")))
    (tmp_path / "two.yml").write_text(yaml.safe_dump(config("c", cluster=ARN)))
    (tmp_path / "password").write_text("open sesame\n")
    vault = ("--vault-password-file", "password")
    ansible(tmp_path, "ansible-vault", "encrypt", *vault, "two.yml")
    assert "$ANSIBLE_VAULT" in (tmp_path / "two.yml").read_text()
    options = {
        "kubeconfig": ["one.yml", "two.yml"],
        "exclude": ["b"],
        "prefix": "k8s-",
        "groups": {"canary": "certflow_context == 'a'"},
        "keyed_groups": [{"key": "certflow_provider", "prefix": "of"}],
        "compose": {"shown": "certflow_server"},
    }
    output = inventory(tmp_path, options, *vault)
    listed, _end = json.JSONDecoder().raw_decode(output)  # warnings come after it
    hosts = {
        name: {key: plain(value) for key, value in variables.items()}
        for name, variables in listed.pop("_meta")["hostvars"].items()
    }
    assert hosts["k8s-c"] == {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "certflow_context": "c",
        "certflow_kubeconfig": str(tmp_path / "two.yml"),
        "certflow_provider": "eks",
        "certflow_server": "https://192.0.2.1:6443",
        "shown": "https://192.0.2.1:6443",
    }
    groups = {name: sorted(group["hosts"]) for name, group in listed.items() if "hosts" in group}
    assert groups == {
        "canary": ["k8s-a"],
        "clusters": sorted(hosts),
        "of_eks": ["k8s-c"],
        "of_unknown": [safe_name("k8s-{{ 6 * 7 }}"), "k8s-a"],
        "provider_eks": ["k8s-c"],
        "provider_unknown": [safe_name("k8s-{{ 6 * 7 }}"), "k8s-a"],
    }
    assert TOKEN not in output
    told = ansible(
        tmp_path, "ansible", "-i", "clusters.yml", "provider_unknown", *vault, "-m", "debug",
        "-a", "msg={{ ansible_python_interpreter }}/{{ certflow_context }}/",
    )  # fmt: skip
    assert (
        f"{sys.executable}/a/" in told
    )  # the interpreter is a template, but the text of a kubeconfig is not
    assert "/{{ 6 * 7 }}/" in told


def test_an_excluded_context_may_lead_to_no_cluster(tmp_path: Path) -> None:
    """An entry of a removed cluster must not cost the hosts of the others."""
    content = config("a", "removed")
    content["clusters"] = [entry for entry in content["clusters"] if entry["name"] == "a-cluster"]
    (tmp_path / "one.yml").write_text(yaml.safe_dump(content))
    assert hosts_of(inventory(tmp_path, {"kubeconfig": ["one.yml"]})) == {}
    assert {*hosts_of(inventory(tmp_path, {"kubeconfig": ["one.yml"], "exclude": ["removed"]}))} == {"a"}


def test_a_kubeconfig_of_the_environment_is_left_to_the_tasks(tmp_path: Path) -> None:
    """In AWX the file of a job is another one than that of the inventory's update."""
    (tmp_path / "one.yml").write_text(yaml.safe_dump(config("a")))
    for variable in ("K8S_AUTH_KUBECONFIG", "KUBECONFIG"):
        output = inventory(tmp_path, {}, **{variable: str(tmp_path / "one.yml")})
        variables = json.loads(output)["_meta"]["hostvars"]["a"]
        assert "certflow_kubeconfig" not in variables
        assert plain(variables["certflow_context"]) == "a"


def hosts_of(output: str) -> dict[str, dict[str, Any]]:
    """Return the variables of the hosts that ansible-inventory prints, before or after its warnings."""
    listed, _end = json.JSONDecoder().raw_decode(output[output.index("{\n") :])
    return {
        host: {name: plain(value) for name, value in variables.items()}
        for host, variables in listed["_meta"]["hostvars"].items()
    }


def test_the_environment_names_the_file_that_a_task_uses(tmp_path: Path) -> None:
    """K8S_AUTH_KUBECONFIG comes before KUBECONFIG, an empty variable is not set, and a relative path starts where Ansible does."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    for directory, server in ((tmp_path, "https://a"), (folder, "https://not-a")):
        (directory / "a.yml").write_text(yaml.safe_dump(config("x", server=server)))
    (tmp_path / "b.yml").write_text(yaml.safe_dump(config("x", server="https://b")))
    (folder / "clusters.yml").write_text("plugin: certflow.kubernetes.kubeconfig\n")
    for environment in (
        {"K8S_AUTH_KUBECONFIG": "a.yml", "KUBECONFIG": "b.yml"},
        {"K8S_AUTH_KUBECONFIG": "", "KUBECONFIG": "a.yml"},
        {"K8S_AUTH_KUBECONFIG": "a.yml", "KUBECONFIG": ""},
    ):
        output = ansible(
            tmp_path, "ansible-inventory", "-i", "inventory/clusters.yml", "--list", **environment
        )
        host = hosts_of(output)["x"]
        assert host["certflow_server"] == "https://a", environment
        assert "certflow_kubeconfig" not in host


def test_a_context_that_a_merge_leads_to_another_cluster_is_refused(tmp_path: Path) -> None:
    """kubeadm gives all clusters and users the same names. A task merges the files of the environment, and the first entry counts."""
    for name in "ab":
        content = config(f"site-{name}", server=f"https://{name}", cluster="kubernetes")
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(content))
    files = ":".join(str(tmp_path / f"{name}.yml") for name in "ab")
    output = inventory(tmp_path, {}, KUBECONFIG=files, COLUMNS="1000")
    assert hosts_of(output) == {}
    assert not absent(["'kubernetes',", "list"], output), output
    named = hosts_of(inventory(tmp_path, {"kubeconfig": files}))
    assert {host: values["certflow_kubeconfig"] for host, values in named.items()} == {
        f"site-{name}": str(tmp_path / f"{name}.yml") for name in "ab"
    }


def test_a_host_of_another_source_does_not_get_another_cluster(tmp_path: Path) -> None:
    """The host would be in the groups of both sources, and its variables would lead to the cluster of the later one."""
    sources = []
    for name, group in (("a", "live"), ("b", "test")):
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(config("x", server=f"https://{name}")))
        content = {
            "plugin": "certflow.kubernetes.kubeconfig",
            "kubeconfig": f"{name}.yml",
            "groups": {group: "true"},
        }
        (tmp_path / f"clusters-{name}.yml").write_text(yaml.safe_dump(content))
        sources += ["-i", f"clusters-{name}.yml"]
    (tmp_path / "own.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {"x": {"certflow_window": "Sat 22:00-04:00"}}}})
    )
    output = ansible(
        tmp_path, "ansible-inventory", "-i", "own.yml", *sources, *sources[:2], "--list", COLUMNS="1000"
    )
    host = hosts_of(output)["x"]
    assert (host["certflow_server"], host["certflow_window"]) == ("https://a", "Sat 22:00-04:00")
    assert '"test"' not in output
    assert not absent(["'x',", "source", "certflow_kubeconfig", "prefix,"], output), output


def test_a_path_of_an_earlier_source_may_begin_at_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(yaml.safe_dump(config("x", "~y")))
    (tmp_path / "own.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {"x": {"certflow_kubeconfig": "~/a.yml"}}}})
    )
    (tmp_path / "clusters.yml").write_text(
        yaml.safe_dump({"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "a.yml"})
    )
    output = ansible(
        tmp_path, "ansible-inventory", "-i", "own.yml", "-i", "clusters.yml", "--list", HOME=str(tmp_path)
    )
    assert hosts_of(output)["x"]["certflow_kubeconfig"] == str(tmp_path / "a.yml")


@pytest.mark.parametrize("prefix", ["", "k8s-"])
def test_a_context_with_the_name_of_a_group_is_refused(tmp_path: Path, prefix: str) -> None:
    """A play for the group would run only on the host. No host of the file stays in the inventory."""
    server = "https://0123456789ABCDEF.gr7.eu-west-1.eks.amazonaws.com"
    names = ("clusters", "all", "ungrouped", "provider_eks", "canary")
    contexts = [*((f"a-{name}", name) for name in names), ("a", "of_a")]
    (tmp_path / "before.ini").write_text("[canary]\nb\n")
    sources = ["-i", "before.ini"]
    for number, pair in enumerate(contexts):
        (tmp_path / f"kubeconfig-{number}").write_text(yaml.safe_dump(config(*pair, server=server)))
        content = {
            "plugin": "certflow.kubernetes.kubeconfig",
            "kubeconfig": f"kubeconfig-{number}",
            "keyed_groups": [{"key": "certflow_context", "prefix": "of"}],
            "prefix": prefix,
        }
        (tmp_path / f"clusters-{number}.yml").write_text(yaml.safe_dump(content))
        sources += ["-i", f"clusters-{number}.yml"]
    output = ansible(tmp_path, "ansible-inventory", *sources, "--list", COLUMNS="500")
    listed, _end = json.JSONDecoder().raw_decode(output[output.index("{\n") :])
    hosts = {host for group in listed.values() for host in group.get("hosts", ())}
    accepted = {f"{prefix}{name}" for pair in contexts for name in pair} if prefix else set()
    assert hosts == {"b", *accepted}, output
    for _first, name in contexts:
        assert bool(absent([f"'{name}'", "rename-context"], output)) == bool(prefix), output


@pytest.mark.parametrize("playbook", ["audit", "upgrade"])
def test_a_group_of_a_later_source_with_the_name_of_a_context_is_refused(
    tmp_path: Path, playbook: str
) -> None:
    """The inventory plugin cannot see a later source. So the playbooks refuse the pattern before they contact a cluster."""
    (tmp_path / "one.yml").write_text(yaml.safe_dump(config("prod", "prod-eu")))
    (tmp_path / "clusters.yml").write_text(
        yaml.safe_dump({"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "one.yml"})
    )
    (tmp_path / "later.ini").write_text("[prod]\nprod-eu\n")
    output = ansible(
        tmp_path, "ansible-playbook", "-i", "clusters.yml", "-i", "later.ini", f"certflow.kubernetes.{playbook}",
        "-e", "certflow_hosts=prod", "-e", "snapshot_controller_version=8.7.0", COLUMNS="500",
    )  # fmt: skip
    assert "failed=1" in output
    assert "Rename the host or the group." in output, output


@pytest.mark.parametrize(
    ("playbook", "options", "content", "words"),
    [
        ("audit", {}, {"contexts": []}, "context."),
        ("certificates", {}, {"contexts": []}, "context."),
        ("audit", {"include": {"b": "c"}}, config("b"), "include"),
        ("audit", {"strict": True, "groups": {"eu": "region.name"}}, config("b", "c"), "'region'"),
    ],
)
def test_a_playbook_does_not_leave_out_the_clusters_of_a_source(
    tmp_path: Path, playbook: str, options: dict[str, Any], content: dict[str, Any], words: str
) -> None:
    """Ansible only warns of a source that it cannot read, and the run would be a success without its clusters."""
    plugin = {"plugin": "certflow.kubernetes.kubeconfig"}
    for name, clusters, own in (("a.yml", config("a"), {}), ("b.yml", content, options)):
        (tmp_path / name).write_text(yaml.safe_dump(clusters))
        (tmp_path / f"clusters-{name}").write_text(yaml.safe_dump({**plugin, "kubeconfig": name, **own}))
    sources = [word for name in ("a.yml", "b.yml") for word in ("-i", f"clusters-{name}")]
    output = ansible(tmp_path, "ansible-playbook", *sources, f"certflow.kubernetes.{playbook}", COLUMNS="500")
    assert "failed=1" in output, output
    assert not absent(["leave", "source", words], output), output
    assert [*hosts_of(ansible(tmp_path, "ansible-inventory", *sources, "--list"))] == ["a"]


def test_what_is_refused_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(yaml.safe_dump(config("a")))
    (tmp_path / "two.yml").write_text(yaml.safe_dump(config("a")))
    strict = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "COLUMNS": "500"}
    output = inventory(tmp_path, {"kubeconfig": "."}, **strict)
    assert "is not a kubeconfig: it has no list of contexts" in " ".join(
        output.split()
    )  # the inventory file itself lies there
    output = inventory(tmp_path, {"kubeconfig": ["one.yml", "two.yml"]}, **strict)
    assert "The contexts 'a' of " in " ".join(output.split())


def test_a_misspelt_option_does_not_lead_to_other_clusters(tmp_path: Path) -> None:
    """Without the option, the inventory would have the contexts of the user's own kubeconfig."""
    (tmp_path / "one.yml").write_text(yaml.safe_dump(config("a")))
    own = {"KUBECONFIG": str(tmp_path / "one.yml"), "COLUMNS": "500"}
    output = inventory(tmp_path, {"kubeconfg": "two.yml"}, **own)
    assert absent(["_meta", "kubeconfg", "kubeconfig?"], output) == [], output
    assert not json.JSONDecoder().raw_decode(output[output.index("{") :])[0]["_meta"]["hostvars"], output


@pytest.mark.parametrize(
    ("options", "hosts"), [({"include": [7, "prod"]}, {"7", "prod"}), ({"exclude": [7]}, {"prod", "other"})]
)
def test_a_number_is_the_name_of_a_context(tmp_path: Path, options: dict[str, Any], hosts: set[str]) -> None:
    (tmp_path / "a.yml").write_text(yaml.safe_dump(config("7", "prod", "other")))
    assert hosts_of(inventory(tmp_path, {"kubeconfig": "a.yml", **options})).keys() == hosts


@pytest.mark.parametrize("place", ["contexts", "check_groups"])
def test_a_source_with_any_error_stops_the_playbooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Ansible continues without this source. Its error may quote a kubeconfig."""

    def fail(*_arguments: Any) -> NoReturn:
        raise TypeError(TOKEN)

    monkeypatch.setattr(contexts, place, fail)
    (tmp_path / "a.yml").write_text(yaml.safe_dump(config("x")))
    options = {"kubeconfig": "a.yml", "include": [], "exclude": [], "prefix": ""}
    plugin, data = kubeconfig.InventoryModule(), InventoryData()
    monkeypatch.setattr(kubeconfig.InventoryModule, "option_definitions", options)
    monkeypatch.setattr(plugin, "_read_config_data", lambda _path: options)
    monkeypatch.setattr(plugin, "get_option", options.get)
    with pytest.raises(AnsibleParserError) as caught:
        plugin.parse(data, DataLoader(), str(tmp_path / "clusters.yml"))
    assert "TypeError" in data.groups["all"].vars[contexts.UNREAD]
    assert TOKEN not in str(caught.value) + data.groups["all"].vars[contexts.UNREAD]
    assert data.hosts == {}
