# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions and atomic instructions per request, by function.

QEMU runs under callgrind with --collect-bus=yes, which counts every atomic
("global bus") instruction, once with few requests and once with more.  The
difference is what the further requests cost: starting, connecting and quitting
cancel out.  Only the IOThreads count, and they never poll (poll-max-ns=0), so
that the figures are the same in every run, on a busy machine too.
"""

import glob
import os
import re
import shutil
from collections import Counter

from qemu import BenchError

# What both kinds of names look like in a callgrind file: (7) or (7) name
_NAME = re.compile(r'\((\d+)\)(?: (.*))?$')
_SUFFIX = re.compile(r"(\.(isra|constprop|part|cold|lto_priv)(\.\d+)?)+$|'\d+$")


def valgrind_command(folder):
    """The command to put before QEMU's; results go to @folder."""
    valgrind = shutil.which('valgrind')
    if valgrind is None:
        raise BenchError('valgrind is missing: install the Debian package '
                         '"valgrind"')
    return [valgrind, '--tool=callgrind', '--collect-bus=yes',
            '--separate-threads=yes', '--fair-sched=yes',
            f'--callgrind-out-file={folder}/callgrind.out',
            f'--log-file={folder}/valgrind.log']


class Profile:
    """Self cost by function: instructions in .ir, atomics in .ge."""

    def __init__(self):
        self.ir = Counter()
        self.ge = Counter()

    def add(self, other, sign=1):
        for mine, theirs in ((self.ir, other.ir), (self.ge, other.ge)):
            for name, cost in theirs.items():
                mine[name] += sign * cost

    def total(self):
        """(instructions, atomics)"""
        return sum(self.ir.values()), sum(self.ge.values())


def read_profile(path):
    """Parse one callgrind file, that of one thread."""
    profile = Profile()
    names = {}
    function = None
    columns = {}
    positions = 1
    called = False
    with open(path) as f:
        for line in f:
            first = line[:1]
            if first.isdigit() or first in '+-*':
                if called:          # the cost of a call belongs to the callee
                    called = False
                    continue
                cost = line.split()[positions:]
                for column, counter in columns.items():
                    if column < len(cost):
                        counter[function] += int(cost[column])
            elif line.startswith('fn='):
                match = _NAME.match(line[3:].rstrip())
                if match[2] is not None:
                    names[match[1]] = _SUFFIX.sub('', match[2])
                function = names[match[1]]
            elif line.startswith('cfn='):
                match = _NAME.match(line[4:].rstrip())
                if match[2] is not None:
                    names[match[1]] = _SUFFIX.sub('', match[2])
            elif line.startswith('calls='):
                called = True
            elif line.startswith('events:'):
                events = line.split()[1:]
                if 'Ge' not in events:
                    raise BenchError(f'{path}: no count of atomics')
                columns = {events.index('Ir'): profile.ir,
                           events.index('Ge'): profile.ge}
            elif line.startswith('positions:'):
                positions = len(line.split()) - 1
    return profile


def read_iothreads(folder):
    """Parse what a run left in @folder: the IOThreads added up."""
    total = Profile()
    found = 0
    for path in glob.glob(os.path.join(folder, 'callgrind.out-*')):
        profile = read_profile(path)
        if profile.ir.get('iothread_run'):
            total.add(profile)
            found += 1
    if not found:
        raise BenchError(f'callgrind left no IOThread\'s profile in {folder}')
    return total


class Cost:
    """What one request costs, from two profiles of different length."""

    def __init__(self, short, long, requests):
        """requests: how many more the long run has done."""
        difference = Profile()
        difference.add(long)
        difference.add(short, -1)
        instructions, atomics = difference.total()
        self.instructions = instructions / requests
        self.atomics = atomics / requests
        self.functions = sorted(
            ((name, ir / requests, difference.ge[name] / requests)
             for name, ir in difference.ir.items()),
            key=lambda row: -row[1])

    def as_json(self):
        return {'instructions': round(self.instructions, 1),
                'atomics': round(self.atomics, 2),
                'functions': [
                    {'name': name, 'instructions': round(ir, 1),
                     'atomics': round(ge, 2)}
                    for name, ir, ge in self.functions
                    if ir >= 0.5 or ge >= 0.005]}

    def table(self, rows=40):
        """The dearest functions, as lines of text."""
        atomic = sorted(self.functions, key=lambda row: -row[2])
        yield f'{self.instructions:9.1f} instructions a request'
        for name, ir, ge in self.functions[:rows]:
            yield f'{ir:9.1f}  {ge:6.2f}  {name}'
        yield f'{self.atomics:9.2f} atomics a request'
        for name, ir, ge in atomic[:rows]:
            if ge >= 0.005:
                yield f'{ir:9.1f}  {ge:6.2f}  {name}'
