# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Define the steps of a plan. Pure.

Every action can be repeated. An action changes nothing that already has the wanted state.

apply: apply parts of a release by server-side apply. CustomResourceDefinitions are applied without spec.conversion, and the step
    waits until they are Established. ``keep_unserved`` names versions of the cluster's CustomResourceDefinitions that stay listed.
certificate: issue a certificate for the Service into the Secret, and add its CA to the targets, as k8s_csr does.
conversion_none: set spec.conversion to {strategy: None} by a JSON patch, and read it back.
conversion_webhook: set spec.conversion to a webhook by a JSON patch, with its caBundle in the same write.
delete: delete objects in their order, and skip objects that do not exist. For a ReplicaSet, wait until its pods are gone.
    ``only_if_empty`` refuses a CustomResourceDefinition that has objects. A Secret is kept if it differs from ``resource_version``
    or if pods of another program than ``only_used_by`` mount it.
failure_policy: set the failurePolicy of every webhook in ValidatingWebhookConfigurations.
migrate_storage: write every object back at the storage version, then set status.storedVersions to it.
narrow_rules: replace the rules of a ValidatingWebhookConfiguration.
orphan: delete a Deployment and keep its pods. They and their ReplicaSets get ORPHAN_LABEL.
reconnect: change the number of line breaks at the end of caBundles, so that every API server opens new connections.
restore: put objects back as the run read them before the hop. ``labels`` are added to the pods of a Deployment. ``ignoring`` names the
    webhook configurations whose failurePolicy is Ignore for now. It is a part of an undo only.
switch_service: replace selector and target port of a Service, and wait until its EndpointSlices follow.
verify: verify a subject by a result that nothing else can produce.
wait_available: wait until every replica of the newest template is available and no older pod is left. ``reconnect`` names the
    targets of a reconnect whenever old pods begin to end.
watch_pods: watch the pods of the newest template. They must stay ready and not restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step of a hop."""

    #: A stable word, unique within its hop.
    id: str
    #: An imperative sentence without its full stop.
    title: str
    #: Sentences that say why the step is needed, and why at this place.
    reason: str
    #: The name of an action.
    action: str
    #: The parameters of the action.
    parameters: Mapping[str, Any]
    #: The ids of the hazards that the step handles.
    hazards: tuple[str, ...] = ()


def as_dict(step: Step, hop: str) -> dict[str, Any]:
    """Return a step as results carry it. hop: the release that its hop leads to."""
    return {**asdict(step), "hazards": list(step.hazards), "hop": hop}
