#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_controller
short_description: Install, upgrade or verify the CSI snapshot controller of a cluster
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Installs the CSI snapshot controller of a cluster, or upgrades it to a release. This includes its CRDs and permissions, and the
    webhook and the certificate that the release needs.
  - It reads the cluster and plans, as M(certflow.kubernetes.snapshot_controller_info) does. Then it tries every step by server dry
    runs, verifies what is installed, acquires a Lease, and goes from release to release. Each upgrade from one release to the
    next is called a hop. The module verifies each hop by an effect that only a working controller or webhook has.
  - If a step fails, the module puts back the objects as it read them before the hop. So an undo needs no source, and it keeps changes
    of the user. Newer CRDs and permissions stay, because older controllers work with them. If another client has changed the same
    field of an object since then, the module does not overwrite the object. RV(undone) names it.
  - The module does not undo a run that was killed or interrupted. The next run continues from the current state of the cluster.
    RV(previous_run) says what the killed run worked on.
  - In check mode it writes nothing. It plans and tries every step by dry runs.
  - The manifests are upstream's own. The module fetches them once and verifies them file by file. This collection contains no manifests.
  - The module writes objects by server-side apply under the field manager C(certflow.kubernetes). First it moves fields that kubectl and
    similar tools wrote to this field manager. So it removes fields that the new release does not have, as after a fresh installation. The module applies no
    C(caBundle) and no conversion of a CustomResourceDefinition.
  - It never deletes the CRDs of VolumeSnapshots, workloads that also run other containers, or Secrets that another workload uses.
extends_documentation_fragment:
  - certflow.kubernetes._accept
  - certflow.kubernetes._attributes
  - certflow.kubernetes._snapshot_plan
  - certflow.kubernetes._auth
