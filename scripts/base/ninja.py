# Ninja, with progress that suits where it is shown.
#
# On a terminal Ninja's own line says it all.  Elsewhere that line would come a
# thousand times, so one is shown for every tenth part.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import shutil
import subprocess
import sys

from layout import REPO
from term import Refusal, meson_error, run_logged

STATUS = re.compile(r'\[(\d+)/(\d+)\] ')


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


def thin(lines, show):
    """
    Pass on what is not progress, and progress at every tenth part.

    A line that follows progress (a compiler's message) is preceded by the
    step that it belongs to.
    """
    tenth = 0
    step = None
    for line in lines:
        match = STATUS.match(line)
        if not match:
            if step:
                show(step)
                step = None
            show(line)
            continue
        step = line
        now, total = int(match[1]), int(match[2])
        if total > 1 and now * 10 // total > tenth:
            tenth = now * 10 // total
            show(f'[{now}/{total}] {now * 100 // total} %\n')


def regenerate(layout):
    """Let Meson run again where a meson.build changed."""
    layout.log.unlink(missing_ok=True)
    if not run_logged([find(), '-C', layout.qemu, 'build.ninja'], layout.log,
                      env=environment()):
        reason = meson_error(layout.log) or 'Meson failed'
        raise Refusal(f'{reason} (all of it: {layout.log})')


def build(folder, targets):
    """Build targets; false if that failed, Ninja having said why."""
    argv = [find(), '-C', str(folder), *targets]
    if sys.stdout.isatty():
        return subprocess.run(argv, env=environment(),
                              check=False).returncode == 0
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE,
                          text=True, errors='replace') as ninja:
        def show(line):
            if not line.startswith('ninja: Entering directory'):
                sys.stdout.write(line)
                sys.stdout.flush()
        thin(ninja.stdout, show)
    return ninja.returncode == 0
