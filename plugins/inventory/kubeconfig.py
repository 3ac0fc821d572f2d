# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory plugin: a host for each context of kubeconfigs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeconfig
short_description: Create an inventory host for each kubeconfig context
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Creates an inventory host for each context of one or several kubeconfigs. The host has the name of the context. It is in
    the group C(clusters) and in a group of its provider.
  - The plugin does not contact a cluster. It detects the provider from the kubeconfig. V(eks), V(gke) and V(aks) are detected by
    the server's host name (also in C(tls-server-name)), the first two also by the names that C(aws) and C(gcloud) give, and by the
    exec plugin. V(kubeadm) is detected for kind. Otherwise the provider is V(unknown). The modules and roles detect it from the
    cluster itself.
  - Each host has the variables C(certflow_context), C(certflow_kubeconfig) (the path of its file), C(certflow_server) (the
    address of its API server) and C(certflow_provider). It also has C(ansible_connection) and C(ansible_python_interpreter),
    with which tasks run on the controller with Ansible's own Python.
  - Credentials stay in the kubeconfig. No variable has a token, a certificate or a key.
  - A host or group name never holds braces, control characters, invisible characters or parts of a path such as C(..). The
    plugin replaces them by C(_), adds a suffix to the name, and warns about the host. It shortens names of more than 200
    characters. C(certflow_context) keeps the name of the context, and Ansible never renders it as a template.
  - These are errors - an unknown option, two contexts of one name, a host with the name of a group, a host to which an earlier
    source gives another kubeconfig, context or server, a field of another type than Kubernetes defines, an unreadable file, a
    pattern that matches no file, and a result without a host. Files that the environment names must not give a cluster or a user
    of one name different values, because tasks merge these files.
  - After an error Ansible continues without this source, unless E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) is set. The
    playbooks of this collection stop, also if another source has hosts.