options:
  state:
    description:
      - V(present) installs or upgrades.
      - V(verified) verifies the installed release, whichever it is, and changes nothing that is installed. It creates a VolumeSnapshot
        for the controller to process, and deletes it again. In check mode it creates nothing, so it verifies only the webhook, the CRDs,
        and the pods.
    type: str
    choices: [present, verified]
    default: present
  approved_plan:
    description:
      - The value RV(plan_digests) of the same task in check mode. The task writes at most what these digests cover. If it would write more or
        something else, it fails with the code V(plan-differs) before that write. Fewer writes are no difference, so a killed run can be
        completed with the same digests.
      - The module compares after its checks, and again when it holds the Lease. The comparison needs the permission to get the namespace
        C(kube-system).
      - Time-outs, the connection, caches, backups, O(source) and O(source_auth) are not covered.
    type: list
    elements: str
  probe_namespace:
    description:
      - The namespace in which the module creates the VolumeSnapshot of a verification, and deletes it again. If unset, it is the
        controller's namespace.
    type: str
  undo:
    description:
      - Whether the module undoes a hop that fails, which puts back the release before the hop. Newer CRDs stay.
      - If this is V(true), the module refuses an upgrade if dry runs find an object that could not be created again. A missing
        permission is an example.
    type: bool
    default: true
  backup:
    description:
      - The place of the backup of each hop. It is the absolute path of a directory on the machine that runs the task, or a path that begins
        with C(~). Without this option, no backup is written.
      - Before the first write of a hop, the module saves every object that the hop changes or deletes. Of a Secret, it saves only the
        certificates.
      - A file in the directory also has the commands that restore the objects.
      - If the files of the machine that runs the task are lost, as in an execution environment of AWX, RV(steps[].objects) has each
        deleted object and the earlier value of each changed field.
    type: str
  step_timeout:
    description:
      - The longest time for one step, in seconds.
    type: int
    default: 600
  wait_timeout:
    description:
      - The longest time for the whole task, in seconds, including the wait for another run's Lease.
      - A step starts only if its own time still fits, with 120 seconds for an undo. Otherwise the run ends with the code V(interrupted)
        and undoes nothing. The next run continues.
    type: int
    default: 3600
  source:
    description:
      - The source of the manifests. It is a directory with the unpacked release, a tar archive (C(.tar.gz), C(.tgz), C(.tar)), or
        the URL of an archive.
      - C({version}) in it stands for the release, such as 8.7.0. A plan with hops needs the manifests of several releases.
      - The proxy and the CA of the connection come from the environment variables E(HTTPS_PROXY), E(NO_PROXY) and E(SSL_CERT_FILE). A
        URL must not hold a password. For a private mirror set O(source_auth).
    type: str
    default: https://github.com/kubernetes-csi/external-snapshotter/archive/refs/tags/v{version}.tar.gz
  source_auth:
    description:
      - The credentials for the URL of a private mirror. The keys have the names of M(ansible.builtin.uri). They need an https URL.
      - Only the host of O(source) gets the credentials. If it redirects to another host, that host does not get them.
      - At most one of O(source_auth.token), O(source_auth.url_username) and a header C(Authorization) is allowed.
    type: dict
    suboptions:
      headers:
        description:
          - Headers of the request, by name, such as C(X-JFrog-Art-Api) or C(PRIVATE-TOKEN).
        type: dict
      token:
        description:
          - A bearer token.
        type: str
      url_username:
        description:
          - The user name for basic authentication.
        type: str
      url_password:
        description:
          - The password of O(source_auth.url_username).
        type: str
      client_cert:
        description:
          - The path of a client certificate, in PEM form. The file may also have its key.
        type: path
      client_key:
        description:
          - The path of the key of O(source_auth.client_cert), in PEM form and not encrypted.
        type: path
      ca_path:
        description:
          - The path of CA certificates in PEM form. They are trusted in addition to those of the system.
        type: path
  sums:
    description:
      - SHA-256 sums of the files of releases that this collection does not know, or that you have changed. It is a dictionary by release.
        Each value is a dictionary by the path of the file in the repository. The other files of a release that it knows keep their sums.
    type: dict
    default: {}
  cache_directory:
    description:
      - The directory for fetched manifests, on the machine that runs the task. The module verifies the files at each use.
    type: path
    default: ~/.cache/certflow.kubernetes/releases
  digests:
    description:
      - The digests that the images are pinned to, by program and tag, such as C(snapshot-controller:v8.7.0).
    type: dict
    default: {}
  controller:
    description:
      - >-
        A part of the controller's Deployment as a manifest has it, such as C({spec: {replicas: 2}}). It is merged into the Deployment of the
        release like a strategic merge patch. A field that is null is removed.
      - In C(spec.template.spec.containers), an entry without C(name) changes the container of the release.
      - What the release owns is refused. This is the selector and its labels, the image, the arguments, the account, and the volumes and
        mounts of the release. See O(image_registry), O(digests) and O(controller_arguments).
    type: dict
    default: {}
  webhook:
    description:
      - The same for the webhook's Deployment. Without it, the Deployment is upstream's with the additions of this collection. The
        additions are at least 2 replicas, a readiness probe, a user without privileges, and pods that serve for a moment before they
        end.
    type: dict
    default: {}
  signer_name:
    description:
      - The signer of the webhook's certificate. By default the signer of the cluster's provider.
    type: str
  provider:
    description:
      - The provider of the cluster, such as V(eks). V(auto) detects it.
    type: str
    default: auto
  providers:
    description:
      - Signers by provider that replace those of the table, and C(default) for an unknown provider. An entry may also be a row, as in
        M(certflow.kubernetes.k8s_csr_info).
    type: dict
    default: {}
  expiration_seconds:
    description:
      - The lifetime to request for the webhook's certificate, in seconds. By default the signer's.
    type: int
  renew_before:
    description:
      - The time before its end at which the certificate is renewed, such as V(30d).
    type: str
seealso:
  - module: certflow.kubernetes.snapshot_controller_info
  - name: Upgrading from client-side apply to server-side apply
    description: The fields that an apply removes.
    link: https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
notes:
  - The Lease is C(kube-system/certflow-snapshot-controller). Another run waits until the Lease is released. If a run loses the Lease, it
    stops before its next write and undoes nothing.
  - Ctrl-C, SIGTERM, the end of O(wait_timeout), and the end of the task's C(timeout) interrupt the run. The module then finishes the
    request in flight, releases the Lease, and undoes nothing. The code is V(interrupted).
  - The module prints its progress if it runs inside Ansible's own process. It does with C(connection=local) and Ansible's own interpreter.
  - The module writes the cache of manifests in check mode too.
"""

EXAMPLES = r"""
- name: Upgrade to 8.7.0
  certflow.kubernetes.snapshot_controller:
    version: 8.7.0
    accept: [kubectl]
    backup: ~/.local/state/certflow.kubernetes/backups

- name: Upgrade from a mirror of the registry
  certflow.kubernetes.snapshot_controller:
    version: 8.7.0
    source: /srv/releases/external-snapshotter-{version}.tar.gz
    image_registry: registry.example.com/sig-storage
    controller:
      spec:
        template:
          spec:
            imagePullSecrets: [{name: mirror}]
            tolerations:
              - key: node-role.kubernetes.io/control-plane
                operator: Exists
            containers:
              - resources:
                  requests: {cpu: 10m, memory: 50Mi}

