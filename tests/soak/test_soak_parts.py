#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of 'make soak' that need no guest, and whether they find damage.

LOAD names the load's program, QEMU_IMG qemu-img.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests/functional'))

# pylint: disable=wrong-import-position
import tap      # noqa: E402
import rig      # noqa: E402
import soak     # noqa: E402
import steps_errors     # noqa: E402
import watch    # noqa: E402
import write_log    # noqa: E402
import xen_rig  # noqa: E402
import xen_steps    # noqa: E402
from chain import Chain                 # noqa: E402
from guest.disk import MIB              # noqa: E402
from guest.errors import RunError, UsageError   # noqa: E402
from loads import SLACK, Load, log_of   # noqa: E402
from steps import Chooser               # noqa: E402

PROGRAM = Path(os.environ['LOAD']).absolute()
QEMU_IMG = Path(os.environ.get('QEMU_IMG', 'qemu-img')).absolute()
AREA = 32 * MIB


class Here:
    """Stands for the guest: the load runs on this machine."""

    def __init__(self, case, kind, place, *words):
        self.control = Path(tempfile.mkdtemp(dir=case.folder))
        for name in 'in', 'out':
            os.mkfifo(self.control / name)
        with open(case.log, 'ab') as log:
            self.process = subprocess.Popen(
                [PROGRAM, kind, place, '7', *words, self.control, '0'],
                stderr=log)
        case.addCleanup(self.kill)

    def tell(self, word):
        (self.control / 'in').write_text(word + '\n', encoding='ascii')
        return (self.control / 'out').read_text(encoding='ascii')

    def kill(self):
        self.process.kill()
        self.process.wait()


