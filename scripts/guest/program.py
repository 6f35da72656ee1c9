# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/run and scripts/run-xen are as programs: arguments, progress,
the report, errors, signals."""

import os
import signal
import sys
import time

from . import errors, report


def progress():
    """A function that prints a line with the seconds since now."""
    started = time.monotonic()

    def say(text):
        print(f'[{time.monotonic() - started:5.1f} s] {text}',
              file=sys.stderr, flush=True)

    return say


def style_for(asked):
    colour = asked.colour
    if colour is None:
        colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
    encoding = (sys.stdout.encoding or '').lower()
    return report.Style(colour, encoding.startswith('utf'))


def main(name, options, work, render):
    """Run the program called @name and return its exit code.

    @options has usage() and parse(); @work gets what was asked and a function
    that prints progress, and returns an exit code or a result; @render makes
    the report of a result.
    """
    arguments = sys.argv[1:]
    if '--help' in arguments or '-h' in arguments:
        print(options.usage())
        return 0
    # An end by SIGTERM cleans up as any other end does.
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    say = progress()
    try:
        asked = options.parse(arguments, os.environ)
        result = 0 if asked.check else work(asked, say)
    except errors.RunError as error:
        print(f'{name}: {error}', file=sys.stderr)
        for line in error.details:
            print(f'  {line}', file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f'{name}: {errors.told(error)}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=sys.stderr)
        return 130
    if isinstance(result, int):
        return result
    print('\n' + render(result, style_for(asked)), end='')
    return 1 if result.failures else 0
