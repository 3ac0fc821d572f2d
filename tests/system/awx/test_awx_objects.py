# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of examples/awx: the modules of awx.awx accept them, every name leads to an object, and surveys set variables that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import kinds
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import make_budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import (
    OPERATIONS,
    spec_of,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import check_variables
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import (
    PLAYBOOK_VARIABLES,
    of_role,
)

from tests.support.awx import collection, controller, example, specs, surveys
from tools.ci import tree, venvs

# Variable of controller.yml -> module of awx.awx.
MODULES = {
    "organizations": "organization",
    "execution_environments": "execution_environment",
    "credential_types": "credential_type",
    "credentials": "credential",
    "projects": "project",
    "inventories": "inventory",
    "inventory_sources": "inventory_source",
    "notifications": "notification_template",
    "templates": "job_template",
    "workflows": "workflow_job_template",
    "schedules": "schedule",
}
# The kinds that a schedule or a node can start.
STARTABLE = ("templates", "workflows", "projects", "inventory_sources")
# Field of an object -> the objects that it names.
REFERENCES = {
    "organization": "organizations",
    "execution_environment": "execution_environments",
    "default_environment": "execution_environments",
    "credential_type": "credential_types",
    "credential": "credentials",
    "credentials": "credentials",
    "project": "projects",
    "source_project": "projects",
    "inventory": "inventories",
    "input_inventories": "inventories",
    "notification_templates_error": "notifications",
    "notification_templates_approvals": "notifications",
}
# The answers that set a variable of the role with another type.
TRANSLATED = {"certificate_secret", "certificate_targets"}
# Job template -> the roles and playbooks whose variables its survey may set, and the answers that its playbook translates.
VARIABLES = {
    "certflow certificates": ("webhook_certificate", TRANSLATED),
    "certflow upgrade": ("snapshot_controller", set[str]()),
    "certflow repair": ("repair", set[str]()),
    "certflow cluster CA": ("cluster_ca", set[str]()),
    "certflow audit": ("", {"certflow_fail_on"}),
}
#: The questions that a workflow answers: its nodes, and for the plan the artifact of its job check.
OF_NODES = {"certflow_hosts", "certflow_job_name", "certflow_plan", "certflow_required_job"}
# The template whose survey a workflow repeats, except for these.
WORKFLOWS = {
    "certflow certificates rollout": "certflow certificates",
    "certflow upgrade rollout": "certflow upgrade",
    "certflow repair rollout": "certflow repair",
    "certflow cluster CA rollout": "certflow cluster CA",
}


@pytest.fixture(scope="module")
def environment(venv: Path) -> dict[str, str]:
    """Return the environment of programs that find the collection awx.awx."""
    place = collection.ensure(venv, venvs.cache())
    found = tree.environ(venv)
    return {**found, "ANSIBLE_COLLECTIONS_PATH": str(place), "PYTHONPATH": str(place)}


def all_objects() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in MODULES:
        for entry in example.objects()[example.variable(kind)]:
            yield kind, entry


def test_each_end_of_an_approval_has_its_own_message() -> None:
    """Without one, AWX sends a text of its own, in a form that the receiver does not read."""
    (notification,) = example.objects()["controller_notifications"]
    messages = notification["messages"]["workflow_approval"]
    assert {*messages} == {"running", "approved", "denied", "timed_out"}
    assert all("text" in json.loads(message["body"]) for message in messages.values())


def test_the_modules_accept_every_object(venv: Path, environment: dict[str, str]) -> None:
    command = [str(venv / "bin" / "python"), specs.__file__, *MODULES.values()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    accepted = json.loads(done.stdout)
    wrong = []
    for kind, entry in all_objects():
        result = ArgumentSpecValidator(accepted[MODULES[kind]]).validate(entry)
        wrong += [f"{kind} {entry['name']}: {message}" for message in result.error_messages]
    assert wrong == []
    unknown = ArgumentSpecValidator(accepted["job_template"]).validate({"name": "x", "playbok": "y"})
    assert unknown.error_messages, "the specs refuse an unknown option"


def test_the_modules_accept_every_node(venv: Path, environment: dict[str, str]) -> None:
    """The spec of the module has no suboptions. Its documentation has them."""
    path = (
        Path(environment["PYTHONPATH"])
        / collection.FOLDER
        / "plugins"
        / "modules"
        / "workflow_job_template.py"
    )
    documentation = re.search(r"DOCUMENTATION = '''\n(.*?)\n'''", path.read_text(), re.DOTALL)
    assert documentation
    documented = yaml.safe_load(documentation[1])["options"]["workflow_nodes"]["suboptions"]
    wrong = [
        f"{workflow['name']}: {problem}"
        for workflow in example.objects()["controller_workflows"]
        for node in workflow["workflow_nodes"]
        for problem in unknown_keys(node, documented, node["identifier"])
    ]
    assert wrong == []


def unknown_keys(value: Mapping[str, Any], options: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, content in value.items():
        if key not in options:
            yield f"{path}.{key}"
            continue
        inner = options[key].get("suboptions")
        for entry in content if isinstance(content, list) else [content]:
            if inner and isinstance(entry, Mapping):
                yield from unknown_keys(entry, inner, f"{path}.{key}")


def test_every_name_leads_to_an_object() -> None:
    known = {kind: {entry["name"] for entry in example.objects()[example.variable(kind)]} for kind in MODULES}
    wrong = []
    for kind, item in all_objects():
        for field, target in REFERENCES.items():
            names = item.get(field, [])
            wrong += [
                f"{kind} {item['name']}: {field} {name}"
                for name in ([names] if isinstance(names, str) else names)
                if name not in known[target]
            ]
        if kind == "schedules" and item["unified_job_template"] not in set().union(
            *(known[part] for part in STARTABLE)
        ):
            wrong.append(f"schedule {item['name']}: {item['unified_job_template']}")
    assert wrong == []


def test_every_playbook_and_inventory_exists() -> None:
    files = [
        controller_template["playbook"] for controller_template in example.objects()["controller_templates"]
    ]
    files += [
        source["source_path"]
        for source in example.objects()["controller_inventory_sources"]
        if "source_path" in source
    ]
    assert [name for name in files if not (example.FOLDER / name).is_file()] == []


@pytest.mark.parametrize("template", VARIABLES)
def test_awx_accepts_the_survey(template: str) -> None:
    assert surveys.problems(example.named("templates", template)["survey_spec"]) == []


@pytest.mark.parametrize("template", VARIABLES)
def test_awx_refuses_an_empty_answer_to_a_required_question(template: str) -> None:
    texts = [question for question in example.questions(template) if question["type"] in {"text", "textarea"}]
    assert [text["variable"] for text in texts if text.get("min", 0) != int(text["required"])] == []


@pytest.mark.parametrize("template", VARIABLES)
def test_every_question_names_the_variable_that_messages_name(template: str) -> None:
    wrong = []
    for question in example.questions(template):
        variable = (
            f"webhook_{question['variable']}" if question["variable"] in TRANSLATED else question["variable"]
        )
        wrong += [variable] if f"({variable})" not in question["question_description"] else []
    assert wrong == []


@pytest.mark.parametrize("template", VARIABLES)
def test_every_answer_sets_a_variable_of_its_type(template: str) -> None:
    """The role accepts each choice and each default, and an empty answer to every optional question."""
    role, translated = VARIABLES[template]
    asked = {question["variable"]: question for question in example.questions(template)}
    if not role:
        known = set(spec_of("audit").options)
        assert set(asked) == translated | {"certflow_hosts"}
        assert {name for name in translated if name.startswith("certflow_")} <= known
        return
    spec = spec_of(role) if role in OPERATIONS else of_role(role)
    required_names = [name for name, row in spec.options.items() if row.get("required")]
    assert set(asked) <= set(spec.options) | PLAYBOOK_VARIABLES.keys() | translated
    of_survey = {name: entry for name, entry in asked.items() if name in spec.options}
    assert {name for name in required_names if name not in asked} <= {"webhook_certificate_secret"}
    required: dict[str, Any] = dict.fromkeys(required_names, "a-name")
    required |= (
        {"webhook_certificate_secret": {"name": "a-name"}} if "webhook_certificate_secret" in required else {}
    )
    for name, question in of_survey.items():
        choices = question.get("choices", [])
        answers = [[choice] for choice in choices] if question["type"] == "multiselect" else list(choices)
        for answer in (*answers, question["default"], *([] if question["required"] else [""])):
            value = {} if answer == "" and question["required"] else {name: answer}
            assert check_variables.find_problems(spec, {"": {**required, **value}}) == [], (name, answer)


def test_choices_are_those_of_the_modules_and_playbooks() -> None:
    for template, variable, choices in (
        (
            "certflow upgrade",
            "snapshot_controller_accept",
            (*accept.UPGRADABLE, accept.OTHER_CONTENT, *accept.HAZARDS),
        ),
        ("certflow repair", "certflow_repair_kinds", kinds.KINDS),
        ("certflow audit", "certflow_fail_on", spec_of("audit").options["certflow_fail_on"]["choices"]),
    ):
        (question,) = [
            question for question in example.questions(template) if question["variable"] == variable
        ]
        assert sorted(question["choices"]) == sorted(choices)


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_asks_for_all_that_its_jobs_need(workflow: str) -> None:
    """Some answers come from the nodes, because an answer to the workflow would override them."""
    template = example.questions(WORKFLOWS[workflow])
    asked = example.named("workflows", workflow)["survey_spec"]
    assert surveys.problems(asked) == []
    assert asked["spec"] == [entry for entry in template if entry["variable"] not in OF_NODES]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_job_of_a_workflow_can_start(workflow: str) -> None:
    """Each job has its required answers and the prompts that its node uses, and needs the job that is before it."""
    nodes = {node["identifier"]: node for node in example.named("workflows", workflow)["workflow_nodes"]}
    answered = {entry["variable"] for entry in example.named("workflows", workflow)["survey_spec"]["spec"]}
    names: set[str] = set()
    for name in path_of(nodes):
        started = nodes[name]["unified_job_template"]
        if started["type"] != "job_template":
            continue
        template = example.named("templates", started["name"])
        extra = nodes[name].get("extra_data", {})
        required = {
            entry["variable"]
            for entry in template.get("survey_spec", {"spec": []})["spec"]
            if entry["required"]
        }
        assert required <= answered | set(extra), name
        prompts = {"job_type": "ask_job_type_on_launch", "diff_mode": "ask_diff_mode_on_launch"}
        assert all(template[prompt] for field, prompt in prompts.items() if field in nodes[name]), name
        asked = template.get("survey_spec", {"spec": []})["spec"]
        assert surveys.accepted(asked, extra) == extra, f"AWX would ignore a variable of the node {name}"
        extra = {**template.get("extra_vars", {}), **extra}
        assert {extra[key] for key in ("certflow_required_job",) if key in extra} <= names, name
        assert ("certflow_required_job" in extra) is bool(names), name
        names |= {extra[key] for key in ("certflow_job_name",) if key in extra}
    assert names == {"check", "canary", "fleet"}


def path_of(nodes: Mapping[str, Any]) -> list[str]:
    """Return the nodes in the order of a workflow in which all goes well. Every other end leads to the report."""
    path = ["inventory"]
    while path[-1] != "report":
        related = nodes[path[-1]]["related"]
        following: list[dict[str, str]] = related["success_nodes"] + related["always_nodes"]
        assert len(following) == 1
        assert related["always_nodes"] or related["failure_nodes"] == [{"identifier": "report"}]
        path.append(following[0]["identifier"])
    assert path == list(nodes)
    return path


def test_every_schedule_answers_the_required_questions() -> None:
    for schedule in example.objects()["controller_schedules"]:
        template = schedule["unified_job_template"]
        if template in VARIABLES:
            required = {
                question["variable"] for question in example.questions(template) if question["required"]
            }
            assert required <= set(schedule["extra_data"])
            assert (
                surveys.accepted(example.questions(template), schedule["extra_data"])
                == schedule["extra_data"]
            )


#: Variables that decide which program or which identity a job brings to the clusters, or that loosen its checks.
GUARDED = {
    "certflow_allow_shared_cluster",
    "certflow_kubeconfig",
    "certflow_context",
    "snapshot_controller_connection",
    "snapshot_controller_image_registry",
    "snapshot_controller_source",
    "snapshot_controller_source_auth",
    "snapshot_controller_sums",
    "webhook_certificate_allow_names",
    "webhook_certificate_connection",
}


@pytest.mark.parametrize("kind", ["templates", "workflows"])
def test_a_launch_sets_only_what_the_survey_asks_for(kind: str) -> None:
    """A person who may only launch a job cannot choose another registry, source, cluster or rule."""
    for entry in example.objects()[example.variable(kind)]:
        assert not entry.get("ask_variables_on_launch"), entry["name"]
        answers = surveys.accepted(
            entry.get("survey_spec", {"spec": []})["spec"], dict.fromkeys(GUARDED, "x")
        )
        assert answers == {}, entry["name"]


def test_a_cluster_that_stays_down_keeps_no_other_from_being_renewed() -> None:
    """The nightly schedule, and the template whose answers "relaunch on failed hosts" repeats, allow every failure."""
    nightly = next(
        controller_schedule
        for controller_schedule in example.objects()["controller_schedules"]
        if controller_schedule["unified_job_template"] == "certflow certificates"
    )
    answers = [nightly["extra_data"].get("certflow_max_failures")]
    answers += [
        question["default"]
        for question in example.questions("certflow certificates")
        if question["variable"] == "certflow_max_failures"
    ]
    assert [make_budget(answer, 200).limit for answer in answers] == [200, 200]
    (upgrade,) = [
        question["default"]
        for question in example.questions("certflow upgrade")
        if question["variable"] == "certflow_max_failures"
    ]
    assert 0 < make_budget(upgrade, 200).limit < 10, (
        "a relaunch continues after a dead cluster, and many failures end it"
    )


def test_no_file_has_a_secret() -> None:
    inputs = [
        controller_credential["inputs"]
        for controller_credential in example.load("controller.yml")["controller_credentials"]
    ]
    assert [value for entry in inputs for value in entry.values() if "lookup(" not in value] == []


@pytest.mark.parametrize("playbook", sorted(path.name for path in example.FOLDER.glob("*.yml")))
def test_every_playbook_can_be_read(playbook: str, venv: Path, environment: dict[str, str]) -> None:
    if not isinstance(example.load(playbook), list):
        return
    both = f"{environment['ANSIBLE_COLLECTIONS_PATH']}:{tree.link()}"
    command = [str(venv / "bin" / "ansible-playbook"), "--syntax-check", playbook]
    done = subprocess.run(
        command,
        cwd=example.FOLDER,
        env={**environment, "ANSIBLE_COLLECTIONS_PATH": both},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_canary_that_matches_no_cluster_is_found_before_the_first_object(
    venv: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Otherwise the job canary of a workflow would find it, after an approval."""
    (tmp_path / "fleet.yml").write_text(
        "contexts: [{name: prod-eu}, {name: prod-us}]\ntoken: kubeconfig-of-a-test\n"
    )
    with controller.running() as (awx, url):
        done = subprocess.run(
            [
                str(venv / "bin" / "ansible-playbook"),
                "configure.yml",
                "-e",
                f"awx_kubeconfig={tmp_path / 'fleet.yml'}",
            ],
            cwd=example.FOLDER,
            env={**environment, "CONTROLLER_HOST": url, "CONTROLLER_OAUTH_TOKEN": controller.TOKEN},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, awx.writes) == (2, []), done.stdout
    assert "awx_canary (canary-) matches none of the contexts prod-eu, prod-us" in done.stdout
    assert "kubeconfig-of-a-test" not in done.stdout + done.stderr


@pytest.mark.full
def test_all_objects_are_created_once(venv: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Run configure.yml twice against a server that keeps objects.

    The second run changes only the approvals of the workflows, which awx.awx sends in each run.
    """
    secret = "kubeconfig-of-a-test"
    (tmp_path / "fleet.yml").write_text(f"contexts: [{{name: canary-eu}}]\ntoken: {secret}\n")
    with controller.running() as (awx, url):
        variables = {"CONTROLLER_HOST": url, "CONTROLLER_OAUTH_TOKEN": controller.TOKEN}
        command = [str(venv / "bin" / "ansible-playbook"), "configure.yml", "-v"]
        command += ["-e", f"awx_kubeconfig={tmp_path / 'fleet.yml'}"]
        runs = []
        for _number in range(2):
            done = subprocess.run(
                command,
                cwd=example.FOLDER,
                env={**environment, **variables},
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert secret not in done.stdout + done.stderr
            runs.append((done.stdout, list(awx.writes)))
            awx.writes.clear()
    created = {
        name for kind in awx.objects for name in (value.get("name") for value in awx.objects[kind].values())
    }
    assert {entry["name"] for _kind, entry in all_objects()} <= created
    (_first, _sent), (second, again) = runs
    changed = re.findall(r"^changed: .*\(item=(.*?)\)", second, re.MULTILINE)
    assert set(changed) == set(WORKFLOWS)
    assert {re.sub(r"/\d+/", "/N/", line) for line in again} == {
        "POST /api/v2/projects/N/update/",
        "POST /api/v2/inventory_sources/N/update/",
        "PATCH /api/v2/workflow_approval_templates/N/",
    }
