# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Every failure code of this collection, in one table.

A failed result has one of these as ``code``. Playbooks, reports and tests decide by the code and never by the text of
a message, so a code is never renamed and never reused. The page docs/failure-codes.md is made from this table.
"""

from __future__ import annotations

CODES = {
    "already-exists": "The API server refused to create an object because an object of that name exists.",
    "answer-cut-short": "The API server's answer ended before it was complete.",
    "answer-too-large": "An answer is larger than the collection reads.",
    "api-error": "The API server answered with an error that has no code of its own.",
    "authentication-failed": "The credentials are missing, expired or refused, or the exec plugin that provides them failed.",
    "certificate-not-served": "An endpoint of the webhook does not serve the certificate of its Secret.",
    "certificate-untrusted": "The caBundle does not verify the certificate that the webhook serves.",
    "conflict": "The object changed between the read and the write, also when the write was repeated.",
    "defect": "The collection has a defect. Report the line of code that the message names.",
    "forbidden": "The user does not have the permission for the request.",
    "interrupted": "A signal or the task's timeout stopped the run. It finished its last write, and undid nothing. Run it again.",
    "invalid-bundle": "The CA bundle holds no certificate that can be a trust anchor.",
    "invalid-certificate": "A key, a request or a certificate cannot be made, read or used.",
    "invalid-connection": "The options, the environment or the kubeconfig do not name one cluster.",
    "invalid-input": "An option has a value that the module does not accept.",
    "invalid-kubeconfig": "The kubeconfig cannot be read, or an entry or a field of it has the wrong type.",
    "invalid-provider": "A provider's row is wrong, or no row describes the provider.",
    "invalid-request": "The certificate signing request cannot be made, approved or completed as the task says.",
    "invalid-step": "A step of an upgrade plan cannot be carried out as it is written.",
    "invalid-target": "The target object does not exist, has no client configuration, or has a name that is not valid.",
    "lease-held": "Another run holds the Lease, and it did not release the Lease in time.",
    "lease-lost": "Another run took the Lease, or the Lease was deleted. This run stopped and put nothing back. Run it again.",
    "list-endless": "The API server repeats the pages of a list.",
    "list-expired": "The API server no longer keeps the page of the list or the version of the watch.",
    "malformed-object": "An object does not have the shape that the Kubernetes API describes.",
    "migration-failed": "Some objects of a CustomResourceDefinition are not stored at its storage version.",
    "missing-library": "The Python interpreter lacks a library that the collection needs.",
    "missing-permissions": "The user lacks permissions. The check ran before the first write.",
    "no-home-directory": "A path starts with `~`, and the user that runs the task has no home directory.",
    "no-trust-anchor": "No CA certificate that the cluster publishes verifies the issued certificate.",
    "not-found": "The API server has no object of that name.",
    "not-issued": "The signer did not issue the certificate, or issued one that cannot be used. See `diagnosis` in the result.",
    "object-invalid": "The API server's validation refused the object.",
    "object-refused": "The API server refused to create or change an object of the upgrade.",
    "other-containers": "The workload also runs other containers, so it is not deleted.",
    "owned-by-another": "Another program or team manages the object.",
    "preflight-failed": "A step of the upgrade plan would fail. Nothing was written.",
    "probe-impossible": "The probe of the task cannot be sent to this webhook.",
    "release-unavailable": "The release does not exist, or it must not be installed.",
    "request-not-canonical": "A certificate request is not in canonical form. It cannot be compared, so it is not approved.",
    "requested-by-another-identity": "The waiting request or its key is not known to belong to this identity, so it is not used.",
    "rollout-failed": "A Deployment did not become available in time.",
    "same-cluster": "Two hosts of a fleet run mean the same cluster, and for certificates the same Secret.",
    "secret-unusable": "The Secret must not or cannot be written.",
    "source-unusable": "The manifests of the release do not exist, cannot be fetched, or have a wrong checksum.",
    "step-too-early": "A step needs an object that an earlier step of the plan creates.",
    "stopped": "This cluster did not fail. The role stopped its upgrade because another cluster of the play failed.",
    "timed-out": "An answer or a list began and did not end before `wait_timeout` was over.",
    "unreachable": "The API server did not answer, or its certificate did not verify.",
    "upgrade-refused": "A hazard prevents the upgrade. Nothing was written. See `refused` in the plan.",
    "verification-failed": "A verification of the upgrade failed, or could not be completed.",
    "webhook-unproven": "The webhook failed its probe, or the task requires a proof that could not be made.",
    "wrong-cluster": "The cluster's UID is not the one that the task names.",
}
