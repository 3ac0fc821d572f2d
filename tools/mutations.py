# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change one expression of a pure file at a time, and see if the unit tests of its room notice it.

`python3 -m tools.ci.enter dev -m tools.mutations --output before.json` draws a sample and runs it. With `--sample before.json`
it runs the same sample again, in the files that hold these expressions now. With `--room _base --room _fleet` the sample is drawn
from these rooms only. Sentences are not changed, because
tests find a failure by its code. All changes are made in a copy of the tree.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

from tools.ci import tree

ROOTS = ("plugins/module_utils", "plugins/plugin_utils")
COUNT, SEED = 200, 26
#: A mutation that makes an endless loop is noticed by its time.
TIMEOUT = 180
COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Imported before the first fork.
LIBRARIES = (
    "pytest",
    "_pytest.assertion.rewrite",
    "cryptography.x509",
    "hypothesis",
    "kubernetes.client",
    "ansible.constants",
    "yaml",
    "jinja2",
)
ARGUMENTS = ("-x", "-q", "-W", "ignore::pytest.PytestAssertRewriteWarning")
NOTICED, UNNOTICED, GONE = "noticed", "unnoticed", "gone"


@dataclass(frozen=True)
class Mutation:
    """One changed expression."""

    file: str
    #: Dotted name of the function or class, empty at the top of the file.
    scope: str
    before: str
    after: str
    #: The number of equal mutations before it in its scope.
    index: int
    line: int = 0
    outcome: str = ""

    def same_as(self, other: Mutation) -> bool:
        """Return True if both change the same expression. A function may have moved to any file, a table only within its folder."""
        is_near = bool(self.scope) or Path(self.file).parent == Path(other.file).parent
        return is_near and (self.scope, self.before, self.after, self.index) == (
            other.scope,
            other.before,
            other.after,
            other.index,
        )


