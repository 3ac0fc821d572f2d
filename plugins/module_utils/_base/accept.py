# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the option accept allows a task to do to the objects of others. Pure.

All modules have the same words. An item of the option is a word, or a dictionary of a word and the objects for which it counts. A
word is the key of a manager, ``manager:NAME`` for a field manager that has no row, OTHER_CONTENT, DOWNTIME, UNSEEN, or the id of
a hazard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CertflowError
from .object_managers import FIELD_MANAGER, MANAGERS, UNKNOWN
from .text import suggestion

#: Accepts a Secret with the content of another owner, who left no mark of a manager.
OTHER_CONTENT = "foreign-secret"
#: Accepts a restart of a workload that may leave no pod that answers, and that the API server refuses the requests of a webhook.
DOWNTIME = "downtime"
#: Confirms what no task can see before trust is removed from the object: the user knows what each machine serves.
UNSEEN = "unseen"
#: The words that must be limited to objects.
LIMITED = (UNSEEN,)
#: The words that may be limited to objects, and manager:NAME.
LIMITABLE = (*(row.key for row in MANAGERS if row.key != UNKNOWN), OTHER_CONTENT, DOWNTIME, *LIMITED)
#: The ids of the hazards with the handling "ask". A hazard counts for the whole cluster.
HAZARDS = ("hosted", "sidecars-at-v1beta1", "arguments-dropped")
#: Every word of the option, without manager:NAME.
WORDS = (*LIMITABLE, *HAZARDS)
#: The keys of managers whose snapshot controller this collection may upgrade, and of managers that install none.
UPGRADABLE = tuple(row.key for row in MANAGERS if row.key != UNKNOWN and (row.adopting or not row.upgrade))
#: The option in argument specs. A dictionary as an item cannot have choices there.
OPTION: dict[str, Any] = {"type": "list", "elements": "raw", "default": []}

_EVERY = ""
#: The kinds of objects -> the parts of their names: NAME, or NAMESPACE and NAME.
_NAMES: Mapping[str, int] = {
    **dict.fromkeys(
        (
            "APIService",
            "CertificateSigningRequest",
            "ClusterRole",
            "ClusterRoleBinding",
            "CustomResourceDefinition",
            "MutatingWebhookConfiguration",
            "Namespace",
            "ValidatingWebhookConfiguration",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "DaemonSet",
            "Deployment",
            "Pod",
            "PodDisruptionBudget",
            "ReplicaSet",
            "Role",
            "RoleBinding",
            "Secret",
            "Service",
            "ServiceAccount",
            "StatefulSet",
        ),
        2,
    ),
}


@dataclass(frozen=True)
class Consent:
    """The accepted words."""

    #: Pairs of a word and an object, "KIND/NAME" or "KIND/NAMESPACE/NAME", which is "" for every object.
    items: frozenset[tuple[str, str]] = frozenset()
    #: True if the task decided before that every object may be written.
    is_complete: bool = False

    def covers(self, word: str, target: object = "") -> bool:
        """Return True if the word is accepted for the object. target: its text is "KIND NAME" or "KIND NAMESPACE/NAME"."""
        place = str(target).replace(" ", "/", 1)
        return self.is_complete or not self.items.isdisjoint({(word, _EVERY), (word, place)})

    def is_limited_to_others(self, word: str, target: object) -> bool:
        """Return True if the word is accepted, but only for other objects."""
        return not self.covers(word, target) and any(word == accepted for accepted, _place in self.items)

    def field_managers(self, target: object) -> frozenset[str]:
        """Return the names of the field managers without a row that are accepted for the object."""
        names = (word for word in self._words_for(target) if word.startswith(FIELD_MANAGER))
        return frozenset(name[len(FIELD_MANAGER) :] for name in names)

    def has_managers(self, target: object) -> bool:
        """Return True if a manager is accepted for the object."""
        words = self._words_for(target)
        return self.is_complete or bool(self.field_managers(target)) or not words.isdisjoint(UPGRADABLE)

    def _words_for(self, target: object) -> frozenset[str]:
        return frozenset(word for word, _place in self.items if self.covers(word, target))


NOTHING = Consent()
#: For an object that was judged before, or that the collection wrote itself.
EVERYTHING = Consent(is_complete=True)


def parse(items: Iterable[Any]) -> Consent:
    """Return the consent of the option accept. Raises CertflowError for an unknown word, and for a wrong object."""
    return Consent(frozenset(pair for item in items for pair in _parse_item(item)))


def _parse_item(item: Any) -> Iterator[tuple[str, str]]:
    if isinstance(item, Mapping) and not item:
        raise _wrong("an empty dictionary", "Remove it, or name a word and its objects")
    pairs = item.items() if isinstance(item, Mapping) else [(item, _EVERY)]
    for word, places in pairs:
        is_field_manager = str(word).startswith(FIELD_MANAGER) and word != FIELD_MANAGER
        if word not in WORDS and not is_field_manager:
            remedy = f"Use these words: {', '.join(sorted(WORDS))}, {FIELD_MANAGER}NAME"
            raise _wrong(
                f"the item {word!r}, which is not one of its words", suggestion(str(word), WORDS) or remedy
            )
        if not isinstance(item, Mapping):
            if word in LIMITED:
                raise _wrong(
                    f"the word {word} without an object",
                    f"Set accept: [{{{word}: [KIND/NAME]}}] with the names of the objects",
                )
            yield word, _EVERY
            continue
        if word in HAZARDS:
            raise _wrong(f"objects for {word}, which counts for the whole cluster", f"Set accept: [{word}]")
        named: Iterable[Any] = places if isinstance(places, (list, tuple)) and places else [places]
        for place in named:
            kind, *names = place.split("/") if isinstance(place, str) else [""]
            if not all(names) or len(names) != _NAMES.get(kind):
                raise _wrong(
                    f"the object {place!r} for {word}, which is not KIND/NAME or KIND/NAMESPACE/NAME",
                    "Name the object like ValidatingWebhookConfiguration/example or Deployment/kube-system/example. "
                    f"The kinds are {', '.join(sorted(_NAMES))}",
                )
            yield word, place


def _wrong(cause: str, remedy: str) -> CertflowError:
    return CertflowError(f"the option accept has {cause}", remedy=remedy)