- name: Verify that the installed controller works
  certflow.kubernetes.snapshot_controller:
    version: 8.7.0
    state: verified
"""

RETURN = r"""
installed:
  description: The parts of external-snapshotter that the cluster had at the beginning.
  returned: once the cluster was read
  type: dict
  contains:
    version: {description: "The release of the controller. Empty if no controller runs, or if its image does not show it.", type: str, returned: success}
    kubernetes: {description: The version of Kubernetes., type: str, returned: success}
    crds:
      description:
        - The CustomResourceDefinitions. Each has C(name), C(releases) (the releases that have it in this form, empty if no release has),
          C(versions) (each is C(stored), C(served) or C(listed)), C(stored_versions) and C(conversion).
      type: list
      elements: dict
      returned: success
    controllers:
      description: "The controllers. Each has C(kind), C(namespace), C(name), C(image), C(version), C(arguments), C(replicas) and C(available)."
      type: list
      elements: dict
      returned: success
    webhooks:
      description: "The webhooks, in the form of RV(installed.controllers), with C(program) and C(port)."
      type: list
      elements: dict
      returned: success
    configurations:
      description:
        - The ValidatingWebhookConfigurations of the validation webhook. The module recognises them by upstream's name. It also recognises
          them if every webhook in them has rules only for snapshots and calls a Service whose pods run the webhook's program.
        - Each has C(name) and C(webhooks). Each webhook has C(name), C(service), C(path), C(failure_policy) and
          C(resources).
        - Other configurations that name snapshots or call the webhook are in RV(hazards). The upgrade does not change them.
      type: list
      elements: dict
      returned: success
    secrets:
      description:
        - Secrets of the webhooks. Each has C(namespace), C(name), C(type), C(keys), C(writers) and C(users).
      type: list
      elements: dict
      returned: success
    sidecars:
      description: The csi-snapshotter sidecars of CSI drivers, in the form of RV(installed.controllers). The upgrade does not change them.
      type: list
      elements: dict
      returned: success
    default_classes: {description: Names of the default classes by driver., type: dict, returned: success}
    group_objects: {description: "The numbers of stored group snapshots: C(classes), C(snapshots), C(contents).", type: dict, returned: success}
    unreadable: {description: "The lists that could not be read, with the reason.", type: dict, returned: success}
managers:
  description:
    - Objects that another manager applied, such as Helm. Each has C(object), C(manager), C(name), C(evidence) and C(accepted).
  returned: once the cluster was read
  type: list
  elements: dict
refused:
  description:
    - The reasons why the plan must not be carried out, each with C(id), C(reason), C(evidence) and C(remedy). Empty if there is no reason.
  returned: once the cluster was read
  type: list
  elements: dict
hazards:
  description:
    - The hazards of this upgrade, each with C(id), C(title), C(handling) (V(refuse), V(ask), V(step) or V(report)), C(answer),
      C(evidence), C(remedy) and C(source).
  returned: once the cluster was read
  type: list
  elements: dict
reports:
  description: The hazards of handling C(report), one per line. An operator should know them. The upgrade does not act on them.
  returned: once the cluster was read
  type: list
  elements: str
hops:
  description:
    - The hops of the upgrade. Each has C(start) (empty if no release was installed), C(release), C(reason) (why the upgrade needs this
      hop) and C(steps), the ids of its steps.
  returned: once the cluster was read
  type: list
  elements: dict
plan:
  description: The steps of all hops, in order. A refused plan has them too.
  returned: once the cluster was read
  type: list
  elements: dict
  contains:
    id: {description: "A stable word, unique within its hop.", type: str, returned: success}
    hop: {description: The release of its hop., type: str, returned: success}
    title: {description: The step in a few words., type: str, returned: success}
    reason: {description: "Why the step is needed, and why at this place.", type: str, returned: success}
    action: {description: The kind of step., type: str, returned: success, sample: apply}
    parameters: {description: The parameters of the action., type: dict, returned: success}
due:
  description: Ids of the steps that would write, according to the dry runs at the beginning.
  returned: success
  type: list
  elements: str
  sample: [crds, controller-rbac, controller]
foreseen:
  description:
    - The effect of these steps. Each has C(id), C(title), C(objects) in the form of RV(steps[].objects), and C(note), why the step could not be
      tried before the earlier steps.
  returned: success
  type: list
  elements: dict
