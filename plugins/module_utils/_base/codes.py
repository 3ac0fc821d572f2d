# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Every failure code of this collection, in one table.

A failed result has one of these as ``code``. Playbooks, reports and tests decide by the code and never by the text of
a message, so a code is never renamed and never reused. The page reference_failure_codes.rst is made from this table.
"""

from __future__ import annotations

CODES = {
    "already-decided": "The request is approved or denied already, and a decision is final.",
    "api-error": "The API server answered with an error that has no code of its own, or its answer is incomplete, too large or not one of the Kubernetes API.",
    "approved-unexpectedly": "A request that does not match the expectation was approved before the task ran.",
    "audit-incomplete": "An audit could not read webhook configurations, CustomResourceDefinitions, APIServices, Services or EndpointSlices.",
    "authentication-failed": "The credentials are missing, expired or refused, or the exec plugin of the kubeconfig did not provide them.",
    "bundle-broken": "The CA bundle holds no certificate that can be a trust anchor, or every certificate of it has expired.",
    "certificate-not-served": "An endpoint of the webhook does not serve the certificate of its Secret.",
    "certificate-untrusted": "The caBundle does not verify the certificate that the webhook serves.",
    "client-identity-not-allowed": "The certificate could be used to log in, and the task does not set `allow_client_identity`.",
    "cluster-ca-unknown": "No CA of the kubeconfig verifies the certificate of the API server, for example after a rotation of the CA of the cluster.",
    "conflict": "The object changed between the read and the write, in every attempt, or another client created it first.",
    "contains-private-key": "A text that must hold only certificates also holds a private key.",
    "deadline-exceeded": "The work on a cluster took longer than `certflow_deadline`.",
    "defect": "The collection has a defect. Report the line of code that the message names.",
    "drift": "The cluster would change, in a run of a fleet playbook with `--check` and `certflow_fail_on_change`.",
    "forbidden": "The user does not have the permission for the request.",
    "interrupted": "A signal or the task's timeout stopped the run. It finished its last write, and undid nothing. Run it again.",
    "invalid-certificate": "A key, a request or a certificate cannot be made, read or used. A private key has a passphrase or an unknown type.",
    "invalid-connection": "The options, the environment or the kubeconfigs do not name one cluster and one context, or a kubeconfig cannot be read.",
    "invalid-input": "An option has a value that the module does not accept, such as a provider that does not exist.",
    "invalid-report": "A report is not complete JSON, is not a report of this collection, or has another major format version.",
    "invalid-request": "The certificate signing request cannot be made, approved or completed as the task says.",
    "invalid-step": "A step of an upgrade plan cannot be carried out, or needs an object that an earlier step creates.",
    "invalid-target": "The target object does not exist, has no client configuration, or has a name that is not valid.",
    "lease-held": "Another run holds the Lease, and it did not release the Lease in time.",
    "lease-lost": "Another run took the Lease, or the Lease was deleted. This run stopped and put nothing back. Run it again.",
    "managed-bundle": "Another controller writes the caBundle itself, and the task would remove what it wrote. The option `accept` does not allow this.",
    "missing-library": "The Python interpreter lacks a library that the collection needs.",
    "missing-permissions": "The user lacks permissions. The check ran before the first write.",
    "no-pod-left": "A restart of the webhook's workload may leave no pod that answers, so it was not restarted.",
    "no-trust-anchor": "No CA certificate that the cluster publishes verifies the issued certificate.",
    "not-found": "The API server has no object of that name.",
    "not-issued": "The signer did not issue the certificate, or issued one that cannot be used. See `diagnosis` in the result.",
    "object-refused": "The API server refused to create or change an object.",
    "owned-by-another": "Another program or team manages the object.",
    "plan-differs": "The run would write more or something else than the approved plan, or the report of `certflow_findings` "
    "has no audit of this cluster. Nothing was written after the comparison.",
    "preflight-failed": "A step of the upgrade plan would fail. The hop did not begin.",
    "probe-impossible": "The probe of the task cannot be sent to this webhook.",
    "release-unavailable": "The release does not exist, or it must not be installed.",
    "repair-failed": "A repair was written and is not proven. The result lists each field that was overwritten, restored or left.",
    "report-not-written": "A file of a report cannot be written.",
    "request-not-canonical": "A certificate request is not in canonical form. It cannot be compared, so it is not approved.",
    "request-replaced": "The request was deleted, or another request took its name, while the task ran.",
    "requested-by-another-identity": "The waiting request or its key is not known to belong to this identity, so it is not used.",
    "rollout-failed": "A workload or an object did not change in time: new pods did not become available, or some objects are not stored at the new version.",
    "rollout-held": "The webhook's workload does not replace its pods by itself, so it was not restarted.",
    "rollout-incomplete": "The last rollout of the webhook's workload is not complete, so it was not restarted.",
    "run-file-unusable": "The run file of a fleet run cannot be used. No further cluster starts.",
    "same-cluster": "Two hosts of a fleet run mean the same cluster, and for certificates the same Secret.",
    "secret-unusable": "The Secret must not or cannot be written.",
    "server-untrusted": "The certificate of the API server did not verify.",
    "signer-not-known": "The collection does not know which signer issues serving certificates on this cluster.",
    "source-unusable": "The manifests of the release do not exist, cannot be fetched, or have a wrong checksum.",
    "still-needed": "After the removal of a CA the API server would refuse what an endpoint of the webhook serves, or may serve. Nothing was written.",
    "timed-out": "An answer or a list began and did not end before `wait_timeout` was over.",
    "unreachable": "The API server did not answer.",
    "upgrade-refused": "A hazard prevents the upgrade. The hop did not begin. See `refused` in the plan.",
    "upgrade-reverted": "A hop of an upgrade was complete, and then another program put the earlier release back.",
    "verification-failed": "A verification of the upgrade or of the certificate failed, or could not be completed.",
    "webhook-unproven": "The webhook failed its probe, or the task requires a proof that could not be made.",
    "window-closed": "The maintenance window of the cluster is closed. Nothing was written.",
    "wrong-cluster": "The cluster's UID is not the one that the task names.",
}
