from __future__ import annotations


def lines(plan):
    return [s.title for h in plan.hops for s in h.steps]


def markdown(plan):
    return ""
