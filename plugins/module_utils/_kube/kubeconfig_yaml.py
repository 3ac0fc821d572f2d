# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the YAML of a kubeconfig, with limits for its bytes and for its expanded aliases.

A few hundred bytes of nested aliases expand to gigabytes of text, and PyYAML expands merge keys (<<) while it constructs
objects. This file counts both on the graph of nodes, where a repeated node is still one node.
"""

from __future__ import annotations

import contextlib
from typing import Any

from .errors import KubeconfigError

with contextlib.suppress(ImportError):  # reported by _run, with the interpreter's path
    import yaml

# A kubeconfig has about 5 KB for each cluster.
MOST_BYTES = 16 * 2**20
# A document without aliases has fewer nodes and characters than this.
MOST_EXPANDED = 4 * MOST_BYTES


def load(text: str, where: str) -> Any:
    """Return the content of the only YAML document of ``text``, None if it is empty.

    where: the source, for the error. Raises KubeconfigError, which does not quote the text.
    """
    if len(text) > MOST_BYTES:
        raise too_large(where)
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) <= MOST_EXPANDED:
            return loader.construct_document(node)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise KubeconfigError(f"{where} is not valid YAML{line}", remedy="repair the file") from None
    except Exception:  # explicit tags and deep nesting fail in many ways
        raise KubeconfigError(f"{where} is not valid YAML", remedy="repair the file") from None
    finally:
        if loader is not None:
            loader.dispose()
    raise KubeconfigError(
        f"{where} has aliases that expand to too much text", remedy="write it without aliases"
    )


def too_large(where: str) -> KubeconfigError:
    """Return the error for a file above the limit."""
    return KubeconfigError(
        f"{where} has more than {MOST_BYTES // 2**20} MiB", remedy="use a file with fewer entries"
    )


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Return the number of nodes and characters below ``node``. Each alias counts as the nodes that it repeats."""
    number = id(node)
    if number not in known:
        known[number] = MOST_EXPANDED + 1  # too large for an alias of its own ancestor
        known[number] = 1 + sum(_expanded(child, known) for child in _children(node)) + _characters(node)
    return known[number]


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _characters(node: Any) -> int:
    return len(node.value) if isinstance(node, yaml.ScalarNode) else 0
