# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory plugin: one host for each context of kubeconfigs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeconfig
short_description: One host for each context of kubeconfigs
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Makes an inventory host of each context of one or several kubeconfigs, named like the context, in the group C(clusters)
    and in a group of its provider.
  - No cluster is asked. The provider is what the kubeconfig shows - V(eks) by the server's host name (also in
    C(tls-server-name)), by the name that C(aws eks update-kubeconfig) gives, or by the exec plugin; V(kubeadm) for kind;
    and otherwise V(unknown). The modules and roles look at the cluster itself.
  - Every host has the variables C(certflow_context), C(certflow_kubeconfig) (the path of its file), C(certflow_server) (the
    address of its API server) and C(certflow_provider), and those with which tasks run on the controller under Ansible's own
    Python, C(ansible_connection) and C(ansible_python_interpreter).
  - Credentials stay in the kubeconfig. No variable has a token, a certificate or a key.
  - A host or group name never holds braces, control characters, invisible characters or parts of a path such as C(..). The
    plugin replaces them by C(_), adds a suffix to the name, and warns about the host. It shortens names of more than 200
    characters. C(certflow_context) keeps the name of the context, and Ansible never renders it as a template.
  - Two contexts of one name, a field of another type than Kubernetes describes, an unreadable file, a pattern that matches no
    file, and a result without a host are errors.
    Ansible goes on without the inventory then, unless E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) is set; the playbooks of
    this collection stop.
options:
  plugin:
    description:
      - This plugin's name.
    type: str
    required: true
    choices: [certflow.kubernetes.kubeconfig]
  kubeconfig:
    description:
      - Kubeconfigs, as a list or joined by C(:). Each is a path, a pattern such as C(~/.kube/fleet/*.yml), or a directory, which
        stands for its files but for hidden ones. A relative path starts from the inventory file.
      - A file that ansible-vault encrypted is decrypted in memory.
      - If unset, the environment names it, and the hosts then have no C(certflow_kubeconfig) - the tasks take it from their
        environment too, where it may be another path, as in AWX. Without the environment it is C(~/.kube/config).
    type: raw
    env:
      - name: K8S_AUTH_KUBECONFIG
      - name: KUBECONFIG
  include:
    description:
      - Names of contexts that become hosts, with C(*), C(?) and C([...]) as in a shell. All if unset.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - Names of contexts that do not, in the same form.
    type: list
    elements: str
    default: []
  prefix:
    description:
      - Text in front of each host's name, for contexts named like hosts of another inventory.
    type: str
    default: ""
extends_documentation_fragment:
  - constructed
notes:
  - A host name with C(:) in it, such as the ARN by which C(aws eks update-kubeconfig) names a context, cannot be written in a
    host pattern; C(*cluster/NAME) can. C(aws eks update-kubeconfig --alias) gives a better name.
"""

EXAMPLES = r"""
# clusters.yml - without any other option than plugin, every context of ~/.kube/config is a host
plugin: certflow.kubernetes.kubeconfig
# Several files, and only some of their contexts
kubeconfig:
  - ~/.kube/datacentre.yml
  - kubeconfigs/*.yml # beside this file
include: ["prod-*"]
exclude: ["*-old"]
# Groups of one's own, by the name of the context
groups:
  canary: certflow_context in ["prod-eu-1", "prod-us-1"]
keyed_groups:
  - key: certflow_context.split("-")[1]
    separator: ""

# A play on such an inventory needs to say once where its modules and roles find their cluster:
# - hosts: clusters
#   gather_facts: false
#   module_defaults:
#     group/certflow.kubernetes.k8s:
#       kubeconfig: "{{ certflow_kubeconfig | default(omit) }}"
#       context: "{{ certflow_context }}"
"""

import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._paths import expand
from ansible_collections.certflow.kubernetes.plugins.module_utils._text import quoted, visible
from ansible_collections.certflow.kubernetes.plugins.plugin_utils import _content, _contexts

try:
    from ansible.template import (
        trust_as_template,
    )  # from 2.19 on a text is a template only when it is trusted
except ImportError:

    def trust_as_template(value: str) -> str:
        """The text: older cores render whatever looks like a template."""
        return value


DEFAULT = "~/.kube/config"
GROUP = "clusters"
# Otherwise a host's modules run under a Python that Ansible discovers, with or without the libraries.
CONNECTION = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}


class InventoryModule(BaseInventoryPlugin, Constructable):  # type: ignore[misc]
    """Hosts from contexts; _contexts decides, this reads files and fills Ansible's inventory."""

    NAME = "certflow.kubernetes.kubeconfig"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        # What the environment names, tasks find by themselves.
        self._names_files = bool(self._read_config_data(path).get("kubeconfig"))
        given = self.get_option("kubeconfig")
        try:
            found = [
                context
                for file in _files(given or DEFAULT, os.path.dirname(os.path.abspath(path)))
                for context in _contexts.contexts(file, _content.load(loader, file))
            ]
            chosen = _contexts.wanted(found, self.get_option("include"), self.get_option("exclude"))
            hosts = _contexts.hosts(chosen, self.get_option("prefix"))
        except CertflowError as error:
            raise AnsibleParserError(str(error)) from None  # what lies below may quote a kubeconfig
        for host, context in hosts.items():
            self._add(host, context)

    @staticmethod
    def _sanitize_group_name(name: str) -> str:
        """Return a safe name for a group that keyed_groups makes of a context's name."""
        return str(BaseInventoryPlugin._sanitize_group_name(_contexts.safe_name(name)))  # noqa: SLF001  # its own base

    def _add(self, host: str, context: _contexts.Context) -> None:
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

    def _variables(self, context: _contexts.Context) -> Mapping[str, str]:
        own = {
            "certflow_context": context.name,
            "certflow_server": context.server,
            "certflow_provider": context.provider,
        }
        if self._names_files or not self.get_option("kubeconfig"):
            own["certflow_kubeconfig"] = context.file
        return {**wrap_var(own), **{name: trust_as_template(value) for name, value in CONNECTION.items()}}

    def _construct(self, host: str) -> None:
        strict = self.get_option("strict")
        variables = self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        variables = self.inventory.get_host(host).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def _files(given: Any, directory: str) -> Iterator[str]:
    """The kubeconfigs that the option names, in its order, each once. Raises CertflowError for one that is not there."""
    words = given.split(os.pathsep) if isinstance(given, str) else given
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CertflowError("kubeconfig is neither a path nor a list of paths", remedy="give paths")
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
        raise CertflowError(
            f"kubeconfig {word}: {kind}", code="kubeconfig-unreadable", remedy="check the path"
        )
    return found
