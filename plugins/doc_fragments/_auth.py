# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options that say which cluster, and as whom; must be kept in sync with module_utils/_ansible/argument_specs.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig, several paths joined by C(:), or its content as a dictionary.
      - Without it, and without O(host), E(K8S_AUTH_KUBECONFIG) is used, then E(KUBECONFIG), then the pod's service
        account, then C(~/.kube/config).
      - If O(context) or E(K8S_AUTH_CONTEXT) names a context, the pod's service account is never used.
      - Every field must have the type that Kubernetes describes. A string such as V("false") in the place of a boolean,
        or a number in the place of a string, is an error, as it is for C(kubectl).
      - A file may have at most 16 MiB. With its YAML aliases expanded, it may have at most 64 MiB.
      - Of several files the first to use a name keeps it. They must agree on the current context, or O(context) says it.
      - A path is looked up in the C(files/) of the role or play too; a file that ansible-vault encrypted is decrypted
        in memory where the task runs on the controller.
      - Content, and any other option that is secret, is written to no file there. Where Ansible insists on one, for
        C(async), E(ANSIBLE_KEEP_REMOTE_FILES) or become with su, the task is refused. On another machine Ansible
        writes the options of a module to a temporary file, unless its connection uses pipelining.
      - O(kubeconfig) and O(context) on one side, O(host) and credentials on the other are two ways to name a cluster.
        A mixture of them, also of a task's options and E(K8S_AUTH_HOST) and its like, is refused - a request or a
        token could reach another cluster than the task names.
    type: raw
  context:
    description:
      - The context of the kubeconfig. E(K8S_AUTH_CONTEXT) is used if the task gives no O(kubeconfig).
      - A named context is never ignored, also in a pod with a service account. If it cannot be used, the task fails.
    type: str
  host:
    description:
      - URL of the API server, to be given with O(api_key), or O(client_cert) and O(client_key), or O(username) and
        O(password). Environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token. Environment variable E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - User name for HTTP basic authentication. Environment variable E(K8S_AUTH_USERNAME).
    type: str
  password:
    description:
      - Password for HTTP basic authentication. Environment variable E(K8S_AUTH_PASSWORD).
    type: str
  validate_certs:
    description:
      - Whether the API server's certificate is verified. It is, unless this option, the kubeconfig, or
        E(K8S_AUTH_VALIDATE_CERTS) (E(K8S_AUTH_VERIFY_SSL)) says otherwise.
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the CA certificate of the API server. Environment variable E(K8S_AUTH_CA_CERT)
        (E(K8S_AUTH_SSL_CA_CERT)).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - Path of a client certificate. Environment variable E(K8S_AUTH_CLIENT_CERT) (E(K8S_AUTH_CERT_FILE)).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the client certificate's private key. Environment variable E(K8S_AUTH_CLIENT_KEY)
        (E(K8S_AUTH_KEY_FILE)).
    type: path
    aliases: [key_file]
  proxy:
    description:
      - URL of an HTTP proxy. Without it the kubeconfig's C(proxy-url) is used, then E(K8S_AUTH_PROXY), then
        E(HTTPS_PROXY) or E(HTTP_PROXY).
    type: str
  no_proxy:
    description:
      - Hosts, comma separated, that are reached without the proxy. Environment variable E(K8S_AUTH_NO_PROXY), then
        E(NO_PROXY).
    type: str
  proxy_headers:
    description:
      - Headers for the proxy, as C(kubernetes.core) sends them.
    type: dict
    suboptions:
      proxy_basic_auth:
        description:
          - C(user:password) for a Proxy-Authorization header. Environment variable E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH).
        type: str
      basic_auth:
        description:
          - C(user:password) for an Authorization header. Environment variable E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH).
        type: str
      user_agent:
        description:
          - The User-Agent. Environment variable E(K8S_AUTH_PROXY_HEADERS_USER_AGENT).
        type: str
  persist_config:
    description:
      - Accepted so that the defaults of C(kubernetes.core) can be shared. This collection never writes a kubeconfig.
    type: bool
  impersonate_user:
    description:
      - User to act as. Environment variable E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description:
      - Groups to act as. Environment variable E(K8S_AUTH_IMPERSONATE_GROUPS), comma separated.
    type: list
    elements: str
  cluster_uid:
    description:
      - UID of the namespace C(kube-system) of the cluster that is meant. Any other cluster is refused before the
        first write. It costs one request.
    type: str
  wait_timeout:
    description:
      - Seconds that the whole operation may take, waits and repeated requests included.
      - It also limits the reading of each answer, the pages of a list and the run of an exec plugin. A request that begins
        when the time is over has one more second. An answer of more than 256 MiB is an error.
      - A task's C(timeout) that is shorter counts instead.
    type: int
    default: 120
requirements:
  - python >= 3.9
  - kubernetes >= 24.2.0
  - cryptography >= 42.0.0
  - jmespath >= 1.0.0
notes:
  - Secrets are never part of a result, a diff or a log.
  - E(KUBECONFIG) and the C(K8S_AUTH_*) variables mean the same as for C(kubernetes.core).
"""
