# QEMU's scripts/checkpatch.pl over each commit of an exported branch.
#
#     commit --> checkpatch.pl --> complaints --> not in ACCEPTED: refused
#
# docs/overlay.rst has the reasons for what is accepted.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from term import Refusal, say

# What a complaint says, and the files of which it may say that.
ACCEPTED = (
    ('added, moved or deleted file(s)', ''),
    ('architecture specific defines', 'include/qemu/uninitialized.h'),
    ('line over ', 'scripts/meson-buildoptions.sh'),
    ('Macros with complex values', 'include/hw/block/queue-iothreads.h'),
    ('Macros with complex values', 'include/hw/block/stats-intervals.h'),
)

COMPLAINT = re.compile(r'^(?:ERROR|WARNING): (.*)'
                       r'(?:\n#\d+: FILE: (.*):(\d+):)?', re.M)


def complaints(text):
    """[(what, file or '', line or '')] of what checkpatch.pl prints"""
    return COMPLAINT.findall(text)


def accepted(what, name):
    """The entry of ACCEPTED that covers a complaint, or None."""
    return next((entry for entry in ACCEPTED if entry[0] in what
                 and fnmatch.fnmatch(name, entry[1])), None)


def check_commit(branch, commit):
    patch = subprocess.run(['git', 'format-patch', '-1', '--stdout', commit],
                           cwd=branch, check=True, capture_output=True).stdout
    try:
        done = subprocess.run(['perl', 'scripts/checkpatch.pl', '-q', '-'],
                              cwd=branch, input=patch, capture_output=True,
                              check=False)
    except FileNotFoundError:
        raise Refusal('the program perl is missing') from None
    text = done.stdout.decode(errors='replace')
    found = complaints(text)
    if done.returncode and not found:
        raise Refusal(f'checkpatch.pl fails at {commit}: '
                      f'{done.stderr.decode(errors="replace").strip()}')
    return found


def check(branch, whole, jobs=os.cpu_count()):
    """Check the commits after the tag "base"; a Refusal says how many faults
    were found.  If the branch is the @whole one, on the base of base.lock,
    every entry of ACCEPTED has to match a complaint."""
    log = subprocess.run(['git', 'log', '--reverse', '--format=%h %s',
                          'base..'], cwd=branch, check=True, text=True,
                         capture_output=True).stdout.splitlines()
    unused, bad = set(ACCEPTED), 0
    with ThreadPoolExecutor(jobs) as pool:
        for line, found in zip(log, pool.map(
                lambda line: check_commit(branch, line.split()[0]), log)):
            for what, name, number in found:
                entry = accepted(what, name)
                unused.discard(entry)
                if not entry:
                    place = f'{name}:{number}: ' if name else ''
                    say(f'{line}: {place}{what}')
                    bad += 1
    if bad:
        raise Refusal(f'checkpatch.pl complains {bad} times')
    if whole and unused:
        raise Refusal('checkpatch.py accepts what checkpatch.pl does not say: '
                      f'{sorted(unused)[0]}')
    say(f'checkpatch.pl accepts {len(log)} commits')
