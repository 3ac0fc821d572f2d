# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The fields of a report, in tables. The parser, the JSON Schema and the reference page are made from them. Pure.

A minor version adds fields, and readers ignore the fields that they do not know. Any other change needs a new major version.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...module_utils._audit.audit_result import STATES
from ...module_utils._audit.facts.finding import CERTAINTIES, REFUSES, SEVERITIES, SKIPS, STATUSES

FORMAT_VERSION = "1.0"
#: The kinds of reports.
AUDIT, RUN = "audit", "run"
KINDS = (AUDIT, RUN)

# The types of fields.
TEXT, TEXTS, TIME, INTEGER, NUMBER, FLAG = "text", "texts", "time", "integer", "number", "flag"
OBJECT, OBJECTS, MAP, NUMBERS = "object", "objects", "map", "numbers"

# The statuses of a cluster.
OK, CHANGED, PLANNED, DRIFT, SKIPPED = "ok", "changed", "planned", "drift", "skipped"
LEFT = "left"
FAILED, REFUSED, UNREACHABLE, PLAN_DIFFERS = "failed", "refused", "unreachable", "plan-differs"
WAITING, NOT_STARTED, STARTED, INCOMPLETE = "waiting", "not started", "started", "incomplete"

#: Codes of failures that many clusters have at one time for one reason. The summary has one line for all of them.
SHARED = frozenset(("cluster-ca-unknown",))
#: Status of a cluster in an audit -> its meaning. Every status but OK fails the audit, whatever its findings are.
AUDIT_STATUSES = {
    OK: "The audit is complete, apart from findings with the status `unknown`.",
    INCOMPLETE: "The audit could not read webhook configurations, CustomResourceDefinitions, APIServices, Services or EndpointSlices.",
    FAILED: "The audit failed.",
    UNREACHABLE: "The API server did not answer, or its certificate did not verify.",
    NOT_STARTED: "The run ended before the audit of this cluster.",
}


@dataclass(frozen=True)
class RunStatus:
    """A status of a cluster in a run."""

    #: For the documentation.
    meaning: str
    #: True if the host of the cluster has failed for Ansible.
    is_failure: bool = False
    #: True if it counts for certflow_max_failures.
    counts: bool = False


#: The statuses of a cluster in a run, in the order of the summary.
RUN_STATUSES: dict[str, RunStatus] = {
    FAILED: RunStatus("The role failed, or it passed `certflow_deadline`.", is_failure=True, counts=True),
    REFUSED: RunStatus(
        "The role wrote nothing, because a condition is not met. For example, another program manages an object.",
        is_failure=True,
        counts=True,
    ),
    UNREACHABLE: RunStatus(
        "The API server did not answer, or its certificate did not verify. Nothing was written.",
        is_failure=True,
        counts=True,
    ),
    PLAN_DIFFERS: RunStatus(
        "The run would write more to the cluster, or something else, than `certflow_plan` has, or the audit of `certflow_findings`"
        " did not read the cluster. Nothing was written.",
        is_failure=True,
    ),
    STARTED: RunStatus(
        "The run ended while it worked on this cluster, by Ctrl-C or a kill. Only the files show this status.",
        is_failure=True,
    ),
    NOT_STARTED: RunStatus(
        "Too many clusters had failed, or the run ended before this cluster.", is_failure=True
    ),
    DRIFT: RunStatus(
        "The run had `--check` and `certflow_fail_on_change`, and a real run would change the cluster.",
        is_failure=True,
    ),
    LEFT: RunStatus(
        "The role ran, and something that it was asked for is not done. For example, a write was refused, or another program has to"
        " renew a certificate first. The reason has the number and the first object. With `certflow_job_name`, the exit status is 0.",
        is_failure=True,
    ),
    WAITING: RunStatus(
        "The maintenance window of the cluster is closed, or the phase of the rotation of its CA is not due. The reason has the next"
        " opening, or what the cluster waits for."
    ),
    CHANGED: RunStatus("The role ran and changed something."),
    PLANNED: RunStatus(
        "The run had `--check`, or a tag that only reads. The reason says what a real run would change."
    ),
    OK: RunStatus("The role ran and changed nothing."),
    SKIPPED: RunStatus("`--tags` selected no task of the role. Nothing was read or written."),
}
COUNTED = frozenset(name for name, status in RUN_STATUSES.items() if status.counts)
FAILURES = frozenset(name for name, status in RUN_STATUSES.items() if status.is_failure)
#: Kind of a report -> the statuses of its clusters.
STATUSES_OF = {AUDIT: tuple(AUDIT_STATUSES), RUN: tuple(RUN_STATUSES)}

