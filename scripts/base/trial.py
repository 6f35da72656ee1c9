# Whether an exported branch is whole: make check-export.
#
#     export --> configure --> build --> tests of the branch --> a guest boots
#        \ \--> EACH=1: each commit is built, and its tests run (each.py)
#         \--> checkpatch.pl of each commit
#
# The branch is configured as a developer of QEMU would do it, in its own tree
# and with the base's own programs, with the options of the build folder.
# From this repository only the guest takes part, which boots in the end.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
import tempfile
from pathlib import Path

import check
import checkpatch
import each
import export
import firmware
import ninja
import qemu
from layout import REPO, Layout, cache_folder
from source import find_source
from term import Refusal, say

# Of the base's tests, those that the fixes are about.
BASE_TESTS = ('test-aio*', 'test-bdrv-*', 'test-block-*', 'test-coroutine',
              'test-replication', 'test-thread-pool', 'test-throttle',
              'test-timed-average', 'test-write-threshold', 'test-xs-node')

LOAD = ('fio --name=x --filename=/dev/vda --rw=randwrite --bs=4k --size=8m '
        '--direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c')


class BranchLayout(Layout):
    """The branch in BUILD/export, configured and built in a folder there."""

    def __init__(self, build, folder='b'):
        super().__init__(build)
        self.base = self.build / 'export'
        self.qemu = self.base / folder


def those_added(tests, added):
    return [test for test in tests if test['name'].split('/')[-1] in added]


def choose(tests, added, fixes_only):
    chosen = those_added(tests, added)
    missing = added - {test['name'].split('/')[-1] for test in chosen}
    if missing or not chosen:
        raise Refusal('the branch does not build the test '
                      f'{min(missing, default="of any commit")}')
    if fixes_only:
        chosen += [test for test in check.choose_named(tests, BASE_TESTS)
                   if test not in chosen]
    return chosen


def boot(program, build):
    """A Linux guest writes to a disk with four queues, and reads back."""
    sys.path.insert(0, str(REPO / 'scripts'))
    from guest import accel, disk, errors, image
    from guest.machine import Machine, spread

    with tempfile.TemporaryDirectory(prefix='qemu-mq.') as name:
        folder = Path(name)
        try:
            with Machine(program, image.guest_image(build / 'guest'), folder,
                         accel=accel.choose('auto', program).name) as machine:
                machine.add_iothreads(2)
                machine.add_disk('many', disk.scratch(folder / 'many.raw'),
                                 queues=4, mapping=spread(4, 2))
                machine.start()
                machine.run(LOAD)
                machine.shutdown()
        except errors.RunError as error:
            raise Refusal(f'the guest on the branch: {error}') from None


def try_each(build, state, lock, first):
    """Build each commit of the branch, and run its tests."""
    layout = BranchLayout(build, 'each')

    def try_commit(added):
        qemu.configure(layout, [*state['options'], *each.QUICK], state['env'],
                       cache_folder(), lock)
        firmware.link(layout)
        each.build(layout.qemu)
        tests = those_added(check.read_json(layout, 'tests'), added)
        if tests and not check.run(layout, tests, patience=5):
            raise Refusal('its tests fail')

    each.check(layout.base, try_commit, first)


def run(build, state, lock, fixes_only, first=None):
    """Make the branch and try it; a Refusal says what is wrong."""
    layout = BranchLayout(build)
    cache = cache_folder()
    source = find_source(state['with_base'], cache, lock)
    export.export(layout.base, source, lock, fixes_only)
    checkpatch.check(layout.base, not fixes_only and lock.path.parent == REPO)
    qemu.configure(layout, state['options'], state['env'], cache, lock)
    firmware.link(layout)
    added = each.added_tests(layout.base, 'base', 'HEAD')
    tests = check.build(layout,
                        lambda tests: choose(tests, added, fixes_only))
    if tests is None or not ninja.build(layout.qemu, qemu.programs(layout)):
        raise Refusal('the branch does not build')
    if not check.run(layout, tests, patience=3):
        raise Refusal('tests of the branch fail')
    boot(layout.qemu / 'qemu-system-x86_64', layout.build)
    say('the branch builds, its tests pass, and a guest boots')
    if first:
        try_each(layout.build, state, lock, first)
        say('each commit builds, and its tests pass')
