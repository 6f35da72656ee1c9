# Choosing, building and running the tests of 'make check'.
#
# Our tests have suites that begin with 'mq-'.  tests/base/check.list names
# tests of the base, and tests/base/full.list names more of them for check-full.
# Each line has a pattern of names.  A '!' before it leaves out the tests that
# it matches, and "@SERIES" behind it says that only bases of that series have
# them.  All tests run in one 'meson test', whose summary comes last.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import json
import os
import re
import subprocess
from collections import Counter

import ninja
from layout import REPO
from term import Refusal, say

LISTS = REPO / 'tests/base'

# Suites of ours that only 'make check-full' runs; for tests in STOCK the
# untouched base has to be built, too.
STOCK = 'mq-stock'
LONG = {'mq-full', STOCK}

GOOD = ('OK', 'EXPECTEDFAIL')
BAD = ('FAIL', 'TIMEOUT', 'ERROR', 'UNEXPECTEDPASS', 'INTERRUPT')


def read_json(layout, name):
    path = layout.qemu / 'meson-info' / f'intro-{name}.json'
    return json.loads(path.read_text())


def patterns(name, series, lists=LISTS):
    lines = (line.split('#')[0].split()
             for line in (lists / name).read_text().splitlines())
    return [words[0] for words in lines
            if words and words[1:] in ([], [f'@{series}'])]


def suites(test):
    return {suite.split(':')[-1] for suite in test['suite']}


def choose(tests, full, series):
    """
    The tests to run with a base of @series; a pattern that names none is a
    mistake.
    """
    chosen = []
    for test in tests:
        ours = any(suite.startswith('mq-') for suite in suites(test))
        if ours and (full or not LONG & suites(test)):
            chosen.append(test)
    lists = patterns('check.list', series)
    if full:
        lists += patterns('full.list', series)
    dropped = [pattern[1:] for pattern in lists if pattern.startswith('!')]
    for pattern in (pattern.lstrip('!') for pattern in lists):
        found = [test for test in tests
                 if fnmatch.fnmatch(test['name'], pattern)]
        if not found:
            raise Refusal(f'tests/base: no test is called {pattern}')
        if pattern not in dropped:
            chosen += [test for test in found if test not in chosen]
    return [test for test in chosen
            if not any(fnmatch.fnmatch(test['name'], pattern)
                       for pattern in dropped)]


def choose_named(tests, names):
    """The tests that a user asked for by name."""
    chosen = [test for test in tests
              if any(fnmatch.fnmatch(test['name'], name) for name in names)]
    if not chosen:
        raise Refusal(f'no test is called {" ".join(names)}')
    return chosen


def outputs(layout, target):
    """A target's files, by the names that Ninja has for them."""
    return [os.path.relpath(path, layout.qemu.resolve())
            for path in target['filename']]


def ninja_targets(layout, tests):
    """What has to be built for them."""
    wanted = {ident for test in tests for ident in test['depends']}
    return [name for target in read_json(layout, 'targets')
            if target['id'] in wanted for name in outputs(layout, target)]


def need_stock(tests):
    return any(STOCK in suites(test) for test in tests)


def build(layout, choose_from):
    """Build the tests that are chosen and return them; None if that failed."""
    ninja.regenerate(layout)
    chosen = choose_from(read_json(layout, 'tests'))
    targets = ninja_targets(layout, chosen)
    return chosen if ninja.build(layout.qemu, targets) else None


def run(layout, tests, patience):
    """
    Run tests, each with `patience` times its time limit; true if none failed.
    """
    (layout.qemu / 'meson-logs/testlog.json').unlink(missing_ok=True)
    say(f'{len(tests)} tests')
    # A plain run leaves out the base's slow suites; suites that are named run.
    argv = [layout.qemu / 'pyvenv/bin/meson', 'test', '--no-rebuild',
            '--print-errorlogs', '-t', str(patience)]
    for suite in sorted({suite for test in tests for suite in test['suite']}):
        argv += ['--suite', suite]
    argv += [test['name'] for test in tests]
    env = {name: value for name, value in os.environ.items()
           if name != 'PYTHONPATH'}
    done = subprocess.run(argv, cwd=layout.qemu, env=env, check=False)
    return done.returncode == 0


def records(layout):
    """What Meson notes of each test of the last run."""
    try:
        with open(layout.qemu / 'meson-logs/testlog.json',
                  encoding='utf-8') as log:
            return [json.loads(line) for line in log]
    except FileNotFoundError:
        return []


def skips(layout):
    """
    How often a part of a test of ours was skipped in the last run, by reason.
    Meson's summary does not say which tests ran only in part.
    """
    reasons = Counter()
    for record in records(layout):
        if re.match(r'[^/]*\bmq-', record['name']):
            reasons.update(re.findall(r'^ok .* # SKIP (.*)$',
                                      record.get('stdout', ''), re.M))
    return reasons


def count(layout):
    """(passed, failed, other) of the last run, from Meson's own record."""
    results = Counter(record['result'] for record in records(layout))
    passed = sum(results[name] for name in GOOD)
    failed = sum(results[name] for name in BAD)
    return passed, failed, sum(results.values()) - passed - failed