#: The comparison of a finding with an earlier report.
NEW, KNOWN = "new", "known"


@dataclass(frozen=True)
class Field:
    """A key of a report."""

    name: str
    #: One of the types above.
    type: str
    meaning: str
    #: The fields of an OBJECT, of each of OBJECTS, or of each value of a MAP.
    fields: tuple[Field, ...] = ()
    #: The allowed texts, () for any text.
    choices: tuple[str, ...] = ()
    #: True if the value may be null, also for an OBJECT.
    is_nullable: bool = False
    #: True if a report without the key is not valid.
    is_required: bool = False
    #: The kind of report that has the field, "" for all.
    kind: str = ""


CHECK = (
    Field("title", TEXT, "The fault in general."),
    Field("category", TEXT, "The group of the check."),
    Field("severity", TEXT, "The severity of its findings. A finding may have another one."),
    Field("effect", TEXT, "The consequence of the fault."),
    Field("remedy", TEXT, "What to do."),
    Field("url", TEXT, "The page of the check, empty if it is not on the site of this collection."),
    Field("leads", FLAG, "Whether its findings come before all others, because they explain them."),
)
AUDITED_OBJECT = (
    Field("api_version", TEXT, "Group and version."),
    Field("kind", TEXT, "Kind."),
    Field("namespace", TEXT, "Namespace, empty for cluster-wide objects."),
    Field("name", TEXT, "Name."),
    Field("uid", TEXT, "UID."),
    Field("webhook", TEXT, "Name of the webhook in a configuration."),
    Field("path", TEXT, "JSON pointer of the client configuration."),
)
ACCEPTED = (
    Field("reason", TEXT, "The reason."),
    Field("until", TIME, "The end, null for an annotation.", is_nullable=True),
)
FINDING = (
    Field("check", TEXT, "The id of the check, a key of `checks`.", is_required=True),
    Field("status", TEXT, "The answer of the check.", choices=STATUSES, is_required=True),
    Field(
        "severity",
        TEXT,
        "`error` if something fails, or will fail at a known time. `warning` for a hazard. `info` otherwise.",
        choices=SEVERITIES,
        is_required=True,
    ),
    Field("certainty", TEXT, "The certainty of the cause.", choices=CERTAINTIES),
    Field("object", OBJECT, "The object.", AUDITED_OBJECT),
    Field("cause", TEXT, "The fault in one sentence."),
    Field("evidence", TEXTS, "The observations."),
    Field("breaks_at", TIME, "The time at which the fault takes effect, null if it is not known.", is_nullable=True),
    Field("manager", TEXT, "The programs that manage the object, or `unmanaged`."),
    Field("excepted", OBJECT, "The exception that accepts the finding, or null.", ACCEPTED, is_nullable=True),
    Field("fingerprint", TEXT, "A value that is the same in later audits of the cluster."),
    Field("source", TEXT, "With the status `unknown`: the data that could not be read."),
    Field("unanswered", TEXTS, "With the status `unknown`: the checks without a complete answer."),
    Field("objects", TEXTS, "With the status `unknown`: the objects without an answer. With the status `fail`: the objects, if there are several."),
    Field("permissions", TEXTS, "With the status `unknown`: the missing permissions, each a verb and a resource."),
    Field("impact", TEXT, "`refuses` if the API server refuses requests after a failed call of the object, `skips` if it skips the webhook, else empty.",
          choices=("", REFUSES, SKIPS)),
    Field("requests", TEXTS, "The requests for which the API server calls the object, such as `CREATE of pods`."),
    Field(
        "state",
        TEXT,
        "`new` or `known` after a comparison. Empty without one, or if the earlier audit could not have found it.",
        choices=("", NEW, KNOWN),
    ),
    Field("first_seen", TIME, "The time of the first of the compared audits that found it, null if not compared.", is_nullable=True),
)  # fmt: skip
EXCEPTION = (
    Field("check", TEXT, "The id of the check."),
    Field("clusters", TEXTS, "Patterns of the names of clusters, and of the UIDs that the audits expected."),
    Field("objects", TEXTS, "Patterns of objects."),
    Field("reason", TEXT, "The reason."),
    Field("until", TIME, "The end.", is_nullable=True),
    Field("state", TEXT, "The use of the exception.", choices=STATES, is_required=True),
    Field("findings", INTEGER, "The number of findings that it matches.", is_nullable=True),
)
LIMITS = (
    Field("without", TEXTS, "The data that the site does not permit to read."),
    Field("probe_urls", FLAG, "Whether the audit read the certificates at URLs."),
    Field("endpoints_per_service", INTEGER, "The maximum number of endpoints for each Service.", is_nullable=True),
    Field("endpoints_left_out", INTEGER, "The number of endpoints that the limit left out.", is_nullable=True),
)  # fmt: skip
STEP = (
    Field("id", TEXT, "The id of the step."),
    Field("hop", TEXT, "The release to which the step belongs."),
    Field("changed", FLAG, "Whether the step changed something."),
)
REPAIR_WRITE = (
    Field("verb", TEXT, "The verb of the request."),
    *AUDITED_OBJECT[:4],
    Field("fields", TEXTS, "JSON pointers of the fields."),
    Field("digest", TEXT, "The digest of what is wanted. `plan_digests` has one for each part of the write."),
)
REPAIR = (
    Field("finding", TEXT, "The fingerprint of the finding."),
    Field("check", TEXT, "The id of the check."),
    Field("object", OBJECT, "The object.", AUDITED_OBJECT),
    Field("kind", TEXT, "The kind of repair, empty if no kind answers the finding."),
    Field("state", TEXT, "What became of the repair, as the module `webhook_repair` returns it."),
    Field("code", TEXT, "Why it was not repaired, empty if it was."),
    Field("reason", TEXT, "The reason in one sentence."),
    Field("remedy", TEXT, "What to do."),
    Field("evidence", TEXTS, "The observations."),
    Field(
        "proof",
        TEXT,
        "`call` if the API server also called the webhook, `audit` if only the second audit proves it, empty without a proof.",
    ),
    Field("writes", OBJECTS, "The writes.", REPAIR_WRITE),
    Field(
        "is_left",
        FLAG,
        "Whether a kind of the run answers the finding and did not repair it, and the wait does not end by itself.",
    ),
    Field("excepted", OBJECT, "The exception that accepts it, or null.", ACCEPTED, is_nullable=True),
)
LEFT_OBJECT = (
    Field("object", OBJECT, "The object.", AUDITED_OBJECT),
    Field("code", TEXT, "Why it is left."),
    Field("reason", TEXT, "The reason in one sentence."),
    Field("remedy", TEXT, "What to do."),
)
LEFT_OVER = (
    Field("count", INTEGER, "The number of objects."),
    Field(
        "excepted",
        INTEGER,
        "The number of objects that `certflow_exceptions` accepts. They are not counted above.",
    ),
    Field("first", OBJECT, "The first object, or null.", LEFT_OBJECT, is_nullable=True),
)
CLUSTER = (
    Field("name", TEXT, "The name of the inventory host.", is_required=True),
    Field("uid", TEXT, "The UID of the namespace `kube-system`, empty if it is not known."),
    Field("status", TEXT, "The outcome.", is_required=True),
    Field("code", TEXT, "The failure code, empty without a failure."),
    Field("reason", TEXT, "The outcome in one line, or the cause of the failure."),
    Field("evidence", TEXTS, "After a failure: the observations."),
    Field("remedy", TEXT, "After a failure: what to do."),
    Field("seconds", NUMBER, "The duration, null if it is not known.", is_nullable=True),
    Field("audited_at", TIME, "The time of the audit by the clock of the API server.", is_nullable=True, kind=AUDIT),
    Field("kubernetes_version", TEXT, "The version of the API server.", kind=AUDIT),
    Field("breaks_at", TIME, "The earliest time at which a failed finding takes effect.", is_nullable=True, kind=AUDIT),
    Field("counts", NUMBERS, "The numbers of findings, as the module `audit_info` returns them.", kind=AUDIT),
    Field("findings", OBJECTS, "The findings. Those that failed come first, by `breaks_at`.", FINDING, kind=AUDIT),
    Field("exceptions", OBJECTS, "The exceptions with their use.", EXCEPTION, kind=AUDIT),
    Field("limits", OBJECT, "The limits of the audit, null if it failed.", LIMITS, is_nullable=True, kind=AUDIT),
    Field("counters", NUMBERS, "The numbers of failed calls by webhook, for `previous_counters` of a later audit.",
          is_nullable=True, kind=AUDIT),
    Field("requests", INTEGER, "The number of requests to the API server, null if it is not known.", is_nullable=True, kind=AUDIT),
    Field("bytes", INTEGER, "The number of bytes that the API server sent, null if it is not known.", is_nullable=True, kind=AUDIT),
    Field("stage", TEXT, "The stage of the cluster.", kind=RUN),
    Field("severity", TEXT, "`error` if a cluster waits although a certificate breaks before its window opens.", kind=RUN),
    Field("opens_at", TIME, "The next opening of the maintenance window. Null if it is open, or if the cluster has none.", is_nullable=True, kind=RUN),
    Field("before", TEXT, "The state before the run: a release, or `ca_state` of the module `webhook_repair`.", kind=RUN),
    Field("after", TEXT, "The state after the run, or in a plan the state to reach.", kind=RUN),
    Field("steps", OBJECTS, "The steps.", STEP, kind=RUN),
    Field("repairs", OBJECTS, "The repairs of the playbook `repair`, one for each finding.", REPAIR, kind=RUN),
    Field("left", OBJECT, "What was asked for and is not done, null if the operation does not tell.", LEFT_OVER, is_nullable=True, kind=RUN),
    Field("plan_digests", TEXTS, "With `--check`, or with a plan: the digests of the UID, of the options and of each write.", kind=RUN),
    Field("not_after", TIME, "The expiry of the certificate, or null.", is_nullable=True, kind=RUN),
    Field("days_left", INTEGER, "The days until the certificate expires, or null.", is_nullable=True, kind=RUN),
    Field("signer", TEXT, "The signer of the certificate.", kind=RUN),
    Field("provider", TEXT, "The provider of the cluster.", kind=RUN),
    Field("task", TEXT, "After a failure: the name of the task.", kind=RUN),
)  # fmt: skip
FLEET_RUN = (
    Field("id", TEXT, "The id of the run."),
    Field(
        "role",
        TEXT,
        "What ran: `webhook_certificate`, `snapshot_controller`, `webhook_repair` or `cluster_ca`.",
    ),
    Field("check_mode", FLAG, "Whether the run had `--check`."),
    Field("plan", TEXT, "The hash of the plan."),
)
GONE = (
    Field("cluster", TEXT, "The name of the cluster."),
    Field("cluster_uid", TEXT, "The UID of the cluster."),
    Field("check", TEXT, "The id of the check."),
    Field("severity", TEXT, "The severity.", choices=SEVERITIES),
    Field("object", OBJECT, "The object.", AUDITED_OBJECT),
    Field("cause", TEXT, "The fault in one sentence."),
    Field("fingerprint", TEXT, "The fingerprint of the finding."),
    Field("first_seen", TIME, "The time of the first audit that found it.", is_nullable=True),
)
COMPARISON = (
    Field("made_at", TIME, "The time of the earlier report.", is_nullable=True),
    Field(
        "new",
        INTEGER,
        "The number of failed findings that the earlier report does not have.",
        is_nullable=True,
    ),
    Field("known", INTEGER, "The number of failed findings that it has too.", is_nullable=True),
    Field("gone", OBJECTS, "Its failed findings that are gone.", GONE),
    Field("not_compared", TEXTS, "The clusters that one of the two audits did not read."),
)
REPORT = (
    Field("format_version", TEXT, "The version of the format. Readers refuse another major version.", is_required=True),
    Field("kind", TEXT, "The kind of the report.", choices=KINDS, is_required=True),
    Field("made_at", TIME, "The time of the report.", is_required=True),
    Field("collection", TEXT, "The version of this collection."),
    Field("notes", TEXTS, "Lines about the report, such as clusters that report one UID."),
    Field("clusters", OBJECTS, "The clusters, by name.", CLUSTER, is_required=True),
    Field("checks", MAP, "The checks, by id.", CHECK, kind=AUDIT),
    Field("comparison", OBJECT, "The comparison with an earlier report, or null.", COMPARISON, is_nullable=True, kind=AUDIT),
    Field("run", OBJECT, "The run.", FLEET_RUN, kind=RUN),
)  # fmt: skip
#: Shape -> its title on the reference page and in the JSON Schema.
SHAPES = {
    "report": REPORT, "cluster": CLUSTER, "finding": FINDING, "object": AUDITED_OBJECT, "accepted": ACCEPTED,
    "exception": EXCEPTION, "limits": LIMITS, "check": CHECK, "comparison": COMPARISON,
    "gone": GONE, "run": FLEET_RUN, "left": LEFT_OVER, "left object": LEFT_OBJECT, "step": STEP, "repair": REPAIR, "write": REPAIR_WRITE,
}  # fmt: skip


def of_kind(fields: tuple[Field, ...], kind: str) -> tuple[Field, ...]:
    """Return the fields of reports of a kind."""
    return tuple(field for field in fields if field.kind in ("", kind))
