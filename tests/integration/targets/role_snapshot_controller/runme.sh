#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

export ANSIBLE_ROLES_PATH=..
config=../../integration_config.yml

if ! grep -q '^integration_snapshot_context: *[a-zA-Z0-9]' "${config}"; then
    echo "Skipped, because integration_snapshot_context in integration_config.yml is empty."
    exit 0
fi

# Run the role, and compare its outcome with the expectation of this name in expect.yml.
role() {
    local name="$1"
    shift
    ansible-playbook role.yml -e @"${config}" -e "test_directory=${OUTPUT_DIR}" -e "test_expect=${name}" "$@"
}

trap 'ansible-playbook remove.yml -e @"${config}"' EXIT

role planned --tags plan "$@"
role tried --check --diff "$@"
role unavailable -e snapshot_controller_version=9.9.9 "$@"

if ! grep -q '^integration_snapshot_pods: *true' "${config}"; then
    echo "Skipped where pods must run, because integration_snapshot_pods in integration_config.yml is false."
    exit 0
fi

role changed "$@"
role ok "$@"
role tried_again --check "$@"
role verified --tags verify "$@"
role verified -e snapshot_controller_state=verified "$@"
role moved -e snapshot_controller_install_namespace=default "$@"
