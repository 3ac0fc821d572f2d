# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run an operation inside Ansible's own process, if that has the same result as the module.

Ansible's parent process imports the action plugin, so every fork inherits the operation, its libraries, and the store of
tokens. The parent process only imports. Each fork opens its own connections, threads and files.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import filter_loader, test_loader
from ansible.utils.display import Display

from ...module_utils._ansible import argument_specs, redaction
from ...module_utils._ansible.operation import Operation, execute, failed_result, missing_libraries
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.paths import expand
from ...module_utils._kube.login import kubeconfig, token_store
from ...module_utils._kube.login.connection import is_content
from ...module_utils._process import progress_lines
from .._action import role_options
from .._fleet import cluster_run, fleet_operations, fleet_run, fleet_task, plan
from .._inventory import contexts
from .._variables import read_variables, specs
from .._variables.values import is_unset

#: The playbook of this collection that a task belongs to, if no role and no fleet run says so.
OWNER_VARIABLE = "__certflow_owner"
#: Forces an execution mode in tests and benchmarks. It is no option for users: both modes have the same results.
MODE_VARIABLE = "__certflow_execution_mode"
AUTO, IN_PROCESS, MODULE = "auto", "in_process", "module"
EXECUTION_MODES = (AUTO, IN_PROCESS, MODULE)
OWN_INTERPRETER = "{{ ansible_playbook_python }}"
# The operation ends this many seconds before the timeout of the task, which would stop it at any line. A module needs some
# of these seconds to start.
TIMEOUT_MARGIN = 5
# The variable with which a role asks for its variables as options, and for their check: the name of the role. The other one sets the
# option state instead of the role's variable. It is no option of the task, where module_defaults could set it too.
OPTIONS_VARIABLE, STATE_VARIABLE = "__certflow_options_of", "__certflow_state"
# The parts of a result in which the roles and playbooks of this collection show their variables instead of the module's options.
TOLD = role_options.MESSAGES | {"left", "repairs"}

display = Display()
# Here, because this is imported before Ansible forks. Each fork would load all of Ansible's filters for its first template with
# a filter, and read the variables of the role again.
token_store.share_with_forks()
filter_loader.get("bool")
test_loader.get("failed")
specs.of_role("webhook_certificate")