options:
  plugin:
    description:
      - The name of this plugin.
    type: str
    required: true
    choices: [certflow.kubernetes.kubeconfig]
  kubeconfig:
    description:
      - Kubeconfigs, as a list or joined by C(:). Each is a path, a pattern such as C(~/.kube/fleet/*.yml), or a directory, of
        which all files count except hidden ones. A relative path starts from the directory of the inventory file.
      - A file that is encrypted with ansible-vault is decrypted in memory.
      - If unset, E(K8S_AUTH_KUBECONFIG) names it, then E(KUBECONFIG). The hosts then have no C(certflow_kubeconfig), because the
        tasks also take it from their environment. Its path may differ there, as in AWX. If the environment variables are not set
        either, it is C(~/.kube/config).
    type: raw
    env:
      - name: K8S_AUTH_KUBECONFIG
      - name: KUBECONFIG
  include:
    description:
      - The names of contexts that become hosts, with C(*), C(?) and C([...]) as in a shell. If unset, all contexts.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - The names of contexts that do not become hosts, in the same form.
    type: list
    elements: str
    default: []
  prefix:
    description:
      - Text in front of each host's name. Use it if a context has the name of a group, or of a host in another inventory.
    type: str
    default: ""
extends_documentation_fragment:
  - constructed
notes:
  - A host pattern cannot have a name with C(:), such as the ARN by which C(aws eks update-kubeconfig) names a context. Use a
    pattern such as C(*cluster/NAME), or give the context a shorter name with C(aws eks update-kubeconfig --alias).
"""

EXAMPLES = r"""
# clusters.yml - with only the option plugin, every context of ~/.kube/config is a host
plugin: certflow.kubernetes.kubeconfig
# Several files, with only some of their contexts
kubeconfig:
  - ~/.kube/datacentre.yml
  - kubeconfigs/*.yml # in the directory of this file
include: ["prod-*"]
exclude: ["*-old"]
# Additional groups, by the name of the context
groups:
  canary: certflow_context in ["prod-eu-1", "prod-us-1"]
keyed_groups:
  - key: certflow_context.split("-")[1]
    separator: ""

# A play with this inventory sets the connection once for all modules and roles:
# - hosts: clusters
#   gather_facts: false
#   module_defaults:
#     group/certflow.kubernetes.k8s:
#       kubeconfig: "{{ certflow_kubeconfig | default(omit) }}"
#       context: "{{ certflow_context }}"
"""

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleOptionsError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

from ..module_utils._base.errors import CertflowError, as_error
from ..module_utils._base.paths import expand
from ..module_utils._base.text import quoted, safe_name, suggestion, visible
from ..plugin_utils._inventory import contexts

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19, which renders every text that is not marked as unsafe
    from ansible.utils.unsafe_proxy import wrap_var as distrust

    def trust_as_template(value: str) -> str:
        """Return the text, which is rendered."""
        return value
else:

    def distrust(value: str) -> str:
        """Return the text without the mark of trust, so that Ansible does not render it."""
        return str(value)


DEFAULT = "~/.kube/config"
GROUP = "clusters"
# Without these variables Ansible discovers a Python, which may not have the libraries.
CONNECTION = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}


class InventoryModule(BaseInventoryPlugin, Constructable):  # type: ignore[misc]
    """The inventory plugin. It reads files and fills Ansible's inventory with the hosts of _contexts."""

    NAME = "certflow.kubernetes.kubeconfig"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        is_own = False  # another plugin may read the file
        try:
            options = self._read_config_data(path)
            is_own = True
            own = self.get_option("kubeconfig") if options.get("kubeconfig") else ""
            of_environment = next(filter(None, map(os.environ.get, contexts.ENVIRONMENT)), "")
            # Tasks find the kubeconfig of the environment themselves.
            self._names_files = bool(own) or not of_environment
            directory = os.path.dirname(os.path.abspath(path)) if own else os.getcwd()
            _check_names(options, self.option_definitions)
            files = _files(own or of_environment or DEFAULT, directory)
            contents = {file: contexts.load(loader, file) for file in files}
            parsed = {file: contexts.parse(file, content) for file, content in contents.items()}
            # A context that is not wanted may lead to no cluster. YAML reads a name such as 7 as a number, and Ansible does
            # not convert the elements.
            chosen = contexts.wanted(
                [name for config in parsed.values() for name in config.entries["contexts"]],
                *([*map(str, self.get_option(name))] for name in ("include", "exclude")),
            )
            hosts = contexts.hosts(contexts.contexts(parsed, chosen), self.get_option("prefix"))
            if not self._names_files:
                contexts.check_merged(contents, sorted(chosen))
            before = set(self.inventory.hosts)
            for host, context in hosts.items():
                self._check_other_source(host, context)
            try:
                for host, context in hosts.items():
                    self._add(host, context)
                contexts.check_groups(hosts, self.inventory.groups)
            except Exception:
                for host in {*self.inventory.hosts} - before:
                    self.inventory.remove_host(self.inventory.hosts[host])
                raise
        except Exception as error:
            text = str(error if isinstance(error, AnsibleError) else as_error(error))
            # Ansible continues with the other sources, so the playbooks refuse a run without the clusters of this one.
            if is_own or isinstance(error, AnsibleOptionsError):
                self.inventory.set_variable("all", contexts.UNREAD, distrust(text))
            raise AnsibleParserError(text) from None  # the original error may quote a kubeconfig

    def _check_other_source(self, host: str, context: contexts.Context) -> None:
        """Raise CertflowError if an earlier source gave the host another kubeconfig, context or server."""
        present = self.inventory.hosts[host].vars if host in self.inventory.hosts else {}
        for name, value in self._cluster_variables(context).items():
            earlier = str(present.get(name, value))
            if value not in (earlier, os.path.expanduser(earlier)):
                raise CertflowError(
                    f"the context {quoted(context.name)} of {context.file} would become the host {quoted(host)}, to which an "
                    f"earlier source of the inventory gives another {name}",
                    code="invalid-connection",
                    remedy="Set the option prefix, or rename the context: kubectl config rename-context OLD NEW",
                )

    @staticmethod
    def _sanitize_group_name(name: str) -> str:
        """Return a safe name for a group that keyed_groups makes of a context's name."""
        return str(BaseInventoryPlugin._sanitize_group_name(safe_name(name)))  # noqa: SLF001  # its own base

    def _add(self, host: str, context: contexts.Context) -> None:
        if host != f"{self.get_option('prefix')}{context.name}":
            self.display.warning(
                f"The context {quoted(context.name)} of {visible(context.file)} becomes the host {quoted(host)}. A host name holds "
                "no braces and no hidden characters, because Ansible could take it for a template. certflow_context keeps "
                "the context's name."
            )
        group = self._sanitize_group_name(f"provider_{context.provider}")
        for name in (GROUP, group):
            self.inventory.add_group(name)
            self.inventory.add_host(host, group=name)
        for variable, value in self._variables(context).items():
            self.inventory.set_variable(host, variable, value)
        self._construct(host)

    def _cluster_variables(self, context: contexts.Context) -> Mapping[str, str]:
        file = {"certflow_kubeconfig": context.file} if self._names_files else {}
        return {"certflow_context": context.name, "certflow_server": context.server, **file}

    def _variables(self, context: contexts.Context) -> Mapping[str, str]:
        own = {**self._cluster_variables(context), "certflow_provider": context.provider}
        trusted = {name: trust_as_template(value) for name, value in CONNECTION.items()}
        return {**{name: distrust(value) for name, value in own.items()}, **trusted}

    def _construct(self, host: str) -> None:
        strict = self.get_option("strict")
        variables = self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        variables = self.inventory.get_host(host).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def _check_names(options: Iterable[Any], known: Collection[str]) -> None:
    """Raise CertflowError for an unknown option, because without it the inventory could have other clusters."""
    for name in map(str, options):
        if name not in known:
            remedy = suggestion(name, known) or f"Use only these: {', '.join(sorted(known))}"
            raise CertflowError(f"the inventory has no option {quoted(name)}", remedy=remedy)


def _files(given: Any, directory: str) -> Iterator[str]:
    """Return the kubeconfigs of the option in its order, each once. Raises CertflowError for a missing file."""
    words = given.split(os.pathsep) if isinstance(given, str) else given
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CertflowError(
            "kubeconfig is neither a path nor a list of paths", remedy="Set it to a path or a list of paths"
        )
    seen: set[str] = set()
    for word in filter(None, words):
        path = os.path.normpath(os.path.join(directory, expand(word)))
        for file in _named(word, path):
            if file not in seen:
                seen.add(file)
                yield file


def _named(word: str, path: str) -> list[str]:
    if os.path.isdir(path):
        path, kind = os.path.join(glob.escape(path), "*"), "the directory has no file"
    elif os.path.exists(path):
        return [path]
    else:
        kind = "no file matches the pattern" if glob.has_magic(path) else "it does not exist"
    found = [file for file in sorted(glob.glob(path)) if not os.path.isdir(file)]
    if not found:
        raise CertflowError(f"kubeconfig {word}: {kind}", code="invalid-connection", remedy="Check the path")
    return found
