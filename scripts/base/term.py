# Messages of the programs in this folder, and their way to give up.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import subprocess
import sys


class Refusal(Exception):
    """The one line that a user gets instead of a result."""


def say(line):
    print(f'qemu-mq: {line}', flush=True)


def tell_refusal(refusal):
    print(f'qemu-mq: {refusal}', file=sys.stderr, flush=True)


def run_logged(argv, log, **kwargs):
    """
    Run a command with all that it prints in file `log`; true if it succeeded.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'ab') as out:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.STDOUT, check=False,
                                  **kwargs)
        except FileNotFoundError:
            raise Refusal(f'the program {argv[0]} is missing') from None
    return done.returncode == 0


def last_line(log, *marks):
    """The last line of a log that begins with one of `marks`, or ''."""
    found = ''
    with open(log, encoding='utf-8', errors='replace') as lines:
        for line in lines:
            if line.startswith(marks):
                found = line.strip()
    return found


def meson_error(log):
    """What Meson or a configure script gave as its reason, or ''."""
    wanted = ''
    with open(log, encoding='utf-8', errors='replace') as lines:
        for line in lines:
            match = re.search(r'fallback subproject for the dependency (\S+)',
                              line)
            if match:
                wanted = match[1]
            _before, mark, reason = line.partition('ERROR: ')
            if not mark:
                continue
            # The first is the cause, what follows are its consequences.
            if 'subproject downloading is disabled' in reason:
                return f'the library {wanted} is missing'
            return reason.strip()
    return ''
