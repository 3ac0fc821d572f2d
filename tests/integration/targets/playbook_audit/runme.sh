#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

report="${OUTPUT_DIR}/report.json"

prepare() {
    ansible-playbook prepare.yml -e "test_directory=${OUTPUT_DIR}" -e @../../integration_config.yml "$@"
}

audit() {
    ansible-playbook certflow.kubernetes.audit -i "${OUTPUT_DIR}/clusters.yml" "$@"
}

# Check the findings about the webhook of the test, and how many of them are accepted.
expect() {
    ansible-playbook verify.yml -e "test_directory=${OUTPUT_DIR}" -e "{\"test_excepted\": $1}"
}

prepare "$@"
trap 'prepare -e test_state=absent' EXIT

# In check mode the audit is the same, and no file is written.
audit --check -e "certflow_report=${report}" -e certflow_fail_on=never "$@"
if [ -e "${report}" ]; then
    echo "The playbook wrote a file in check mode." >&2
    exit 1
fi

audit -e "certflow_report=${report}" -e certflow_fail_on=never "$@"
expect 0

# The webhook of the test is broken.
if audit -e "certflow_report=${report}" "$@"; then
    echo "The playbook did not fail for a broken webhook." >&2
    exit 1
fi
expect 0

# Accepted findings stay in the report. Other webhooks of the clusters may be broken.
audit -e "certflow_report=${report}" -e "certflow_exceptions=${OUTPUT_DIR}/exceptions.yml" -e certflow_fail_on=never \
    -e "certflow_compare_with=${report}" "$@"
expect 2

# A misspelt variable ends the run before a cluster is contacted.
if audit -e certflow_reprot=1 "$@"; then
    echo "The playbook did not fail for a misspelt variable." >&2
    exit 1
fi

# A pattern that matches no host is an error.
if audit -e certflow_hosts=absent "$@"; then
    echo "The playbook did not fail without a cluster." >&2
    exit 1
fi
