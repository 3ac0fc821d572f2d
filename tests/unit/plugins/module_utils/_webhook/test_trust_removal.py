# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which trust may go, by what the endpoints serve now and may serve later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import trust_removal
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_faults
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import webhook_endpoints
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)

from tests.support.certificates.authority import DAY, NOW, Issued, authority
from tests.unit.plugins.module_utils._audit.world import config, leaf, served, silent

pytestmark = pytest.mark.quick

OLD, NEW = authority("old", not_before=NOW - 90 * DAY), authority("new", not_before=NOW - 90 * DAY)
BOTH = OLD.pem + NEW.pem
SERVED, UNSEEN, GOES = "served", "unseen", ""


def at(chain: ServedChain, state: str = webhook_endpoints.READY, **fields: Any) -> ServedChain:
    return replace(chain, endpoint=replace(chain.endpoint, state=state, **fields))


def by(ca: Issued) -> ServedChain:
    return served(leaf(ca))


WELL, LATE = by(NEW), by(OLD)
NOT_READY, TERMINATING = webhook_endpoints.NOT_READY, webhook_endpoints.TERMINATING
#: The chains of all endpoints, the options, and what keeps the CA.
CASES: list[tuple[list[ServedChain], dict[str, Any], str]] = [
    ([WELL], {}, GOES),
    ([WELL, LATE], {}, SERVED),
    ([WELL, at(LATE, NOT_READY)], {}, SERVED),
    ([WELL, at(LATE, TERMINATING)], {}, SERVED),
    ([WELL, at(LATE, NOT_READY)], {"is_confirmed": True}, SERVED),
    ([WELL, at(silent(), NOT_READY)], {}, UNSEEN),
    ([WELL, at(silent(), NOT_READY)], {"is_confirmed": True}, GOES),
    ([WELL, at(silent(fault=call_faults.REFUSED), TERMINATING)], {}, GOES),
    ([WELL, at(silent(fault=call_faults.HANDSHAKE_FAILS), TERMINATING)], {}, UNSEEN),
    ([WELL, at(silent(is_blind=True), TERMINATING)], {}, UNSEEN),
    ([at(WELL, is_outside=True)], {}, UNSEEN),
    ([at(WELL, is_outside=True)], {"is_confirmed": True}, GOES),
    ([], {}, UNSEEN),
    ([], {"is_confirmed": True}, GOES),
    ([WELL], {"unread": 1}, UNSEEN),
    ([LATE], {"removed": authority("expired", not_after=NOW - DAY)}, GOES),
    ([WELL], {"was_verified": False}, GOES),
    ([WELL, at(LATE, NOT_READY)], {"was_verified": False}, SERVED),
    ([by(authority("stranger"))], {}, SERVED),  # the API server refuses it, before and after
    ([by(authority("stranger"))], {"only_losses": True}, GOES),
]

#: The chains of all endpoints, and the states of those that keep the CA.
STATES: list[tuple[list[ServedChain], set[str]]] = [
    ([], set()),
    ([WELL, at(LATE, TERMINATING)], {TERMINATING}),
    ([at(LATE, TERMINATING), LATE], {TERMINATING, webhook_endpoints.READY}),
    ([WELL, at(silent(is_blind=True), TERMINATING)], {TERMINATING}),
    ([WELL, at(silent(is_blind=True), TERMINATING), at(silent(), NOT_READY)], {TERMINATING, NOT_READY}),
]


@pytest.mark.parametrize(("chains", "options", "expected"), CASES)
def test_what_keeps_a_ca(chains: list[ServedChain], options: dict[str, Any], expected: str) -> None:
    options = dict(options)
    removed = options.pop("removed", OLD)
    about = {key: options.pop(key) for key in ("unread",) if key in options}
    serves = trust_removal.serving(chains, "no endpoint", **about)
    going = bundle_content.certificates(removed.pem)
    hold = trust_removal.find_hold(config(BOTH), NEW.pem, going, serves, NOW, **options)
    kept = GOES if hold is None else SERVED if hold.served else UNSEEN
    assert kept == expected
    if hold and kept == UNSEEN:
        assert hold.until == OLD.certificate.not_valid_after_utc + bundle_content.LONGEST_DELAY


def test_trust_ends_when_both_clocks_say_so() -> None:
    """The API server that answers says that the CA has expired. By the clock of another one it is valid."""
    end, serves = OLD.certificate.not_valid_after_utc, trust_removal.serving([LATE])
    going = bundle_content.certificates(OLD.pem)
    ahead = end + 2 * DAY
    assert trust_removal.find_hold(config(BOTH), NEW.pem, going, serves, ahead) is None
    earlier = LATE.certificate.not_after - DAY if LATE.certificate else NOW
    hold = trust_removal.find_hold(config(BOTH), NEW.pem, going, serves, ahead, earlier=earlier)
    assert hold is not None
    assert hold.served == LATE


def test_a_certificate_that_is_not_valid_by_the_earlier_clock_holds_nothing() -> None:
    """An API server with that clock refuses it with and without the old CA."""
    going, serves = bundle_content.certificates(OLD.pem), trust_removal.serving([WELL])
    earlier = NOW - 80 * DAY
    assert WELL.certificate is not None
    assert earlier < WELL.certificate.not_before
    assert trust_removal.find_hold(config(BOTH), NEW.pem, going, serves, NOW, earlier=earlier) is None


@pytest.mark.parametrize(("chains", "states"), STATES)
def test_the_states_of_the_endpoints_that_keep_a_ca(chains: list[ServedChain], states: set[str]) -> None:
    going, serves = bundle_content.certificates(OLD.pem), trust_removal.serving(chains)
    hold = trust_removal.find_hold(config(BOTH), NEW.pem, going, serves, NOW, only_losses=True)
    assert hold is not None
    assert hold.states == states
    assert not hold.served or len(hold.evidence) == len(states)
