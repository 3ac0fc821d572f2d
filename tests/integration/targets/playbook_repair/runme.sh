#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

audit="${OUTPUT_DIR}/audit.json"

prepare() {
    ansible-playbook prepare.yml -e "test_directory=${OUTPUT_DIR}" -e @../../integration_config.yml "$@"
}

repair() {
    ansible-playbook certflow.kubernetes.repair -i "${OUTPUT_DIR}/clusters.yml" -e "certflow_report=${OUTPUT_DIR}/repair.json" "$@"
}

# Check the status of every cluster. The webhook of the test has no Service, so its repair is refused, and the cluster is left.
expect() {
    ansible-playbook verify.yml -e "test_directory=${OUTPUT_DIR}" -e "{\"test_statuses\": $1}"
}

prepare "$@"
trap 'prepare -e test_state=absent' EXIT

ansible-playbook certflow.kubernetes.audit -i "${OUTPUT_DIR}/clusters.yml" -e "certflow_report=${audit}" -e certflow_fail_on=never "$@"

repair --check -e "certflow_findings=${audit}" "$@"
expect '["planned"]'

repair --tags plan -e "certflow_findings=${audit}" "$@"
expect '["planned"]'

if repair -e "certflow_findings=${audit}" "$@"; then
    echo "The playbook did not fail although a repair is left." >&2
    exit 1
fi
expect '["left", "ok"]'

# A later job of a workflow would not start.
repair -e "certflow_findings=${audit}" -e certflow_job_name=repair "$@"
expect '["left", "ok"]'

# A report that does not exist, and a kind that does not exist, end the run before a cluster is contacted.
if repair -e certflow_findings=absent.json "$@"; then
    echo "The playbook did not fail without the report of the audit." >&2
    exit 1
fi
if repair -e certflow_repair_kinds=absent "$@"; then
    echo "The playbook did not fail for a kind that does not exist." >&2
    exit 1
fi
