#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

inventory="${OUTPUT_DIR}/clusters.yml"
ansible-playbook inventory.yml -e "inventory_file=${inventory}" -e @../../integration_config.yml "$@"

# The inventory as a person reads it.
ansible-inventory -i "${inventory}" --graph --vars

# A play on every cluster. Its modules find their cluster by the variables of the host.
ansible-playbook -i "${inventory}" play.yml -e @../../integration_config.yml "$@"

# A kubeconfig that does not exist is an error.
printf 'plugin: certflow.kubernetes.kubeconfig\nkubeconfig: %s\n' "${OUTPUT_DIR}/absent" > "${OUTPUT_DIR}/absent.yml"
if ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=true ansible-inventory -i "${OUTPUT_DIR}/absent.yml" --list; then
    echo "An inventory without a kubeconfig was read." >&2
    exit 1
fi
