# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables in docs/guests.rst, which the tests fill.

The tables of a driver stand between two comments:

    .. from tests/drivers: NAME

    ===== =====
    ...
    .. end of NAME

A test makes the text anew from what it has seen and compares.  If DRIVERS_TABLE
is set in the environment, as by 'make drivers-table', it writes it instead.
"""

import difflib
import fcntl
import os
import re
import textwrap
from itertools import zip_longest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / 'docs/guests.rst'


def simple_table(head, rows):
    """A simple table of reStructuredText.  A line break divides a head."""
    heads = list(zip_longest(*(cell.split('\n') for cell in head),
                             fillvalue=''))
    cells = [*heads, *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    line = ' '.join('=' * width for width in widths)
    text = [' '.join(cell.ljust(width) for cell, width in zip(row, widths))
            .rstrip() for row in cells]
    return '\n'.join([line, *text[:len(heads)], line, *text[len(heads):],
                      line])


def tables(heads, rows):
    """
    A table for each list of heads, so that all of them fit in 80 columns.  Each
    table begins with the first column of @rows, which are the disks.
    """
    texts = []
    at = 1
    for head in heads:
        end = at + len(head)
        texts.append(simple_table(['disk', *head],
                                  [[row[0], *row[at:end]] for row in rows]))
        at = end
    return '\n\n'.join(texts)


def features(names):
    """A sentence on the features of the first row."""
    text = f"Features in the first row: {', '.join(names) or 'none'}."
    return textwrap.fill(text, 80)


def changed(before, now):
    """'+ RING_PACKED, - MQ': how features differ from @before."""
    words = [f'+ {name}' for name in now if name not in before]
    words += [f'- {name}' for name in before if name not in now]
    return ', '.join(words) or 'the same'


def pattern(name):
    return re.compile(rf'(\.\. from tests/drivers: {re.escape(name)}\n\n)'
                      rf'(.*?)(\n\n\.\. end of {re.escape(name)}\n)', re.S)


class Differs(AssertionError):
    """The page says otherwise than the test has seen; details: the lines."""

    def __init__(self, name, said, seen):
        super().__init__(f'{PAGE.name}: {name} behaves otherwise now; '
                         'make drivers-table writes what it does')
        self.details = list(difflib.unified_diff(
            said.splitlines(), seen.splitlines(), PAGE.name, 'seen',
            lineterm='', n=0))


def check(name, text):
    """The page has @text at the place of @name; else it is written, or this
    raises Differs."""
    with open(PAGE, 'r+', encoding='utf-8') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = file.read()
        found = pattern(name).search(whole)
        if not found:
            raise AssertionError(f'{PAGE.name} has no place for {name}')
        if found[2] == text:
            return
        if not os.environ.get('DRIVERS_TABLE'):
            raise Differs(name, found[2], text)
        file.seek(0)
        file.write(whole[:found.start(2)] + text + whole[found.end(2):])
        file.truncate()
