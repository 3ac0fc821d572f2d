# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""From the chosen sources to a Connection. Kubeconfigs are read and merged by the kubernetes package."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any, Mapping

from ._connection import Connection, ExecPlugin
from ._errors import AuthenticationError, ConfigurationError
from ._sources import Sources, choose

try:
    import yaml
    from kubernetes.client import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import (
        SERVICE_CERT_FILENAME,
        SERVICE_HOST_ENV_NAME,
        SERVICE_PORT_ENV_NAME,
        SERVICE_TOKEN_FILENAME,
        InClusterConfigLoader,
    )
    from kubernetes.config.kube_config import ConfigNode, FileOrData, KubeConfigLoader, KubeConfigMerger
except ImportError:  # reported by _run, with the interpreter's path
    pass


DEFAULT_KUBECONFIG = "~/.kube/config"
VAULT_HEADER = "$ANSIBLE_VAULT"


def resolve(options: Mapping[str, Any], environ: Mapping[str, str]) -> Connection:
    """The connection that ``options`` and ``environ`` name.

    Raises ConfigurationError for mixtures, missing or broken files and unknown contexts.
    """
    sources = choose(options, environ)
    if sources.kind == "direct":
        return _direct(sources)
    kubeconfig = sources.values.get("kubeconfig")
    if kubeconfig is not None:
        return _from_kubeconfig(kubeconfig, sources.origins["kubeconfig"], sources)
    if environ.get("KUBECONFIG"):
        return _from_kubeconfig(environ["KUBECONFIG"], "the environment's KUBECONFIG", sources)
    if environ.get("KUBERNETES_SERVICE_HOST") and os.path.exists(SERVICE_TOKEN_FILENAME):
        return _in_cluster(sources, environ)
    if not os.path.exists(os.path.expanduser(DEFAULT_KUBECONFIG)):
        raise ConfigurationError(
            f"no cluster is named: no kubeconfig, no host, no KUBECONFIG, and {DEFAULT_KUBECONFIG} does not exist",
            remedy="give kubeconfig (and context), or host and api_key",
        )
    return _from_kubeconfig(DEFAULT_KUBECONFIG, "the default", sources)


def _transport(sources: Sources) -> dict[str, Any]:
    values = sources.values
    shared = {
        "verify": values["validate_certs"],
        "proxy": values.get("proxy"),
        "no_proxy": values.get("no_proxy"),
        "proxy_headers": values["proxy_headers"],
        "impersonate_user": values.get("impersonate_user"),
        "impersonate_groups": tuple(values["impersonate_groups"]),
    }
    if "ca_cert" in values:
        shared["ca_pem"] = _read(values["ca_cert"], sources.origins["ca_cert"])
    return shared


def _direct(sources: Sources) -> Connection:
    values = sources.values
    files: dict[str, Any] = {
        field: _read(values[option], sources.origins[option])
        for field, option in (("client_certificate", "client_cert"), ("client_key", "client_key"))
        if option in values
    }
    basic = (values["username"], values["password"]) if "username" in values and "password" in values else None
    return Connection(
        host=_host(values["host"], sources.origins["host"]),
        auth_source=f"{sources.origins['host']}",
        token=values.get("api_key"),
        basic=basic,
        **files,
        **_transport(sources),
    )


def _in_cluster(sources: Sources, environ: Mapping[str, str]) -> Connection:
    configuration = Configuration()
    where = {name: environ[name] for name in (SERVICE_HOST_ENV_NAME, SERVICE_PORT_ENV_NAME) if name in environ}
    try:
        InClusterConfigLoader(SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME, environ=where).load_and_set(configuration)
    except ConfigException as exc:
        raise ConfigurationError(f"the pod's service account cannot be used: {exc}") from exc
    shared = {"ca_pem": _read(SERVICE_CERT_FILENAME, "the pod's service account"), **_transport(sources)}
    return Connection(
        host=_host(configuration.host, "the pod's environment"),
        auth_source="the pod's service account",
        token_file=SERVICE_TOKEN_FILENAME,
        **shared,
    )


