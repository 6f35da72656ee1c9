# Ninja, with progress that suits where it is shown.
#
# On a terminal one line is rewritten, and removed at the end.  Elsewhere there
# is a line for every tenth of the steps.  Both show the time that has passed,
# and an estimate of the time that is left.  A build that takes no time shows
# nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import shutil
import subprocess
import sys
import time

from layout import REPO
from term import Refusal, meson_error, run_logged, say

STATUS = re.compile(r'\[(\d+)/(\d+)\] ')
# A build of this many steps or more is announced, and the seconds that one
# processor needs for a step.
MANY = 300
STEP = 0.3
# Seconds before anything is shown, and before what is left is guessed.
AT_ONCE = 1
ENOUGH = 10


def find():
    for name in ('ninja', 'ninja-build'):
        if shutil.which(name):
            return name
    raise Refusal('the program ninja is missing')


def environment():
    env = dict(os.environ, NINJA_STATUS='[%f/%t] ')
    # The stock build and builds of other checkouts may share compilations.
    env.setdefault('CCACHE_BASEDIR', str(REPO))
    env.setdefault('CCACHE_NOHASHDIR', '1')
    return env


def minutes(seconds):
    return f'{int(seconds) // 60}:{int(seconds) % 60:02}'


def announcement(total, processors):
    """The line that is printed before a long build."""
    number = max(1, round(total * STEP / processors / 60))
    return (f'building, {total:,} steps: about {number} '
            f'minute{"s" if number > 1 else ""} on {processors} '
            f'processor{"s" if processors > 1 else ""}, less where ccache '
            'has the results of an earlier build')


class Progress:
    """
    Passes on what is not progress, and some of the progress.

    A line that follows progress (a compiler's message) is preceded by the
    step that it belongs to.
    """

    def __init__(self, out, terminal, clock=time.monotonic):
        self.out, self.terminal, self.clock = out, terminal, clock
        self.started = clock()
        self.tenth = 0
        self.step = None

    def line(self, line):
        match = STATUS.match(line)
        if match:
            self.step = line
            self.progress(int(match[1]), int(match[2]))
        elif not line.startswith(('ninja: Entering directory',
                                  'ninja: no work to do')):
            self.clear()
            if self.step:
                self.out.write(self.step)
                self.step = None
            self.out.write(line)
        self.out.flush()

    def passed(self):
        return self.clock() - self.started

    def progress(self, now, total):
        passed = self.passed()
        text = f'[{now}/{total}] {now * 100 // total} %'
        if passed >= AT_ONCE:
            text += f', {minutes(passed)} min'
        if ENOUGH <= passed and now < total:
            left = passed * (total - now) / now
            text += f', about {minutes(left)} left'
        if self.terminal:
            if passed >= AT_ONCE:
                self.out.write(f'\r{text}\33[K')
        elif now * 10 // total > self.tenth:
            self.tenth = now * 10 // total
            if passed >= AT_ONCE:
                self.out.write(f'{text}\n')

    def clear(self):
        if self.terminal:
            self.out.write('\r\33[K')
            self.out.flush()


def regenerate(layout):
    """Let Meson run again where a meson.build changed."""
    layout.log.unlink(missing_ok=True)
    if not run_logged([find(), '-C', layout.qemu, 'build.ninja'], layout.log,
                      env=environment()):
        reason = meson_error(layout.log) or 'Meson failed'
        raise Refusal(f'{reason} (all of it: {layout.log})')


def planned(argv):
    """How many steps there are at most, 0 if Ninja cannot tell."""
    done = subprocess.run([*argv, '-n'], env=environment(), text=True,
                          capture_output=True, check=False)
    steps = STATUS.findall(done.stdout)
    return int(steps[-1][1]) if steps else 0


def build(folder, targets):
    """Build targets; false if that failed, Ninja having said why."""
    argv = [find(), '-C', str(folder), *targets]
    total = planned(argv)
    if total >= MANY:
        say(announcement(total, len(os.sched_getaffinity(0))))
    progress = Progress(sys.stdout, sys.stdout.isatty())
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE,
                          text=True, errors='replace') as ninja:
        for line in ninja.stdout:
            progress.line(line)
    progress.clear()
    if total >= MANY and ninja.returncode == 0:
        say(f'built in {minutes(progress.passed())} min')
    return ninja.returncode == 0
