# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options of the cluster and of the identity. They must equal those in module_utils/_ansible/argument_specs.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The path of a kubeconfig, several paths joined by C(:), or its content as a dictionary.
      - If neither this nor O(host) is set, the module uses E(K8S_AUTH_KUBECONFIG), then E(KUBECONFIG), then the pod's service
        account, then C(~/.kube/config).
      - If O(context) or E(K8S_AUTH_CONTEXT) names a context, the pod's service account is never used.
      - Every field must have the type that Kubernetes defines. A string such as V("false") instead of a boolean, or a number
        instead of a string, is an error, as it is for C(kubectl).
      - A file may have at most 16 MiB. With its YAML aliases expanded, it may have at most 64 MiB.
      - If several files use the same name, the first file counts. The files must have the same current context, unless
        O(context) names one. The roles and playbooks refuse a context, cluster or user whose name has several meanings.
      - A path in a dictionary or in an encrypted file must be absolute, because there is no directory from which it could start.
      - A relative path is also looked up in C(files/) of the role or play. If the task runs on the controller, a file that is
        encrypted with ansible-vault is decrypted in memory.
      - On the controller, the content and the other secret options are never written to a file. If Ansible needs such a file,
        for C(async), E(ANSIBLE_KEEP_REMOTE_FILES) or become with su, the task is refused. On another machine Ansible
        writes the options of a module to a temporary file, unless its connection uses pipelining.
      - A cluster is named by O(kubeconfig) and O(context), or by O(host) and credentials. The task refuses a mixture of
        both, also if a part comes from environment variables such as E(K8S_AUTH_HOST). Otherwise a request or a token could
        reach another cluster than the task names.
    type: raw
  context:
    description:
      - The context of the kubeconfig. If the task does not set O(kubeconfig), E(K8S_AUTH_CONTEXT) is used.
      - A named context is never ignored, also in a pod with a service account. If it cannot be used, the task fails.
    type: str
  host:
    description:
      - The URL of the API server. It needs O(api_key), or O(client_cert) and O(client_key). Environment variable
        E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - The bearer token. Environment variable E(K8S_AUTH_API_KEY).
    type: str
  validate_certs:
    description:
      - Whether the API server's certificate is verified. It is, unless this option, the kubeconfig, or
        E(K8S_AUTH_VALIDATE_CERTS) (E(K8S_AUTH_VERIFY_SSL)) disables that.
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - The path of the CA certificate of the API server. Environment variable E(K8S_AUTH_CA_CERT)
        (E(K8S_AUTH_SSL_CA_CERT)).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - The path of a client certificate. Environment variable E(K8S_AUTH_CLIENT_CERT) (E(K8S_AUTH_CERT_FILE)).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - The path of the client certificate's private key. Environment variable E(K8S_AUTH_CLIENT_KEY)
        (E(K8S_AUTH_KEY_FILE)).
    type: path
    aliases: [key_file]
  proxy:
    description:
      - The URL of an HTTP proxy. If unset, the kubeconfig's C(proxy-url) is used, then E(K8S_AUTH_PROXY), then
        E(HTTPS_PROXY) or E(HTTP_PROXY).
    type: str
  no_proxy:
    description:
      - Hosts that are reached without the proxy, separated by commas. Environment variable E(K8S_AUTH_NO_PROXY), then
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
  impersonate_user:
    description:
      - The user to act as. Environment variable E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description:
      - The groups to act as. Environment variable E(K8S_AUTH_IMPERSONATE_GROUPS), separated by commas.
    type: list
    elements: str
  cluster_uid:
    description:
      - The UID of the namespace C(kube-system) of the cluster. The task refuses any other cluster before the first write. The
        check takes one request.
    type: str
  wait_timeout:
    description:
      - The longest time in seconds for the whole operation, with waits and repeated requests.
      - It also limits the reading of each answer, the pages of a list and the run of an exec plugin. A request that begins
        after this time has one more second. An answer of more than 16 MiB is an error, and so is one whose
        objects would need more than 64 MiB of memory. A page of a list that is larger is read in smaller pages.
      - If the task's C(timeout) is shorter, it counts instead.
    type: int
    default: 120
requirements:
  - python >= 3.9
  - kubernetes >= 24.2.0
  - cryptography >= 42.0.0
  - urllib3 and websocket-client, which kubernetes requires too
notes:
  - Secrets are never part of a result, a diff or a log.
  - E(KUBECONFIG) and the C(K8S_AUTH_*) variables mean the same as for C(kubernetes.core).
"""
