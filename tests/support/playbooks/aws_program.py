# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program `aws` that speaks the protocol of exec plugins as the AWS CLI does, for clusters of the profile eks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLUSTER_NAME, REGION, PROFILE = "shop", "eu-west-1", "deployer"
ARN = f"arn:aws:eks:{REGION}:111122223333:cluster/{CLUSTER_NAME}"
V1BETA1 = "client.authentication.k8s.io/v1beta1"
#: Profile -> its failure. The other profiles do not exist, except PROFILE.
FAULTS = {"signed-out": "exit", "chatty": "text", "outdated": "version"}

# Sources: aws/aws-cli awscli/customizations/eks/get_token.py;
# https://kubernetes.io/docs/reference/config-api/client-authentication.v1beta1/
_PROGRAM = """#!{python} -IS
import json, os, sys, time
from datetime import datetime, timedelta, timezone

STATE = {state!r}
state = json.load(open(os.path.join(STATE, "state.json")))


def stop(status, text):
    sys.stderr.write(f"\\n{{text}}\\n")
    sys.exit(status)


with open(os.path.join(STATE, "runs"), "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
runs = len(open(os.path.join(STATE, "runs")).readlines())
words, options = [], {{}}
rest = iter(sys.argv[1:])
for word in rest:
    if word.startswith("--"):
        options[word] = next(rest, None)
    else:
        words.append(word)
if words != ["eks", "get-token"]:
    stop(252, f"aws: error: argument operation: Found invalid choice {{words}}")
wanted = {{"--cluster-name": state["cluster"], "--region": state["region"], "--output": "json"}}
if options != wanted:
    stop(252, f"aws: error: Unknown options: {{options}}")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
if info["kind"] != "ExecCredential" or not isinstance(info["spec"]["interactive"], bool):
    stop(255, f"Unrecognized KUBERNETES_EXEC_INFO: {{info}}")
version = info["apiVersion"]
if version not in ("client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1"):
    stop(255, f"Unrecognized API version in KUBERNETES_EXEC_INFO: {{version}}")
profile = os.environ.get("AWS_PROFILE", "")
token = state["tokens"][min(runs, len(state["tokens"])) - 1]
fault = state["faults"].get(profile)
if fault == "exit":
    print(token)
    stop(253, "Unable to locate credentials. You can configure credentials by running \\"aws configure\\".")
if fault == "text":
    print("Welcome! Your token is", token)
    sys.exit(0)
if fault == "version":
    version = "client.authentication.k8s.io/v1alpha1"
elif profile != state["profile"]:
    stop(255, f"The config profile ({{profile}}) could not be found")
until = time.process_time() + state["cpu_seconds"]
while time.process_time() < until:
    pass
expiry = datetime.now(timezone.utc) + timedelta(seconds=state["lifetime_seconds"])
answer = {{
    "kind": "ExecCredential",
    "apiVersion": version,
    "spec": {{}},
    "status": {{"expirationTimestamp": f"{{expiry:%Y-%m-%dT%H:%M:%SZ}}", "token": token}},
}}
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class AwsProgram:
    """The program in a directory."""

    directory: Path

    @property
    def path(self) -> str:
        """The directory of the program, for PATH."""
        return str(self.directory / "bin")

    def runs(self) -> list[list[str]]:
        """Return the arguments of each run."""
        log = self.directory / "runs"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def reset(
        self, tokens: Sequence[str], *, lifetime_seconds: float = 840, cpu_seconds: float = 0.0
    ) -> None:
        """Forget the runs. The first run returns the first token, and so on. Further runs return the last one."""
        (self.directory / "runs").unlink(missing_ok=True)
        state = {
            "tokens": list(tokens),
            "lifetime_seconds": lifetime_seconds,
            "cpu_seconds": cpu_seconds,
            "cluster": CLUSTER_NAME,
            "region": REGION,
            "profile": PROFILE,
            "faults": FAULTS,
        }
        (self.directory / "state.json").write_text(json.dumps(state))


def install(directory: Path, tokens: Sequence[str]) -> AwsProgram:
    """Write the program to bin/aws of a directory."""
    program = directory / "bin" / "aws"
    program.parent.mkdir(parents=True)
    program.write_text(_PROGRAM.format(python=sys.executable, state=str(directory)))
    program.chmod(0o700)
    made = AwsProgram(directory)
    made.reset(tokens)
    return made


def kubeconfig(server: str, ca_data: str, profile: str = PROFILE, command: str = "aws") -> dict[str, Any]:
    """Return a kubeconfig as `aws eks update-kubeconfig --profile` writes it."""
    entry = {
        "apiVersion": V1BETA1,
        "args": ["--region", REGION, "eks", "get-token", "--cluster-name", CLUSTER_NAME, "--output", "json"],
        "command": command,
        "env": [{"name": "AWS_PROFILE", "value": profile}],
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": ARN,
        "clusters": [{"name": ARN, "cluster": {"server": server, "certificate-authority-data": ca_data}}],
        "contexts": [{"name": ARN, "context": {"cluster": ARN, "user": ARN}}],
        "users": [{"name": ARN, "user": {"exec": entry}}],
    }
