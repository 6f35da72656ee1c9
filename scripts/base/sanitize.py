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

# tests: names, or None for all of ours.
# patience: how much longer a test may take than its time limit says.
Sanitizer = namedtuple('Sanitizer', 'suffix options variables tests patience')

# A guest would take hours.
SUITES = {'mq-unit', 'mq-qtest'}

# Tests with queues in several threads, and of the parts below those.
SEVERAL_THREADS = [
    'test-block-stats', 'test-brief-read', 'test-in-flight',
    'test-qcow2-cache', 'test-qcow2-hammer', 'test-qcow2-lookup',
    'test-qcow2-write', 'test-thread-shards', 'test-tracked-requests',
    'virtio-blk-mq-control-test', 'virtio-blk-mq-errors-test',
    'virtio-blk-mq-histograms-test', 'virtio-blk-mq-iothreads-test',
    'virtio-blk-mq-jobs-test', 'virtio-blk-mq-migrate-test',
    'virtio-blk-mq-move-test', 'virtio-blk-mq-own-iothreads-test',
    'virtio-blk-mq-query-test', 'virtio-blk-mq-queues-test',
    'virtio-blk-mq-reset-test', 'virtio-blk-mq-stats-test',
    'xen-disk-mapping-test', 'xen-disk-move-test', 'xen-disk-mq-test',
]

SANITIZERS = {
    'check-sanitizers': Sanitizer(
        '-asan', ['--enable-asan', '--enable-ubsan'],
        {'ASAN_OPTIONS': 'detect_leaks=1',
         'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1'},
        None, 6),
    'check-threads': Sanitizer(
        '-tsan', ['--enable-tsan'],
        # libqtest starts QEMU by fork() in a program that has threads.  The
        # deadlock detector ends with 64 locks in one thread's hands, and a
        # change of histograms takes one for each thread.
        {'TSAN_OPTIONS': f'suppressions={REPO}/tests/tsan.supp:'
                         'die_after_fork=0:history_size=4:detect_deadlocks=0',
         # GLib's own allocator would hand memory on without anybody seeing it.
         'G_SLICE': 'always-malloc'},
        SEVERAL_THREADS, 20),
}


def build_folder(build, sanitizer):
    return Path(f'{build}{sanitizer.suffix}')


def adapt(state, sanitizer):
    """The usual build's state, for the sanitizer's."""
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
    """The tests to run: those with these names, or else the sanitizer's."""
    if names:
        return choose_named(tests, names)
    return [test for test in tests
            if (test['name'] in sanitizer.tests if sanitizer.tests else
                SUITES & {suite.split(':')[-1] for suite in test['suite']})]


def set_variables(sanitizer):
    """Set what is not set: a user may ask for something else."""
    for name, value in sanitizer.variables.items():
        os.environ.setdefault(name, value)