def changed(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that may replace an expression."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Name) and node.id in FUNCTIONS:
        yield ast.Name(FUNCTIONS[node.id])
    elif isinstance(node, ast.Constant):
        yield from changed_constant(node.value)


def changed_constant(value: object) -> Iterator[ast.expr]:
    """Yield the constants that may replace a constant. Sentences and addresses of documents have none."""
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and re.fullmatch(r"[^\s]{2,}", value) and "://" not in value:
        yield ast.Constant(f"{value}X")


def places(node: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.AST, list[ast.expr]]]:
    """Yield scope, expression and replacements. Annotations, decorators and docstrings are left out."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, (ast.JoinedStr, ast.Import, ast.ImportFrom)) or not isinstance(
                child, ast.AST
            ):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            replacements = list(changed(child))
            if name == "test" and isinstance(node, ast.If) and not replacements:
                replacements = [ast.UnaryOp(ast.Not(), child)]  # type: ignore[arg-type]
            if isinstance(node, ast.Return) and not isinstance(child, ast.Constant):
                replacements.append(ast.Constant(None))
            if replacements:
                yield scope, child, replacements
            inner = getattr(child, "name", "") if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else ""
            yield from places(child, ".".join(filter(None, (scope, inner))))


def mutations_of(text: str, file: str) -> Iterator[tuple[Mutation, str]]:
    """Yield each mutation of a file with the changed text of the file."""
    seen: Counter[tuple[str, str, str]] = Counter()
    source = text.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for scope, node, replacements in places(ast.parse(text)):
        begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        for replacement in replacements:
            before, after = ast.unparse(node), ast.unparse(replacement)
            key = (scope, before, after)
            mutation = Mutation(file, scope, before, after, seen[key], node.lineno)  # type: ignore[attr-defined]
            seen[key] += 1
            yield mutation, (source[:begin] + f"({after})".encode() + source[end:]).decode()


def is_pure(path: Path) -> bool:
    """Return True if the docstring of a file says that it sends no request and decides over plain data."""
    return bool(re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or ""))


def population(root: Path, rooms: Sequence[str] = ()) -> dict[Mutation, str]:
    """Return all mutations of the pure files of some rooms below `root`, each with the changed text. No room means all rooms."""
    folders = [root / folder / room for folder in ROOTS for room in rooms or ("",)]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py") if is_pure(path))
    return {
        mutation: text
        for path in paths
        for mutation, text in mutations_of(path.read_text(), str(path.relative_to(root)))
    }


def sample_again(earlier: list[Mutation], now: Mapping[Mutation, str]) -> list[Mutation]:
    """Return an earlier sample as it is in the tree of now. An expression that is gone keeps its old place."""
    result = []
    for old in earlier:
        same = [mutation for mutation in now if mutation.same_as(old)]
        same.sort(key=lambda mutation: (mutation.file != old.file, mutation.file))
        result.append(same[0] if same else replace(old, outcome=GONE))
    return result


def tests_for(root: Path, file: str) -> list[str]:
    """Return the tests of a file, the quickest first: its own, those of its folder, those that import it, and those of its
    room."""
    path = Path("tests/unit") / file
    own = path.with_name(f"test_{path.stem.lstrip('_')}.py")
    is_room = path.parts[4] == path.name
    folders = () if is_room else (path.parent, Path(*path.parts[:5]))
    name = re.compile(
        rf"^(from .*|    )\b{path.stem}\b( import|,$)|^(from|import) .*import .*\b{path.stem}\b", re.MULTILINE
    )
    importing = [
        test.relative_to(root)
        for test in (root / "tests/unit").rglob("test_*.py")
        if name.search(test.read_text())
    ]
    tests = dict.fromkeys((own, *folders[:1], *sorted(importing), *folders[1:]))
    return [str(test) for test in tests if (root / test).exists()]


class Runner:
    """Runs unit tests in a copy of the tree. Each run is a fork, so that the libraries are imported only once."""

    def __init__(self) -> None:
        for name in LIBRARIES:
            importlib.import_module(name)
        self.root = tree.copy("mutations")

    def passes(self, tests: list[str], timeout: float = TIMEOUT) -> bool:
        """Return True if the tests pass in time."""
        child = os.fork()
        if not child:
            self._run(tests)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _run(self, tests: list[str]) -> NoReturn:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tools", "tests")]:
            del sys.modules[name]
        paths = [str(self.root.parents[2]), str(self.root)]
        sys.path[:0] = paths
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        os.chdir(self.root)
        code = 1
        try:
            code = int(sys.modules["pytest"].main([*ARGUMENTS, *tests]))
        finally:
            os._exit(code)

    def outcome(self, mutation: Mutation, text: str) -> str:
        """Return whether the tests notice a mutation."""
        path = self.root / mutation.file
        before = path.read_text()
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        path.write_text(text)
        try:
            passes = self.passes(tests_for(self.root, mutation.file))
        finally:
            path.write_text(before)
        return UNNOTICED if passes else NOTICED


def main() -> None:
    """Draw or read the sample, run it, and write the outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT, help=f"size of the sample, {COUNT} by default")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the sample, {SEED} by default")
    parser.add_argument("--room", action="append", default=[], help="room of the sample, all by default")
    parser.add_argument("--sample", type=Path, help="outcomes of an earlier run, whose sample is run again")
    parser.add_argument("--output", type=Path, required=True, help="file for the outcomes, as JSON")
    options = parser.parse_args()
    os.nice(5)
    runner = Runner()
    now = population(runner.root, options.room)
    if options.sample:
        earlier = [Mutation(**row) for row in json.loads(options.sample.read_text())]
        sample = sample_again(earlier, now)
    else:
        sample = random.Random(options.seed).sample(list(now), min(options.count, len(now)))
    if not runner.passes(
        sorted({test for mutation in sample for test in tests_for(runner.root, mutation.file)}), 1800
    ):
        sys.exit("the tests fail without a mutation")
    # A compiled file has the time of its source in whole seconds, which does not tell two mutations apart.
    sys.dont_write_bytecode = True
    done = []
    for mutation in sorted(sample, key=lambda mutation: (mutation.file, mutation.line)):
        outcome = mutation.outcome or runner.outcome(mutation, now[mutation])
        done.append(replace(mutation, outcome=outcome))
        options.output.write_text(json.dumps([asdict(row) for row in done], indent=1) + "\n")
        if outcome != NOTICED:
            print(
                f"{mutation.file}:{mutation.line}: {mutation.before} -> {mutation.after}: {outcome}",
                flush=True,
            )
    counts = Counter(mutation.outcome for mutation in done)
    ran = counts[NOTICED] + counts[UNNOTICED]
    print(
        f"{counts[NOTICED]} of {ran} noticed ({100 * counts[NOTICED] / max(ran, 1):.1f} %), {counts[GONE]} gone"
    )


if __name__ == "__main__":
    main()
