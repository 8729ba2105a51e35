# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is printed: one object for each figure."""

import statistics


def figure(name, unit, ours, peer, against, digits=2, **more):
    """One line. against: what the peer is; ratio: ours / peer, None where there is no peer."""
    ratio = round(ours / peer, 3) if peer else None
    return {"figure": name, "unit": unit, "ours": _round(ours, digits), "peer": _round(peer, digits), "ratio": ratio,
            "against": against, **{key: _round(value, digits) for key, value in more.items()}}


def median(values):
    return statistics.median(values)


def spread(values):
    return [min(values), max(values)]


def percentile(values, part):
    """The value that this part (0 to 1) of all does not exceed, itself one of them."""
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def _round(value, digits):
    if isinstance(value, list):
        return [_round(one, digits) for one in value]
    return round(value, digits) if isinstance(value, float) else value
