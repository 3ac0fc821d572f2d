# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow each recipe of CONTRIBUTING.md in a copy of the tree: put its example row into the table, and use it.

So a row works if only the files change that the recipe names.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.ci.venvs import REPOSITORY

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
PLUGINS = "ansible_collections.certflow.kubernetes.plugins"
ROOMS = f"{PLUGINS}.module_utils"
# For each recipe: the program that uses the new row. It fails if the row has no effect.
PROGRAMS = {
    "signer": f"""
from {ROOMS}._csr.issuing.signers import CertificateRequest, find_signer, list_refusals, remedy_for
row = find_signer("example.com/serving")
request = CertificateRequest(dns_names=("a.b.svc",), emails=("a@b.example",), usages=row.usages)
assert list_refusals(row, request) == ["email addresses are not allowed"], list_refusals(row, request)
assert remedy_for(row.name, "email addresses are not allowed").startswith("Ask for DNS names")
""",
    "provider": f"""
from {ROOMS}._csr.issuing.providers import detect
from tools.docs import provider_page
node = {{"labels": {{"example.com/pool": "a"}}}}
assert detect({{"version": {{"gitVersion": "v1.36.3-example.1"}}, "nodes": [node]}}).name == "example-cloud"
assert "example-cloud" in provider_page.provider_page()
""",
    "owner": f"""
from {ROOMS}._base.object_managers import MANAGERS
from {ROOMS}._base import accept
from {ROOMS}._base.owners import owners
from {ROOMS}._webhook.bundles.bundle_targets import Target, find_managers, remedy_for
from tools.docs import managers
obj = {{"metadata": {{"labels": {{"example.com/deployer": "a"}}}}}}
assert [owner.manager.key for owner in owners(obj)] == ["example-deployer"]
target = Target("APIService", "v1.example.com")
(owner,) = find_managers(target, obj)
assert remedy_for(target, owner.manager).startswith("Leave caBundle out")
assert accept.parse(["example-deployer"]).covers("example-deployer", "APIService v1.example.com")
assert "example-deployer" in managers.other_writers()
""",
    "fault of a call": f"""
from {ROOMS}._webhook.calls import call_failures
words = 'failed calling webhook "a.example.com": failed to call webhook: example gateway has no route to a.svc'
failure = call_failures.of_answer(words, call_failures.ADMISSION, "a.example.com")
assert failure.code == "example-gateway", failure
assert "no route to a.svc" in failure.cause and failure.remedy.startswith("Add the route")
""",
    "kind of caller": f"""
from {ROOMS}._audit import gather
from {ROOMS}._audit.facts.cluster_data import CONFIGURATIONS, PERMISSIONS
from {ROOMS}._audit.object_parsing import points_of
from {ROOMS}._operations import k8s_csr, webhook_cabundle, webhook_probe
from {ROOMS}._webhook.bundles import bundle_targets
from {ROOMS}._webhook.service_callers import judge
kind = "ExampleWebhookConfiguration"
for module in (k8s_csr, webhook_cabundle):
    assert kind in module.OPERATION.argument_spec["targets"]["options"]["kind"]["choices"]
assert kind in webhook_probe.OPERATION.argument_spec["target"]["options"]["kind"]["choices"]
service = {{"namespace": "a", "name": "hook"}}
obj = {{"metadata": {{"name": "x"}}, "webhooks": [{{"name": "h.x", "clientConfig": {{"service": service}}}}]}}
(point,) = points_of(kind, obj)
assert point.config.server_name == "hook.a.svc" and point.object.kind == kind
target = bundle_targets.Target(kind, "x")
assert judge(target, obj, ("a", "hook")).is_usable
assert bundle_targets.path(target) == "/apis/example.com/v1/examplewebhookconfigurations/x"
assert PERMISSIONS[CONFIGURATIONS][0].resource == "examplewebhookconfigurations"
assert kind in gather.ADMISSION_KINDS
""",
    "CRD": f"""
from {ROOMS}._snapshot.actions.action import CRD, named
from {ROOMS}._snapshot.kinds import Reference
from {ROOMS}._snapshot.release import crd_sets, release_table
name = "volumesnapshotpolicies.snapshot.storage.k8s.io"
crds = crd_sets.row(release_table.NEWEST.crds, release_table.SNAPSHOT)
from tests.unit.plugins.module_utils._snapshot import objects
assert name in crd_sets.names(release_table.SNAPSHOT) and name not in release_table.GROUP_CRDS
assert crd_sets.parse(objects.crd(name, crds)).set is crds
references = [Reference(CRD, name) for name in release_table.SNAPSHOT_CRDS]
assert named(references) == "4 CustomResourceDefinitions of snapshot.storage.k8s.io"
""",
    "audit check": f"""
from dataclasses import replace
from {ROOMS}._audit import audit_result
from tools.docs import audit
from tests.unit.plugins.module_utils._audit.world import cluster
result = audit_result.build(replace(cluster(), version="v1.10.2"))
assert [finding["severity"] for finding in result["findings"] if finding["check"] == "example-too-old"] == ["warning"]
assert "example-too-old" in audit.checks()
""",
    "kind of repair": f"""
from {ROOMS}._repair import kinds
assert [row.name for row in kinds.kinds_for("service-missing")] == ["example-kind"]
assert kinds.KINDS["example-kind"].unproven == kinds.WRITTEN
""",
    "report format": f"""
from {PLUGINS}.plugin_utils._report import report_files
assert report_files.format_of("/tmp/Report.TXT").render({{}}, "never") == "never"
assert report_files.format_of("a.txt").mode == 0o600
""",
    "failure code": f"""
from {ROOMS}._base.codes import CODES
from tools.docs import pages
assert "example-unavailable" in CODES and list(CODES) == sorted(CODES)
assert "example-unavailable" in pages.failure_codes()
""",
    "hazard": f"""
from types import SimpleNamespace
from {ROOMS}._snapshot.hazards import table
from tools.docs import hazards
row = next(row for row in table.HAZARDS if row.id == "example-flag")
assert row.rule(SimpleNamespace(controller=None)) is None
finding = row.rule(SimpleNamespace(controller=SimpleNamespace(arguments=("--example",))))
assert table.DetectedHazard(row, finding).stops(SimpleNamespace(undo=False, accept=()))
hazards.BETWEEN["example-flag"] = "8.7 to 8.8"
assert "example-flag" in hazards.hazards()
""",
    "action of an upgrade": f"""
from {ROOMS}._snapshot.actions.action import HopProgress, Step
from {ROOMS}._snapshot.actions.object_actions import ScaleDeployment
from {ROOMS}._upgrade import actions
step = Step("scale", "Scale it", "It needs more pods.", ScaleDeployment("default", "hook", 2))
assert step.as_result("8.7.0")["parameters"] == {{"namespace": "default", "name": "hook", "replicas": 2}}
(line,) = step.action.lines(HopProgress(None, set()))
assert (line.verb, line.text) == ("change", "Deployment default/hook: 2 replicas"), line
actions.ACTIONS[ScaleDeployment] = lambda context, action: [action.replicas]
assert actions.carry_out(None, step.action) == [2]
""",
    "Kubernetes release": """
from tests.support.clusters import build, pins
from tests.support.clusters.profiles import find
assert pins.NEWEST_RELEASE == "1.38" and "1.37" in pins.OLDER_RELEASES, pins.KUBERNETES_RELEASES
assert build.build_key(pins.control_plane(pins.KUBERNETES_RELEASES["1.38"])).startswith("kubernetes-v1.38.0-etcd-v3.7.1-")
assert find("eks@1.38").version == find("eks").version == "v1.38.0-eks-3c42bf9"
""",
    "release": f"""
from {ROOMS}._snapshot.release import crd_sets, flags, release_table
release = release_table.target("99.0.0")
assert release_table.NEWEST is release and release.version == (99, 0, 0), release_table.NEWEST
assert release_table.usable_after(release_table.RELEASES[-2]) is release
crds = crd_sets.row(release.crds, release_table.SNAPSHOT)
spec = {{
    "group": crds.group,
    "versions": [
        {{"name": "v1", "served": True, "storage": False}},
        {{"name": "v2", "served": True, "storage": True, "schema": {{"x-kubernetes-validations": []}}}},
    ],
}}
assert crd_sets.parse({{"metadata": {{"name": release_table.SNAPSHOT_CRDS[1]}}, "spec": spec}}).set is crds
assert crd_sets.rank(crds) == max(map(crd_sets.rank, crd_sets.SETS))
""",
}  # fmt: skip


