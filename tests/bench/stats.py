# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparing two programs on a machine that has other things to do.

The runs alternate (A B, then B A, and so on), each pair gives one ratio, and
the median of the ratios is the result: what disturbs both runs of a pair
cancels, what disturbs one makes an outlier.
"""

import dataclasses
import statistics


@dataclasses.dataclass
class Ratio:
    """Of a figure of ours to the same of stock."""
    stock: float        # medians
    ours: float
    median: float       # of the pairs' ratios
    low: float
    high: float
    stock_least: float  # of all windows: what was disturbed least
    ours_least: float

    def __str__(self):
        return f'{self.median:5.2f} ({self.low:.2f}..{self.high:.2f})'

    def as_json(self):
        return {name: round(value, 4)
                for name, value in dataclasses.asdict(self).items()}


def ratio(pairs):
    """pairs: [(stock, ours), ...] of positive figures; None if there is
    nothing to divide by."""
    quotients = [ours / stock for stock, ours in pairs if stock]
    if not quotients:
        return None
    return Ratio(statistics.median(p[0] for p in pairs),
                 statistics.median(p[1] for p in pairs),
                 statistics.median(quotients), min(quotients),
                 max(quotients), min(p[0] for p in pairs),
                 min(p[1] for p in pairs))


def ratios(pairs):
    """pairs: [(stock, ours), ...] of dicts with the same keys; returns a
    Ratio for each key."""
    return {key: ratio([(a[key], b[key]) for a, b in pairs])
            for key in pairs[0][0]}


def alternate(n, stock, ours):
    """Call both n times, taking turns in going first; returns the pairs."""
    pairs = []
    for i in range(n):
        if i % 2:
            second = ours()
            pairs.append((stock(), second))
        else:
            first = stock()
            pairs.append((first, ours()))
    return pairs
