#!/bin/bash
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Audit the webhooks of one cluster with kubectl and openssl, as a user would: the end of each CA, the Service, and a TLS handshake.
# Usage: audit.sh KUBECONFIG
set -o errexit -o nounset -o pipefail
export KUBECONFIG=$1
bundle=$(mktemp)
trap 'rm -f "$bundle"' EXIT

kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations --output json |
  jq --raw-output '.items[].webhooks[] | select(.clientConfig.service)
    | [.name, .clientConfig.service.namespace, .clientConfig.service.name, .clientConfig.service.port, .clientConfig.caBundle] | @tsv' |
  while IFS=$'\t' read -r name namespace service port ca; do
    base64 --decode <<<"$ca" >"$bundle"
    openssl x509 -in "$bundle" -noout -checkend 2592000 >/dev/null || echo "$name: its CA expires within 30 days"
    address=$(kubectl --namespace "$namespace" get service "$service" --output 'jsonpath={.spec.externalName}{.spec.clusterIP}') ||
      { echo "$name: its Service does not exist"; continue; }
    openssl s_client -connect "$address:$port" -servername "$service.$namespace.svc" -verify_hostname "$service.$namespace.svc" \
      -CAfile "$bundle" -verify_return_error </dev/null >/dev/null 2>&1 || echo "$name: its certificate does not verify"
  done
