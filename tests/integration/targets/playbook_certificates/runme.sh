#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

report="${OUTPUT_DIR}/report.json"

prepare() {
    ansible-playbook prepare.yml -e "test_directory=${OUTPUT_DIR}" -e @../../integration_config.yml "$@"
}

certificates() {
    ansible-playbook certflow.kubernetes.certificates -i "${OUTPUT_DIR}/clusters.yml" -e @"${OUTPUT_DIR}/webhook.yml" -e "certflow_report=${report}" "$@"
}

# Check the status of every cluster in the report.
expect() {
    ansible-playbook verify.yml -e "test_report=${report}" -e "{\"test_statuses\": $1}"
}

prepare "$@"
trap 'prepare -e test_state=absent' EXIT

certificates --check "$@"
expect '["planned"]'

# A check for drift fails for each cluster that would change.
if certificates --check -e certflow_fail_on_change=true "$@"; then
    echo "The playbook did not fail for a cluster that would change." >&2
    exit 1
fi
expect '["drift"]'

certificates "$@"
expect '["changed"]'

certificates "$@"
expect '["ok"]'

certificates --check -e certflow_fail_on_change=true "$@"
expect '["planned"]'

# A misspelt variable whose right name has no value ends the run before the report is written.
if certificates -e webhook_certificate_renew_befor=1d "$@"; then
    echo "The playbook did not fail for a misspelt variable." >&2
    exit 1
fi

# The first cluster fails, so the second one is not started.
if certificates -e webhook_certificate_namespace=absent "$@"; then
    echo "The playbook did not fail without the namespace." >&2
    exit 1
fi
expect '["failed", "not started"]'

certificates -e webhook_certificate_state=absent "$@"
expect '["changed"]'

# A pattern that matches no host is an error.
if certificates -e certflow_hosts=absent "$@"; then
    echo "The playbook did not fail without a cluster." >&2
    exit 1
fi