class LoadCase(unittest.TestCase):
    def setUp(self):
        # O_DIRECT needs a filesystem that has it.
        folder = tempfile.TemporaryDirectory(prefix='soak-', dir='.')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).absolute()
        self.log = log_of(self.folder, 'data')

    def load(self, kind, place):
        load = Load(kind, PROGRAM, self.folder, 'data')
        load.place, load.epoch = place, 7
        return load

    def work(self, load, here):
        """Until every writer has reported something."""
        here.tell('go')
        while not all(load.read_log()):
            self.assertIsNone(here.process.poll())

    def verify(self, load, slack):
        done = subprocess.run([PROGRAM, *load.verify_words(
            load.place, slack, load.flushed)],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


class BlocksTest(LoadCase):
    def setUp(self):
        super().setUp()
        self.disk = self.folder / 'disk'
        with open(self.disk, 'wb') as file:
            file.truncate(AREA)

    def cut_off(self, block='512'):
        """A load that is killed in its work."""
        here = Here(self, 'blocks', self.disk, block)
        load = self.load('blocks', self.disk)
        load.block = int(block)
        self.work(load, here)
        here.kill()
        load.read_log()
        return load

    def test_a_check_is_exact(self):
        for block in '512', '4096':
            with self.subTest(block=block):
                here = Here(self, 'blocks', self.disk, block)
                load = self.load('blocks', self.disk)
                load.block = int(block)
                self.work(load, here)
                numbers = here.tell('check').split()
                self.assertEqual(int(numbers[0]), AREA)
                done = list(map(int, numbers[1:]))
                here.kill()
                load.verify_here(self.disk, done)
                done[3] += 40
                with self.assertRaisesRegex(RunError, 'of writer 3: must be'):
                    load.verify_here(self.disk, done)
                self.log.write_text('')

    def test_what_is_reported_is_there(self):
        load = self.cut_off()
        self.assertEqual(self.verify(load, SLACK['blocks'])[0], 0)

    def test_damage(self):
        here = Here(self, 'blocks', self.disk, '512')
        here.tell('hold')
        with open(self.disk, 'r+b', buffering=0) as file:
            file.seek(MIB + 17)
            byte = file.read(1)[0] ^ 1
            file.seek(MIB + 17)
            file.write(bytes([byte]))
        self.assertRegex(here.tell('check'),
                         f'bad: the block at {MIB}, of writer')
        # Nothing is written any more, so that it can be looked at.
        self.assertRegex(here.tell('go'), 'bad')

    def test_a_lost_write(self):
        """An older content is damage too, and is told apart."""
        here = Here(self, 'blocks', self.disk, '512')
        here.tell('hold')
        before = self.disk.read_bytes()
        self.work(self.load('blocks', self.disk), here)
        here.tell('hold')
        after = self.disk.read_bytes()
        where = next(offset for offset in range(0, AREA, 512)
                     if before[offset:offset + 512]
                     != after[offset:offset + 512])
        with open(self.disk, 'r+b') as file:
            file.seek(where)
            file.write(before[where:where + 512])
        self.assertRegex(here.tell('check'),
                         rf'bad: the block at {where}, .*, is of 0, ')

    def test_an_error(self):
        here = Here(self, 'blocks', self.disk, '512')
        here.tell('hold')
        os.truncate(self.disk, AREA // 2)
        self.assertRegex(here.tell('check'), 'bad: read of .*: not all done')


class FilesTest(LoadCase):
    def setUp(self):
        super().setUp()
        self.place = self.folder / 'files'
        self.place.mkdir()

    def test_what_is_reported_is_there(self):
        here = Here(self, 'files', self.place)
        load = self.load('files', self.place)
        self.work(load, here)
        here.kill()
        load.read_log()
        self.assertEqual(self.verify(load, SLACK['files'])[0], 0)
        load.flushed[5] += 4
        self.assertNotEqual(self.verify(load, 0)[0], 0)

    def test_damage(self):
        for what in 'bytes', 'size', 'gone':
            with self.subTest(what):
                self.place = self.folder / what
                self.place.mkdir()
                here = Here(self, 'files', self.place)
                self.work(self.load('files', self.place), here)
                here.tell('hold')
                path = next(self.place.glob('2.[0-9]'))
                if what == 'bytes':
                    with open(path, 'r+b') as file:
                        file.seek(40)
                        file.write(b'x')
                elif what == 'size':
                    os.truncate(path, 24)
                else:
                    path.unlink()
                self.assertRegex(here.tell('check'), rf'bad: {path.name}')
                here.kill()
                self.log.write_text('')


class ChooserTest(unittest.TestCase):
    guest = 'virtio'
    ends = {'migrate', 'cut', 'powercut'}

    def setUp(self):
        patch = mock.patch.object(steps_errors, 'may_mount', lambda: True)
        patch.start()
        self.addCleanup(patch.stop)

    def rig(self):
        layers = [SimpleNamespace(format='qcow2')] * 3
        chain = SimpleNamespace(layers=layers, active=layers[0], size=48 * MIB)
        return SimpleNamespace(
            chains={'data': chain, 'files': chain},
            has_slept=False, extra_iothreads=['extra1'],
            iothreads=lambda: ['iothread0'],
            options=SimpleNamespace(stock=PROGRAM))

    def steps(self, stay=False):
        return soak.all_steps(self.guest, stay)

    def choose(self, seed, stay=False):
        chooser = Chooser(seed, self.steps(stay))
        return [(step.name, words) for step, words in
                (chooser.next(self.rig()) for _ in range(200))]

    def test_a_seed_repeats_its_steps(self):
        self.assertEqual(self.choose(5), self.choose(5))
        self.assertNotEqual(self.choose(5), self.choose(6))

    def test_each_step_comes_first(self):
        for seed in range(5):
            chosen = self.choose(seed)[:len(self.steps())]
            self.assertEqual(sorted(name for name, _ in chosen),
                             sorted(step.name for step in self.steps()))

    def test_a_step_that_is_not_possible_comes_later(self):
        steps = self.steps()[:2]
        chooser = Chooser(1, steps)
        first = chooser.missing[0]
        with mock.patch.object(type(first), 'possible', lambda *_: False):
            names = {chooser.next(self.rig())[0].name for _ in range(20)}
            self.assertNotIn(first.name, names)
        self.assertIs(chooser.next(self.rig())[0], first)

    def test_one_process(self):
        names = {name for name, _ in self.choose(1, stay=True)}
        self.assertTrue(self.ends <= {step.name for step in self.steps()})
        self.assertFalse(names & self.ends)


class XenChooserTest(ChooserTest):
    guest = 'xen'
    ends = {'migrate', 'saveandrestore', 'end'}

    def rig(self):
        return SimpleNamespace(can_migrate=True, rings=2)


class KindTest(unittest.TestCase):
    def test_seeds_take_kinds_in_turn(self):
        seeds = range(soak.STAY * len(rig.KINDS))
        for stay in True, False:
            kinds = {tuple(rig.Rig.shape(seed).values()) for seed in seeds
                     if (seed % soak.STAY == 0) == stay}
            self.assertEqual(kinds, set(rig.KINDS))


class WriteLogTest(LoadCase):
    WRITES = ((0, b'a'), (512, b'b'), None, (0, b'c'), None, (1024, b'd'))

    def write(self):
        """A log as blklogwrites has it; None is a flush."""
        log = self.folder / 'log'
        with open(log, 'wb') as file:
            file.write(bytes(512))
            for write in self.WRITES:
                offset, letter = write or (0, b'')
                entry = write_log.ENTRY.pack(offset // 512, len(letter),
                                             0 if write else write_log.FLUSH,
                                             0)
                file.write(entry.ljust(512, b'\0') + letter * 512)
        return log

    def replay(self, size):
        image = self.folder / 'image'
        image.write_bytes(b'-' * 1536)
        counts = write_log.replay(self.write(), size, image)
        return counts, image.read_bytes()[::512]

    def test_what_was_flushed(self):
        self.assertEqual(self.replay(self.write().stat().st_size),
                         ((4, 1), b'cb-'))

    def test_the_begin_of_a_log(self):
        # Up to the third write, which no flush follows then.
        self.assertEqual(self.replay(512 * 6 + 1), ((3, 1), b'ab-'))
        self.assertEqual(self.replay(512 * 2), ((1, 1), b'---'))


class XenDataTest(unittest.TestCase):
    def setUp(self):
        self.rig = xen_rig.XenRig(None, None, None)
        self.rig.domu = SimpleNamespace(run=self.run_script)
        self.held = {}

    def run_script(self, script):
        """Stands for the domU: what its disks hold is in self.held."""
        disk = re.search(r'/dev/(xvd.)', script)[1]
        if 'md5sum' in script:
            pieces = re.search(r'for piece in (.*);', script)[1].split()
            return ''.join(f'{self.held[disk, int(piece)]}  -\n'
                           for piece in pieces)
        with tempfile.NamedTemporaryFile() as file:
            make = script[:script.index('dd ')].replace('/run/new', file.name)
            subprocess.run(['sh', '-e'], input=make, text=True, check=True)
            piece = int(re.search(r'seek=(\d+)', script)[1]) // 16
            self.held[disk, piece] = hashlib.md5(file.read()).hexdigest()
        return ''

    def test_good(self):
        for disk in xen_rig.DISKS:
            self.rig.write(disk, 3)
            self.rig.write(disk, 5)
        self.rig.write('xvda', 3)
        self.rig.compare()
        self.assertEqual(self.rig.bytes_compared, 4 * MIB)

    def test_an_older_write(self):
        self.rig.write('xvdb', 7)
        older = self.held['xvdb', 7]
        self.rig.write('xvdb', 7)
        self.held['xvdb', 7] = older
        with self.assertRaisesRegex(RunError, 'wrong data on xvdb') as caught:
            self.rig.compare()
        self.assertEqual(caught.exception.details, ['MiB 7 is not write 2'])

    def test_what_the_host_holds(self):
        watch = xen_rig.Watch()
        held = {'channels': 9, 'open_files': 300, 'xen_kib': 5000}
        with mock.patch.object(xen_rig.xen_holds, 'host',
                               side_effect=lambda unused: dict(held)), \
                mock.patch.object(xen_rig, 'SETTLE_SECONDS', 0):
            watch.look(None)
            held.update(open_files=340, xen_kib=4500)
            watch.look(None)
            held['channels'] = 10
            with self.assertRaisesRegex(RunError, 'holds more') as caught:
                watch.look(None)
        self.assertEqual(caught.exception.details, ['channels: 9, now 10'])


class MonitorTest(unittest.TestCase):
    BLOCK = """\
xvdb: /images/xvdb (qcow2)
    Attached to:      /machine/unattached/device[5]
    Cache mode:       writeback

xvda: /images/xvda (raw)
    Attached to:      /machine/unattached/device[4]
    Cache mode:       writeback
"""

    def setUp(self):
        self.said = {
            'info block': self.BLOCK,
            'info queues': """\
/machine/unattached/device[4] queue 0: iothread=extra1 thread_id=9 requests=1
/machine/unattached/device[4] queue 1: iothread=(main loop) requests=1
/machine/unattached/device[5] queue 0: iothread=(deleted) thread_id=9 requests=1
"""}
        self.domu = SimpleNamespace(
            monitor=lambda command: self.said.get(command, ''))

    def test_places(self):
        monitor = xen_steps.Monitor(self.domu, 'xvda')
        self.assertEqual(monitor.path, '/machine/unattached/device[4]')
        self.assertEqual(monitor.places(), ['extra1', ''])
        monitor = xen_steps.Monitor(self.domu, 'xvdb')
        self.assertEqual(monitor.places(), ['(deleted)'])

    def test_no_such_disk(self):
        with self.assertRaisesRegex(RunError, 'does not tell of xvdc'):
            xen_steps.Monitor(self.domu, 'xvdc')

    def test_moves(self):
        monitor = xen_steps.Monitor(self.domu, 'xvda')
        monitor.move(0, 'extra1')
        monitor.move(1, '')
        with self.assertRaisesRegex(RunError, 'ring 1 is not in extra1'):
            monitor.move(1, 'extra1')
        self.said[f'queue_set_iothread {monitor.path} 0 extra1'] = 'Error: no'
        with self.assertRaisesRegex(RunError, 'queue_set_iothread .* failed'):
            monitor.move(0, 'extra1')


class FullTest(LoadCase):
    @unittest.skipUnless(steps_errors.may_mount(), 'nobody may mount here')
    def test_small_filesystem(self):
        room = self.folder / 'room'
        with steps_errors.small_filesystem(room, 1):
            with open(room / 'file', 'wb', buffering=0) as file:
                self.assertEqual(file.write(bytes(2 * MIB)), MIB)
                with self.assertRaises(OSError):
                    file.write(b'more')
                steps_errors.mount('-o', 'remount,size=3m', room)
                self.assertEqual(file.write(bytes(MIB)), MIB)
        self.assertFalse(room.exists())

    def test_cannot_mount(self):
        with self.assertRaises(OSError):
            steps_errors.mount('-t', 'tmpfs', 'soak', self.folder / 'none')


class WatchTest(unittest.TestCase):
    def setUp(self):
        self.watch = watch.Watch()
        for _ in range(watch.WARM_UP):
            self.watch.look(os.getpid(), 2, 2)

    def test_no_growth(self):
        self.watch.look(os.getpid(), 2, 2)

    def test_handles(self):
        with contextlib.ExitStack() as opened:
            for _ in range(watch.HANDLES):
                opened.enter_context(open('/dev/null', encoding='ascii'))
            self.watch.look(os.getpid(), 2, 2)
            opened.enter_context(open('/dev/null', encoding='ascii'))
            self.watch.look(os.getpid(), 3, 2)
            with self.assertRaisesRegex(RunError, 'file handles have grown'):
                self.watch.look(os.getpid(), 2, 2)

    def test_a_thread(self):
        names = watch.threads(os.getpid())
        names['IO iothreadN'] += 1
        with mock.patch.object(watch, 'threads', return_value=names):
            with self.assertRaisesRegex(RunError, 'threads have grown'):
                self.watch.look(os.getpid(), 2, 2)

    def test_memory(self):
        grown = watch.memory(os.getpid()) + watch.MEMORY[watch.WARM_UP] + MIB
        with mock.patch.object(watch, 'memory', return_value=grown):
            with self.assertRaisesRegex(RunError, 'memory has grown'):
                self.watch.look(os.getpid(), 2, 2)

    def test_memory_of_a_warm_process(self):
        size = 100 * MIB
        with mock.patch.object(watch, 'memory', side_effect=lambda _: size):
            late = watch.Watch()
            for _ in range(20):
                size += MIB // 4
                late.look(os.getpid(), 2, 2)
            size += watch.MEMORY[20]
            late.look(os.getpid(), 2, 2)
            size += MIB
            with self.assertRaisesRegex(RunError, 'after 20 steps'):
                late.look(os.getpid(), 2, 2)


class ChainTest(LoadCase):
    def test_check(self):
        """A file that is too short is damage; a leak is, unless the process
        was cut off."""
        chain = Chain('disk', self.folder, QEMU_IMG, MIB)
        chain.layers.append(chain.new_layer('qcow2', 'cluster_size=64k'))
        chain.check(after_a_cut=False)
        path = chain.active.path
        with open(path, 'r+b') as file:
            # The refcount block is the third cluster; cluster 4 is used now.
            file.seek(2 * 65536 + 2 * 4)
            file.write(b'\0\1')
            file.truncate(8 * 65536)
        with self.assertRaisesRegex(RunError, 'status 3'):
            chain.check(after_a_cut=False)
        chain.check(after_a_cut=True)
        chain.check(after_a_cut=False)
        os.truncate(path, 65536)
        with self.assertRaises(RunError):
            chain.check(after_a_cut=True)


class OptionsTest(unittest.TestCase):
    def test_bad_values(self):
        for word in ('HOURS=0', 'HOURS=x', 'HOURS=nan', 'SEED=-1', 'STEPS=0',
                     'ACCEL=hvf', 'STOCK=/none', 'GUEST=lxc'):
            with self.subTest(word), self.assertRaisesRegex(
                    UsageError, word.partition('=')[0]):
                soak.parse([f'QEMU={PROGRAM}', f'LOAD={PROGRAM}', word], {})

    def test_defaults(self):
        options, checking = soak.parse(
            [f'QEMU={PROGRAM}', f'LOAD={PROGRAM}', 'HOURS=0.5', 'SEED=4'], {})
        self.assertEqual((options.seconds, options.seed, options.steps,
                          checking), (1800, 4, soak.ROUND, False))


if __name__ == '__main__':
    tap.main()
