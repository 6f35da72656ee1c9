# Our tests under the compiler's sanitizers.
#
#     make check-sanitizers   BUILD-asan   memory errors, leaks, undefined
#                                          behaviour
#     make check-threads      BUILD-tsan   data races
#
# Each has a build folder of its own beside the usual one, with that one's
# options and the sanitizer's.  A finding makes QEMU or the test program exit
# with an error, so that the test fails and its log shows the finding.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections import namedtuple
from pathlib import Path

import check
from layout import REPO
from term import Refusal

# left_out: tests of ours that do not run, with the reason.
# patience: how much longer a test may take than its time limit says.
Sanitizer = namedtuple('Sanitizer',
                       'suffix options variables left_out patience')

# A guest would take hours.
SUITES = {'mq-unit', 'mq-qtest'}

# Tests that say nothing about data races, with the reason.
GUEST_CODE = ("a guest's code runs, which changes memory that the device "
              'reads, and the sanitizer cannot see how the two agree')
PYTHON = 'it runs no program of this build'
NOT_FOR_THREADS = {
    'virtio-blk-mq-cpu-load-test': GUEST_CODE,
    'virtio-blk-mq-cpu-rings-test': GUEST_CODE,
    'virtio-blk-mq-cpu-vectors-test': GUEST_CODE,
    'virtio-blk-mq-vtd-test': "rings behind a vIOMMU are read by the base's "
                              "code, which does not say that the memory is a "
                              "guest's",
    'xen-disk-budget-test': 'it measures the memory of the process, to which '
                            'the sanitizer adds its own',
    'xen-disk-hostile-test': 'a thread of the test writes where others read, '
                             'as a guest may',
    'xen-disk-indirect-test': 'requests use a page one after the other, which '
                              'is the order of the driver in another process',
    'bench-parts': PYTHON,
    'features': PYTHON,
    'kernel-packages': PYTHON,
    'run-parts': PYTHON,
}

SANITIZERS = {
    'check-sanitizers': Sanitizer(
        '-asan', ['--enable-asan', '--enable-ubsan'],
        {'ASAN_OPTIONS': 'detect_leaks=1',
         'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1'},
        {}, 6),
    'check-threads': Sanitizer(
        '-tsan', ['--enable-tsan'],
        # libqtest starts QEMU by fork() in a program that has threads.  The
        # deadlock detector ends with 64 locks in one thread's hands, and a
        # change of histograms takes one for each thread.
        {'TSAN_OPTIONS': f'suppressions={REPO}/tests/tsan.supp:'
                         'die_after_fork=0:history_size=4:detect_deadlocks=0',
         # GLib's own allocator would hand memory on without anybody seeing it.
         'G_SLICE': 'always-malloc'},
        NOT_FOR_THREADS, 20),
}


def build_folder(build, sanitizer):
    return Path(f'{build}{sanitizer.suffix}')


def adapt(state, sanitizer):
    """The state of the usual build, adapted to the sanitizer's build."""
    return {**state, 'options': state['options'] + sanitizer.options}


def choose_named(tests, names):
    """Those of a user's tests that need no build of the untouched base."""
    named = check.choose_named(tests, names)
    chosen = [test for test in named if not check.need_stock([test])]
    if not chosen:
        raise Refusal(f'{named[0]["name"]} needs the untouched base, which is '
                      'not built with sanitizers')
    return chosen


def choose(tests, sanitizer, names):
    """The tests to run: those with these names, or else all of ours."""
    if names:
        return choose_named(tests, names)
    return [test for test in tests
            if SUITES & check.suites(test)
            and test['name'] not in sanitizer.left_out]


def set_variables(sanitizer):
    """Set what is not set: a user may ask for something else."""
    for name, value in sanitizer.variables.items():
        os.environ.setdefault(name, value)