def recipe(name: str) -> str:
    """Return the section of a recipe."""
    match = re.search(rf"^## How to add an? {name}\n(.*?)(?=^## )", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert match, name
    return match[1]


def table_of(text: str, file: str) -> str:
    """Return the table that a recipe names with a file."""
    tables: list[tuple[str, str]] = re.findall(r"`(\w+)`\s+in\s+`([\w/.]+\.py)`", text)
    return next((table for table, path in tables if file.endswith(path)), "")


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the code of each example of a recipe."""
    for block in re.findall(r"^ *```python\n(.*?)```", text, re.MULTILINE | re.DOTALL):
        code = textwrap.dedent(block)
        if match := re.match(r"# ((?:plugins|tests)/\S+)\n", code):
            yield match[1], code.partition("\n")[2]


def with_example(text: str, code: str, name: str) -> str:
    """Return the text of a file with a function or class at its end, or with a row in the table of this name."""
    node = ast.parse(code).body[0]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return f"{text}\n\n{code}"
    (table,) = [
        next(
            part for part in ast.walk(statement.value or statement) if isinstance(part, (ast.Dict, ast.Tuple))
        )
        for statement in ast.parse(text).body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        if ast.unparse(statement).startswith((f"{name} =", f"{name}: "))
    ]
    assert isinstance(node, ast.Expr)
    lines = text.splitlines(keepends=True)
    if isinstance(node.value, ast.Dict):
        assert isinstance(table, ast.Dict)
        key = ast.literal_eval(node.value.keys[0] or node.value)
        later = [place.lineno for place in table.keys if place and ast.literal_eval(place) > key]
        line = later[0] - 1
        code = code.strip().removeprefix("{").removesuffix("}").strip()
    else:
        assert isinstance(table, ast.Tuple)
        line = table.elts[-1].end_lineno or 0
    row = textwrap.indent(code.rstrip().rstrip(",") + ",\n", "    ")
    return "".join(lines[:line]) + row + "".join(lines[line:])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the programs import."""
    root = tmp_path_factory.mktemp("copy") / "ansible_collections" / "certflow" / "kubernetes"
    for folder in ("docs", "plugins", "tools", "tests"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_row_of_an_example_works(copy: Path, name: str) -> None:
    before, text = {}, recipe(name)
    for file, code in examples(text):
        before[file] = (copy / file).read_text()
        (copy / file).write_text(with_example(before[file], code, table_of(text, file)))
    assert before
    paths = f"{copy.parents[2]}:{copy}"
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAMS[name]],
        env={"PYTHONPATH": paths},
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    for file, text in before.items():
        (copy / file).write_text(text)
    assert done.returncode == 0, done.stderr
