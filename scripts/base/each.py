# Builds each commit of an exported branch by itself.
#
#     commit --> checked out --> configured --> built and linked
#                                          --> the tests that it adds run
#
# One build folder sees all commits, one after the other, so that Ninja builds
# what a commit changes.  A commit that uses what only a later commit declares
# does not compile, and one that calls what only a later commit defines does not
# link.  The compiler does not optimise, so that a series of a hundred commits
# takes an hour and not a day.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import subprocess
from pathlib import Path

import ninja
from term import Refusal, say

# Options of configure for a build that is done quickly.
QUICK = ['-Doptimization=0', '-Ddebug=false']

TESTS = ('tests/qtest', 'tests/unit')

FAULT = re.compile(r'.*(?:error:|undefined reference|multiple definition).*')


def output_of(branch, *arguments):
    return subprocess.run(['git', *arguments], cwd=branch, check=True,
                          text=True, capture_output=True).stdout


def added_tests(branch, since, until):
    """Names of the tests that the branch gets between two commits."""
    names = output_of(branch, 'diff', '--name-only', '--diff-filter=A', since,
                      until, '--', *TESTS).split()
    return {Path(name).stem for name in names
            if re.search(r'/(?:test-[^/]*|[^/]*-test)\.c$', name)}


def first_error(text):
    match = FAULT.search(text)
    lines = text.splitlines()
    return match[0].strip() if match else \
        lines[-1] if lines else 'Ninja says nothing'


def build(folder):
    """Build all that a plain "ninja" builds; a Refusal says what fails."""
    done = subprocess.run([ninja.find()], cwd=folder, env=ninja.environment(),
                          check=False, text=True, errors='replace',
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Refusal(first_error(done.stdout))


def first_commit(words):
    """The number in "each=N", or None if no commit is to be tried."""
    for word in words:
        name, _, number = word.partition('=')
        if name == 'each':
            if not re.fullmatch('[1-9][0-9]{0,5}', number):
                raise Refusal(f'EACH={number}: must be the number of the '
                              'commit to begin with, such as 1')
            return int(number)
    return None


def check(branch, try_commit, first=1):
    """Have each commit after the tag "base" tried, from this one on.

    try_commit() gets the names of the tests that a commit adds.  If it raises a
    Refusal, the commit is named in front of its message.
    """
    last = output_of(branch, 'symbolic-ref', '--short', 'HEAD').strip()
    log = output_of(branch, 'log', '--reverse', '--format=%h %s',
                    'base..').splitlines()
    if first > len(log):
        raise Refusal(f'EACH={first}: the branch has {len(log)} commits')
    try:
        for number, line in enumerate(log[first - 1:], first):
            commit = line.split()[0]
            output_of(branch, 'checkout', '-q', commit)
            try:
                try_commit(added_tests(branch, f'{commit}~', commit))
            except Refusal as refusal:
                raise Refusal(f'commit {line}: {refusal}') from None
            say(f'[{number}/{len(log)}] {line}')
    finally:
        output_of(branch, 'checkout', '-q', last)