class OperationAction(ActionBase):  # type: ignore[misc]
    """Base class of the action plugins. A subclass sets its ``operation``."""

    operation: Operation
    _supports_check_mode = True
    _supports_async = True

    #: The check that no other host of a fleet run means this cluster.
    _check_cluster: fleet_task.ClusterCheck | None = None

    _is_in_fleet = False
    #: The role or the playbook of this collection whose variables set the options, "" for a task of the user.
    _owner = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # This process ends with the task. The objects of Ansible in it stay, and a collection would copy their memory.
        gc.freeze()
        variables = task_vars or {}
        is_in_fleet = fleet_task.is_controlled(variables)
        self._owner = str(variables.get(OPTIONS_VARIABLE) or variables.get(OWNER_VARIABLE) or "")
        if OPTIONS_VARIABLE in variables:
            problem = self._take_options(variables, is_checked=is_in_fleet)
            if problem:
                return {"failed": True, "changed": False, "msg": problem, "code": "invalid-input"}
        if is_in_fleet:
            return self._run_in_fleet(tmp, variables)
        try:
            return self._run_named(tmp, variables)
        except BaseException as error:
            # Ansible's error at the end of a task's timeout.
            if self._owner != specs.AUDIT or type(error).__name__ != "TaskTimeoutError":
                raise
            return failed_result(
                CertflowError(
                    f"the audit took longer than certflow_deadline, {self._task.timeout} s",
                    code="deadline-exceeded",
                    remedy="Audit this cluster apart, with a longer certflow_deadline and -v, which shows what is slow",
                )
            )

    def _take_options(self, variables: dict[str, Any], *, is_checked: bool) -> str:
        """Add the variables of a role to the options of the task. Return their problems in one line, "" if they are valid.

        Jinja expressions for all options would cost every host more time than the work, because each fork compiles them.
        """
        role = str(variables[OPTIONS_VARIABLE])
        if not (
            is_checked
            or fleet_run.VARIABLE in variables
            or is_unset(read_variables.rendered(self._templar, variables.get(plan.NAME)))
        ):
            return (
                f"{plan.NAME} is a variable of the playbooks. The role {role} would write without this plan. Remove it and set approved_plan"
                f" in module_defaults of certflow.kubernetes.{self.operation.name.removesuffix('_info')} to {plan.DIGESTS} of a run with"
                f" --check, or run the playbook certflow.kubernetes.{fleet_operations.PLAYBOOK_OF[role]}."
            )
        spec = specs.of_role(role)
        try:
            values = read_variables.options_of_role(self._templar, spec, variables)
        except Exception:  # Ansible's text of the error may quote a secret
            values = read_variables.of_spec(self._templar, spec, variables)
            problem = read_variables.role_problem(self._loader, spec, values, variables)
            if is_checked or not problem:
                raise
            return problem
        problem = "" if is_checked else read_variables.role_problem(self._loader, spec, values, variables)
        if problem:
            return problem
        options = role_options.options(role, values, self.operation.argument_spec)
        state = self._templar.template(variables.get(STATE_VARIABLE, ""))
        self._task.args = {**self._task.args, **options, **({"state": state} if state else {})}
        return ""

    def _run_in_fleet(self, tmp: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        """Run the operation as the work on one cluster of a fleet run, if the run lets this cluster start."""

        def value(name: str) -> Any:
            return self._templar.template(variables.get(name, ""))

        self._is_in_fleet = True
        run = fleet_run.of_task(variables)
        operation = fleet_operations.of_name(run.role)
        self._owner = operation.role or fleet_operations.PLAYBOOK_OF[run.role]
        of_playbook = operation.option_values(
            read_variables.options_of_role(self._templar, operation.variables, variables)
        )
        self._task.args = {
            **self._task.args,
            **role_options.set_options(of_playbook, self.operation.argument_spec),
        }
        if run.findings is not None:
            own = run.findings.get(variables["inventory_hostname"], {})
            self._task.args["findings"] = own.get("findings", [])
        reads_only = bool(self._task.check_mode) or self.operation.name.endswith("_info")
        task = fleet_task.read_task(
            value,
            variables.get("__certflow_done") or {},
            reads_only=reads_only,
            deadline=self._task.timeout or 0,
        )
        self._check_cluster = fleet_task.make_check(run, task, self._task.args)
        is_compared = task.phase == cluster_run.WORK and "approved_plan" in self.operation.argument_spec
        if run.plan and is_compared:
            self._task.args = {**self._task.args, "approved_plan": run.plan["clusters"].get(task.host, [])}
        printer = self._printer(variables, has_host=False)
        actions = cluster_run.Actions(
            work=lambda: self._run_named(tmp, variables),
            show=printer,
            look=lambda: self._look(tmp, variables),
            tells_expiry=operation.tells_expiry,
            uid=lambda: self._check_cluster.uid if self._check_cluster else "",
        )
        return {**cluster_run.work_on(run, task, actions), cluster_run.RUN: run.run}

    def _look(self, tmp: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        """Run the operation in check mode."""
        before = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._run_named(tmp, variables)
        finally:
            self._task.check_mode = before

    def _run_named(self, tmp: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        """Run the operation. The messages of a role or a playbook of this collection name its variables."""
        answer = self._run(tmp, variables)
        collection, _dot, role = str(variables.get("ansible_role_name", "")).rpartition(".")
        owner = self._owner or (role if collection == "certflow.kubernetes" else "")
        if owner:
            answer |= {
                key: role_options.name_in_result(owner, key, answer[key]) for key in TOLD & answer.keys()
            }
            if "code" in answer:  # ansible-core would print the module's own message from here
                answer.pop("exception", None)
            source = (answer.get("cluster") or {}).get("auth_source")
            if source:
                answer["cluster"] = {
                    **answer["cluster"],
                    "auth_source": role_options.name_variables(owner, source),
                }
        return answer

    def _run(self, tmp: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, variables)
        arguments = self._arguments()
        fault = argument_specs.find_fault(self.operation.argument_spec, arguments)
        if fault:
            # Without the arguments, because no value in them is known to be secret yet.
            return {**result, "failed": True, "changed": False, "msg": fault, "code": "invalid-input"}
        mode = self._execution_mode(variables)
        if self._owner:
            # The kubeconfig may lie on another machine, so the operation checks it where it reads it.
            self._task.environment = [*(self._task.environment or ()), {kubeconfig.MUST_NAME_CONTEXT: "1"}]
        with _environment(self._task_environment()):
            spec, constraints = dict(self.operation.argument_spec), dict(self.operation.constraints)
            validation = ArgumentSpecValidator(spec, **constraints).validate(arguments)
            # Refuse wrong arguments here, because the module would print them, with the content of a kubeconfig.
            if validation.error_messages:
                return {**result, **self._refused(validation, arguments)}
            if mode == IN_PROCESS:
                return {**result, **self._run_here(validation, variables)}
            self._task.environment = [*(self._task.environment or ()), self._kubeconfigs_from_here()]
        self._keep_off_the_disk(redaction.secrets_in(validation.validated_parameters, self.operation.hidden))
        name = f"certflow.kubernetes.{self.operation.name}"
        refusal = self._check_by_module(arguments, variables)
        if refusal:
            return {**result, **refusal}
        answer = self._execute_module(
            module_name=name, module_args=arguments, task_vars=variables, wrap_async=self._task.async_val
        )
        return {**result, **answer}

    def _check_by_module(
        self, arguments: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return the failure if another host of a fleet run means this cluster. A module reads the UID where it connects."""
        if self._check_cluster is None:
            return None
        options = {key: value for key, value in arguments.items() if key in argument_specs.AUTH}
        name = "certflow.kubernetes.k8s_csr_info"
        try:
            self._check_cluster.check_result(
                self._execute_module(
                    module_name=name, module_args={**options, "gather": ["cluster"]}, task_vars=variables
                )
            )
        except CertflowError as error:
            return failed_result(error)
        return None

    def _keep_off_the_disk(self, secret: list[str]) -> None:
        """Pass secret options to the module by a pipe instead of a file, if the task runs on this machine.

        On another machine the option pipelining of the connection decides. Raises AnsibleActionFail if Ansible would
        still use a file.
        """
        if not secret or self._connection.transport != "local":
            return
        self._connection.set_option("pipelining", True)
        if self._task.async_val or not self._is_pipelining_enabled("new"):
            cause = "async" if self._task.async_val else "ANSIBLE_KEEP_REMOTE_FILES or this become method"
            raise AnsibleActionFail(
                f"Ansible would write the secret in {', '.join(secret)} to a file without encryption, because of {cause}. "
                "Remove that, or name a kubeconfig file that is not encrypted"
            )

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments for the module, with waits that fit into the task's timeout."""
        arguments: dict[str, Any] = json.loads(json.dumps(self._task.args, default=str))
        self._find_kubeconfig(arguments)
        if self._task.timeout:
            arguments.update(self._shortened(arguments, max(1, self._task.timeout - TIMEOUT_MARGIN)))
        return arguments

    def _shortened(self, arguments: Mapping[str, Any], seconds: int) -> dict[str, int]:
        """Return the options for waits, reduced so that their sum is at most ``seconds``."""
        spec, waits = self.operation.argument_spec, self.operation.waits
        texts = {name: str(arguments.get(name, spec[name]["default"])) for name in waits}
        known = {name: int(text) for name, text in texts.items() if text.isdigit()}
        if self._is_in_fleet:
            # Each wait may take the whole time, because a cluster that passes its deadline is a failure anyway.
            return {name: min(value, seconds) for name, value in known.items()}
        total = sum(waits[name] * value for name, value in known.items())
        return (
            known
            if total <= seconds
            else {name: max(1, value * seconds // total) for name, value in known.items()}
        )

    def _find_kubeconfig(self, arguments: dict[str, Any]) -> None:
        """Find a kubeconfig in files/ of the role or play, and decrypt an encrypted one in memory."""
        given = arguments.get("kubeconfig")
        if not isinstance(given, str) or not given or self._connection.transport != "local":
            return
        try:
            path = self._find_needle("files", expand(given))
            encrypted = contexts.is_encrypted(path)
        except (AnsibleError, CertflowError, OSError, ValueError):
            return  # a list of paths, or a missing or unreadable file, which the operation reports
        arguments["kubeconfig"] = path
        if encrypted:
            try:
                content = contexts.load(self._loader, path)
            except CertflowError as error:
                raise AnsibleActionFail(str(error)) from None
            arguments["kubeconfig"] = json.loads(json.dumps(content, default=str))

    def _kubeconfigs_from_here(self) -> dict[str, str]:
        """Return the kubeconfigs of the environment with absolute paths, because a module works in the folder of the play."""
        if self._connection.transport != "local":
            return {}
        here = os.getcwd()
        found = {}
        for name in contexts.ENVIRONMENT:
            value = os.environ.get(name, "")
            paths = [path for path in value.split(os.pathsep) if path]
            if paths and not is_content(value):
                found[name] = os.pathsep.join(_from_folder(here, path) for path in paths)
        return found

    def _execution_mode(self, variables: Mapping[str, Any]) -> str:
        """Return the mode for this task. Raises AnsibleActionFail if the forced mode is unknown or impossible."""
        wanted = str(self._templar.template(variables.get(MODE_VARIABLE, AUTO)))
        if wanted not in EXECUTION_MODES:
            raise AnsibleActionFail(
                f"{MODE_VARIABLE} is {wanted!r}. Set it to one of {', '.join(EXECUTION_MODES)}"
            )
        obstacle = self._obstacle(variables)
        if wanted == IN_PROCESS and obstacle:
            raise AnsibleActionFail(
                f"{MODE_VARIABLE} is {IN_PROCESS}, which is not possible here: {obstacle}"
            )
        mode = MODULE if wanted == MODULE or obstacle else IN_PROCESS
        reason = (
            f"{MODE_VARIABLE} sets it" if wanted != AUTO else obstacle or "same interpreter, local connection"
        )
        display.vv(f"certflow.kubernetes {self.operation.name}: execution mode {mode}: {reason}")
        return mode

    def _obstacle(self, variables: Mapping[str, Any]) -> str:
        """Return why the operation cannot run in this process, or ""."""
        if self._connection.transport != "local":
            return f"connection is {self._connection.transport}"
        if self._play_context.become or getattr(self._connection, "become", None):
            return "become is on"
        if self._task.async_val:
            return "the task is asynchronous"
        if sys.platform == "darwin":
            return "forked processes on macOS cannot look up proxies"
        interpreter = self._interpreter(variables)
        # Compare without realpath, because two virtual environments may share an interpreter and have different libraries.
        if os.path.abspath(interpreter or ".") != os.path.abspath(sys.executable):
            return f"ansible_python_interpreter is {interpreter or 'not set'}, Ansible runs under {sys.executable}"
        missing = missing_libraries()
        return f"{sys.executable} lacks {', '.join(missing)}" if missing else ""

    def _interpreter(self, variables: Mapping[str, Any]) -> str:
        delegated = variables.get("ansible_delegated_vars") or {}
        host = self._task.delegate_to
        value = (delegated.get(host, {}) if host else variables).get("ansible_python_interpreter")
        if value == OWN_INTERPRETER:  # the usual value, which costs each fork 2 ms to template
            value = variables.get("ansible_playbook_python", value)
        return str(self._templar.template(value)) if value else ""

    def _run_here(self, validation: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        parameters = validation.validated_parameters
        with progress_lines.show_progress(self._printer(variables), is_detailed=display.verbosity > 0):
            result = execute(
                self.operation,
                parameters,
                check_mode=bool(self._task.check_mode),
                check_cluster=self._check_cluster,
            )
        for both in validation._warnings:  # noqa: SLF001  # with the words of AnsibleModule
            text = f"Both option {both['option']} and its alias {both['alias']} are set."
            result["warnings"] = [text, *result.get("warnings", ())]
        return self._clean(json.loads(json.dumps(result, default=str)), parameters, validation)

    def _printer(self, variables: Mapping[str, Any], *, has_host: bool = True) -> Callable[[str], None]:
        """Return the function that prints a line of progress: the host and the text. It prints nothing with no_log."""
        start = f"{variables.get('inventory_hostname', '')}  " if has_host else ""

        def show(line: str) -> None:
            if not self._task.no_log:
                fleet_task.print_line(f"{start}{line}")

        return show

    def _refused(self, validation: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        text = validation.errors.msg
        if isinstance(validation.errors[0], UnsupportedError):
            text = f"Unsupported parameters for (certflow.kubernetes.{self.operation.name}) module: {text}"
        invocation = redaction.invocation(arguments, self.operation.hidden)
        answer = {
            "failed": True,
            "changed": False,
            "msg": text,
            "code": "invalid-input",
            "invocation": invocation,
        }
        return self._clean(answer, arguments, validation)

    def _clean(
        self, result: dict[str, Any], parameters: Mapping[str, Any], validation: Any
    ) -> dict[str, Any]:
        """Return the result without secrets."""
        known = set(validation._no_log_values)  # noqa: SLF001  # AnsibleModule uses them too
        redaction.protect(parameters, known)
        return redaction.mask_known(result, known)

    def _task_environment(self) -> dict[str, str]:
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        return {key: str(value) for key, value in environment.items()}


def _from_folder(folder: str, path: str) -> str:
    """Return a path of a program in a folder as one that is right everywhere. A home stays as it is written."""
    return path if path.startswith("~") else os.path.join(folder, path)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set the task's environment while the block runs, because a loop's next item reuses this process."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