problems:
  description: The steps that would fail, each with C(step), C(cause), C(evidence) and C(remedy).
  returned: once the steps were tried
  type: list
  elements: dict
notes:
  description: Facts that an operator should know, such as a pod that could not be tried by a dry run.
  returned: once the steps were tried
  type: list
  elements: str
verified:
  description: The verifications of O(state=verified), each with C(id), C(subject), C(verdict), C(summary), C(evidence) and C(remedy).
  returned: if O(state=verified)
  type: list
  elements: dict
previous_run:
  description:
    - A run that was killed before this one. It has C(holder), C(renewed), and in C(record) the step that it worked on. V(null) if there was
      no such run.
  returned: always, once the steps were tried
  type: dict
backup:
  description: Path of the last backup file. Empty if none was written.
  returned: always, once the steps were tried
  type: str
  sample: /home/me/.local/state/certflow.kubernetes/backups/203.0.113.7-6443-20260301T030000Z.yaml
hop:
  description: The hop that failed.
  returned: if a step failed
  type: str
  sample: 8.1.0
step:
  description: The id of the step that failed.
  returned: if a step failed
  type: str
  sample: webhook-wait
steps:
  description: The steps of this run, in order. They include the steps of an undo.
  returned: always, once the steps were tried
  type: list
  elements: dict
  contains:
    id: {description: The id of the step in RV(plan)., type: str, returned: always, sample: controller}
    hop: {description: The release of its hop., type: str, returned: always, sample: 8.1.0}
    title: {description: The step in a few words., type: str, returned: always}
    action: {description: The kind of step., type: str, returned: always, sample: apply}
    undoes: {description: Whether the step belonged to an undo., type: bool, returned: always}
    status: {description: "C(done), C(failed) or C(interrupted).", type: str, returned: always, sample: done}
    changed: {description: Whether the step wrote something., type: bool, returned: always}
    reason: {description: "Why the step was due, the result of a verification, or the cause of the failure.", type: str, returned: always}
    seconds: {description: The duration of the step in seconds., type: int, returned: always, sample: 12}
    objects:
      description: The changed objects.
      type: list
      elements: dict
      returned: always
      contains:
        kind: {description: The kind., type: str, returned: always, sample: Deployment}
        namespace: {description: "The namespace, empty for an object without one.", type: str, returned: always, sample: kube-system}
        name: {description: The name., type: str, returned: always, sample: snapshot-controller}
        change: {description: "C(created), C(changed) or C(deleted).", type: str, returned: always, sample: changed}
        changes:
          description:
            - The fields that differ in meaning, each with C(path), C(before) and C(after). Certificates and schemas are shown by fingerprint.
          type: list
          elements: dict
          returned: always
        note: {description: "Why the object was not deleted, or could not be tried.", type: str, returned: always}
        deleted:
          description:
            - The object in the version that was deleted, without fields that the API server sets. A Secret appears with its certificates only.
          type: dict
          returned: if the object was deleted
left:
  description:
    - What the upgrade was asked for and did not prove. A webhook answered a verification, but perhaps over an older connection, or no
      endpoint shows the new certificate. Any other step that is not done fails the task.
  returned: success
  type: dict
  contains:
    count:
      description: The number of objects.
      type: int
      returned: always
      sample: 0
    first:
      description: The first of them with C(object), C(code), C(reason) and C(remedy), or null.
      type: dict
      returned: always
undone:
  description:
    - The undo after a failure. It has C(release), the release before the hop, and C(is_back), whether that release is in place again.
    - It also has C(steps), the titles of the steps that changed something, and C(problem), why nothing was put back or why the undo
      failed.
    - V(null) if no step failed.
  returned: always, once the steps were tried
  type: dict
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, once they are known
  type: dict
  contains:
    host:
      description: URL of the API server.
      type: str
      returned: always
      sample: https://203.0.113.7:6443
    auth_source:
      description: The source of the address and of the credentials.
      type: str
      returned: always
      sample: kubeconfig /home/me/.kube/config, context prod
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: rollout-failed
cause:
  description: The cause of the failure.
  returned: failure
  type: str
evidence:
  description: The observations behind it.
  returned: failure
  type: list
  elements: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
plan_digests:
  description:
    - The digests of the cluster, of each option that is not the default, and of each write that is due, for O(approved_plan). They contain
      no text of the cluster.
  returned: in check mode, if the identity may get the namespace C(kube-system), and with O(approved_plan)
  type: list
  elements: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
