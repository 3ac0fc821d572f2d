#!/usr/bin/env bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu

# This is a script because the collection has a role of the same name, which ansible-test would run.
ANSIBLE_ROLES_PATH=.. ansible-playbook play.yml -e @../../integration_config.yml -e "test_directory=${OUTPUT_DIR}" "$@"