def _from_kubeconfig(kubeconfig: Any, origin: str, sources: Sources) -> Connection:
    where = f"{origin} (a dictionary)" if isinstance(kubeconfig, Mapping) else f"{kubeconfig} ({origin})"
    config = _load(kubeconfig, where)
    name = sources.values.get("context") or config.value.get("current-context")
    if not name:
        raise ConfigurationError(f"kubeconfig {where} has no current-context", remedy="give context")
    context = _entry(config, "contexts", name, "context", where)
    cluster = _entry(config, "clusters", str(context.value.get("cluster") or ""), "cluster", where)
    user_name = str(context.value.get("user") or "")
    user = _entry(config, "users", user_name, "user", where)
    problem = f"kubeconfig {where}, context {name}"
    fields = {
        "host": _host(cluster.value.get("server"), problem),
        "auth_source": f"kubeconfig {where}, context {name}",
        **_cluster_fields(cluster, problem),
        **_user_fields(user, cluster, problem),
    }
    shared = _transport(sources)
    fields["verify"] = fields.get("verify", True) and shared.pop("verify")
    for option, field in (("ca_cert", "ca_pem"), ("proxy", "proxy")):
        if fields.get(field) and not sources.origins.get(option, "").startswith("the task"):
            shared.pop(field, None)  # the environment completes a kubeconfig; only the task overrides it
    fields.update({key: value for key, value in shared.items() if value})
    return Connection(**fields)


def _load(kubeconfig: Any, where: str) -> Any:
    """The merged kubeconfig as a ConfigNode whose lists are known to be lists of named mappings."""
    if isinstance(kubeconfig, Mapping):
        return _checked(ConfigNode("kubeconfig", dict(kubeconfig)), where)
    paths = [os.path.expanduser(path) for path in str(kubeconfig).split(os.pathsep) if path]
    found = [path for path in paths if os.path.exists(path)]
    if not found:
        raise ConfigurationError(f"kubeconfig {where} does not exist", remedy="check the path")
    for path in found:
        _check_file(path, where)
    try:
        return _checked(KubeConfigMerger(os.pathsep.join(found)).config, where)
    except ConfigException as exc:
        raise ConfigurationError(f"kubeconfig {where} cannot be used: {exc}") from exc


def _check_file(path: str, where: str) -> None:
    """Refuse what the merger would trip over. YAML errors quote the text, secrets too: only the line is named."""
    text = _read(path, f"kubeconfig {where}")
    if text.startswith(VAULT_HEADER):
        raise ConfigurationError(
            f"kubeconfig {where} is encrypted with ansible-vault",
            remedy="run the task on the controller with the vault password; a module on another host cannot decrypt it",
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"kubeconfig {where} is not valid YAML{line}") from None
    _checked(ConfigNode(path, content), where)


def _checked(config: Any, where: str) -> Any:
    content = config.value
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"kubeconfig {where} is not a mapping", remedy="check that it is a kubeconfig")
    for section in ("clusters", "contexts", "users"):
        for item in content.get(section) or ():
            plain = item.value if isinstance(item, ConfigNode) else item
            if not (isinstance(plain, Mapping) and plain.get("name") and isinstance(plain.get(section[:-1]), Mapping)):
                raise ConfigurationError(f"kubeconfig {where}: an entry of {section} lacks name or {section[:-1]}")
    return config


def _entry(config: Any, section: str, name: str, key: str, where: str) -> Any:
    """The mapping under ``key`` of the entry ``name``, as a ConfigNode that knows its file's path."""
    items = config.value.get(section) or []
    nodes = [item if isinstance(item, ConfigNode) else ConfigNode(section, item, config.path) for item in items]
    found = next((node for node in nodes if node.value["name"] == name), None)
    if found is None:
        known = ", ".join(sorted(str(node.value["name"]) for node in nodes)) or "none"
        raise ConfigurationError(
            f"kubeconfig {where} has no {key} named {name!r}",
            evidence=(f"{section}: {known}",),
            remedy=f"give one of its contexts: {known}" if section == "contexts" else "repair the kubeconfig",
        )
    return found[key]


def _cluster_fields(cluster: Any, problem: str) -> dict[str, Any]:
    value = cluster.value
    fields: dict[str, Any] = {"ca_pem": _file_or_data(cluster, "certificate-authority", problem)}
    if value.get("insecure-skip-tls-verify"):
        fields["verify"] = False
    fields["tls_server_name"] = value.get("tls-server-name")
    fields["proxy"] = value.get("proxy-url")
    return fields


def _user_fields(user: Any, cluster: Any, problem: str) -> dict[str, Any]:
    value = user.value
    fields: dict[str, Any] = {
        "client_certificate": _file_or_data(user, "client-certificate", problem),
        "client_key": _file_or_data(user, "client-key", problem),
        "impersonate_user": value.get("as"),
        "impersonate_groups": tuple(value.get("as-groups") or ()),
    }
    if value.get("auth-provider"):
        fields["token"] = _auth_provider_token(value, problem)
    elif value.get("token"):
        fields["token"] = str(value["token"])
    elif value.get("tokenFile"):
        fields["token_file"] = os.path.join(_directory(user), str(value["tokenFile"]))
    elif value.get("exec"):
        fields["exec_plugin"] = ExecPlugin(value["exec"], _directory(user), cluster.value)
    elif "username" in value and "password" in value:
        fields["basic"] = (str(value["username"]), str(value["password"]))
    if not any(fields.get(name) for name in ("token", "token_file", "exec_plugin", "basic", "client_certificate")):
        raise AuthenticationError(f"{problem}: its user has no credentials", remedy="repair the kubeconfig")
    return fields


def _auth_provider_token(user: Mapping[str, Any], problem: str) -> str:
    """The token of a legacy auth-provider (oidc, gcp), made by the kubernetes package."""
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://unused"}}],
        "users": [{"name": "u", "user": dict(user)}],
    }
    configuration = Configuration()
    try:
        KubeConfigLoader(config).load_and_set(configuration)
    except Exception as exc:  # whatever the provider's own library raises
        raise AuthenticationError(f"{problem}: its auth-provider failed: {exc}") from exc
    token = configuration.api_key.get("BearerToken") or configuration.api_key.get("authorization")
    if not token:
        raise AuthenticationError(f"{problem}: its auth-provider gave no token")
    return str(token).split(" ", 1)[-1]


def _directory(node: Any) -> str:
    return os.path.dirname(os.path.abspath(node.path)) if node.path else ""


def _file_or_data(node: Any, key: str, problem: str) -> str | None:
    """PEM text of ``key`` (a path) or ``key-data`` (base64)."""
    try:
        data = FileOrData(node, key, file_base_path=_directory(node)).as_data()
        return base64.b64decode(data).decode() if data else None
    except OSError as exc:
        raise ConfigurationError(f"{problem}: {key} {exc.filename} cannot be read: {exc.strerror}") from exc
    except (binascii.Error, UnicodeDecodeError, TypeError, ValueError):
        raise ConfigurationError(f"{problem}: {key} is not base64 of PEM text") from None


def _host(value: Any, origin: str) -> str:
    host = str(value or "").rstrip("/")
    if not host.startswith(("https://", "http://")):
        raise ConfigurationError(f"{origin}: the server's address is not an http(s) URL: {host!r}")
    return host


def _read(path: Any, origin: str) -> str:
    file = Path(os.path.expanduser(str(path)))
    try:
        return file.read_text()
    except OSError as exc:
        raise ConfigurationError(f"{origin}: {file} cannot be read: {exc.strerror}", remedy="check the path") from exc
    except UnicodeDecodeError:
        raise ConfigurationError(f"{origin}: {file} is not text") from None
