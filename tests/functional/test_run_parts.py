#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of scripts/run that need no guest."""

import fcntl
import io
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import tap
from guest import disk, image, modules, options, qmp, report, rings, session, \
    survey
from guest.accel import BOOT_SECTOR, Accelerator, choose
from guest.channel import Channel
from guest.errors import RunError, UsageError, told
from guest.initramfs import Archive
from guest.lock import locked
from guest.machine import Machine, spread
from guest.workload import Verified
from xen.images import Images

PROGRAM = sys.executable    # stands for a QEMU

SURVEY = '''disk vda many virtio0
queue 0 0, 1
queue 1 2, 3
disk vdb one virtio1
queue 0 0, 1, 2, 3
           CPU0       CPU1       CPU2       CPU3
  4:          0          2          0          0   IO-APIC   4-edge      ttyS0
 24:          0          0          0          0   {chip0}   virtio0-config
 25:          3          0        100          0   {chip1}   virtio0-req.0
 26:          0       1234          0          1   {chip2}   virtio0-req.1
 30:          0          0          0          3   {other}   virtio1-virtqueues
'''
OLD = {'chip0': 'PCI-MSI 16384-edge', 'chip1': 'PCI-MSI 16385-edge',
       'chip2': 'PCI-MSI 16386-edge', 'other': 'PCI-MSI 32769-edge'}
NEW = {'chip0': 'PCI-MSIX-0000:00:02.0   0-edge',
       'chip1': 'PCI-MSIX-0000:00:02.0   1-edge',
       'chip2': 'PCI-MSIX-0000:00:02.0   2-edge',
       'other': 'PCI-MSIX-0000:00:03.0   1-edge'}


def parse(*arguments, **environment):
    return options.parse([f'QEMU={PROGRAM}', *arguments], environment)


class OptionsTest(unittest.TestCase):
    def test_defaults(self):
        asked = parse()
        self.assertEqual((asked.queues, asked.iothreads, asked.vcpus,
                          asked.accel, asked.image, asked.shell),
                         (4, 2, 4, 'auto', None, False))
        self.assertEqual(asked.notes, [])

    def test_arguments_win_over_environment(self):
        asked = parse('QUEUES=3', QUEUES='8', ACCEL='tcg', HOME='/')
        self.assertEqual((asked.queues, asked.accel), (3, 'tcg'))

    def test_empty_means_default(self):
        self.assertEqual(parse('QUEUES=', QUEUES='8').queues, 4)
        self.assertEqual(parse(QUEUES='').queues, 4)

    def test_vcpus_follow_queues(self):
        self.assertEqual(parse('QUEUES=8').vcpus, 8)
        self.assertTrue(parse('QUEUES=8').notes)
        self.assertEqual(parse('QUEUES=500').vcpus, options.MAX_AUTO_VCPUS)
        self.assertEqual(parse('QUEUES=8', 'VCPUS=2').vcpus, 2)
        self.assertEqual(parse('QUEUES=1').iothreads, 1)

    def test_nonsense_is_refused_in_one_line(self):
        for words in (['QUEUES=0'], ['QUEUES=5000'], ['QUEUES=x'],
                      ['QUEUES=-1'], ['QUEUES=1.5'], ['QUEUES=²'],
                      ['IOTHREADS=0'], ['IOTHREADS=5'], ['IOTHREADS=65'],
                      ['VCPUS=0'], ['VCPUS=256'], ['RUNTIME=0'],
                      ['ACCEL=hvf'], ['IMAGE=/nowhere'], ['IMAGE=/'],
                      ['QEMU=/nowhere'], ['QEMU=/etc/passwd'],
                      ['FORMAT=raw'], ['COLOUR=1'], ['--fast'], ['shell']):
            with self.subTest(words):
                with self.assertRaises(UsageError) as caught:
                    parse(*words)
                self.assertNotIn('\n', str(caught.exception))
                self.assertIn(words[0].split('=')[0], str(caught.exception))


    def test_home_folder(self):
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / 'x').touch()
            with mock.patch.dict(os.environ, HOME=home):
                self.assertEqual(parse('IMAGE=~/x').image, Path(home) / 'x')
                with self.assertRaisesRegex(UsageError, f'{home}/y: no such'):
                    parse('IMAGE=~/y')
        with self.assertRaisesRegex(UsageError, 'IMAGE=~no-body/x: no such'):
            parse('IMAGE=~no-body/x')


class SurveyTest(unittest.TestCase):
    def test_both_notations_of_msi_x(self):
        for chips in (OLD, NEW):
            disks = survey.parse(SURVEY.format(**chips))
            self.assertEqual(set(disks), {'many', 'one'})
            first, second = disks['many'].queues
            self.assertEqual(first.cpus, [0, 1])
            self.assertEqual(first.vector, survey.Vector(25, 1, 103))
            self.assertEqual(second.vector, survey.Vector(26, 2, 1235))
            self.assertFalse(first.shared)
            only = disks['one'].queues[0]
            self.assertEqual(only.vector, survey.Vector(30, 1, 3))
            self.assertFalse(only.shared)

    def test_queues_are_sorted_as_numbers(self):
        text = 'disk vda d virtio0\n' + ''.join(
            f'queue {n} {n}\n' for n in (0, 1, 10, 11, 2))
        self.assertEqual([q.number for q in survey.parse(text)['d'].queues],
                         [0, 1, 2, 10, 11])

    def test_pin_interrupt(self):
        text = ('disk vda d virtio0\nqueue 0 0\nqueue 1 1\n 10: 5 6 IO-APIC '
                '10-fasteoi virtio0, virtio1\n')
        queue = survey.parse(text)['d'].queues[1]
        self.assertEqual(queue.vector, survey.Vector(10, None, 11))
        self.assertTrue(queue.shared)

    def test_cpu_ranges(self):
        self.assertEqual(survey.cpu_ranges([5, 0, 2, 1]), '0-2, 5')
        self.assertEqual(survey.cpu_ranges([]), '')


def good_result():
    found = survey.parse(SURVEY.format(**NEW))['many']
    found.queues[0].iothread = 'iothread0'
    found.queues[1].iothread = 'iothread1'
    return session.Result(
        parse('QUEUES=2'), '10.0.99', '6.1', found,
        iothread_seconds={'iothread0': 1.25, 'iothread1': 0.5},
        rings=[rings.Figure('ours', 1, 100000, 1.5),
               rings.Figure('ours', 2, 150000, 1.75)],
        verified=Verified(32 << 20, 8192, 4, []),
        accelerator=Accelerator('tcg', 'as asked'),
        image=disk.Disk(Path('/d.raw'), 'raw', disk.SCRATCH_SIZE),
        mapping=spread(2, 2))


class JudgeTest(unittest.TestCase):
    def failures(self, damage):
        result = good_result()
        damage(result)
        session.judge(result)
        text = report.render(result)
        self.assertEqual(bool(result.failures), 'FAILED' in text)
        return result.failures

    def test_good(self):
        self.assertEqual(self.failures(lambda result: None), [])

    def test_each_defect_fails(self):
        def queue(result):
            return result.disk.queues[1]

        defects = {
            'missing queue': lambda r: r.disk.queues.pop(),
            'no vector': lambda r: setattr(queue(r), 'vector', None),
            'pin interrupt': lambda r: setattr(queue(r).vector, 'entry',
                                               None),
            'silent vector': lambda r: setattr(queue(r).vector, 'count', 0),
            'shared vector': lambda r: setattr(queue(r), 'shared', True),
            'stray interrupt': lambda r: queue(r).others.append(0),
            'wrong IOThread': lambda r: setattr(queue(r), 'iothread',
                                                'iothread0'),
            'bad data': lambda r: r.verified.errors.append('crc32c'),
        }
        for name, damage in defects.items():
            with self.subTest(name):
                self.assertEqual(len(self.failures(damage)), 1)

    def test_more_queues_than_cpus_is_no_failure(self):
        result = good_result()
        result.options.queues, result.options.vcpus = 4, 2
        result.mapping = [[0], [1], [2, 3]]
        session.judge(result)
        self.assertEqual(result.failures, [])
        self.assertIn('2 of the 4 queues', result.notes[0])


class ReportTest(unittest.TestCase):
    def test_text(self):
        result = good_result()
        session.judge(result)
        text = report.render(result)
        self.assertIn('    0  0-1        1 (IRQ 25)           103  '
                      'iothread0\n', text)
        self.assertIn('iothread1    0.50 s  1\n', text)
        self.assertRegex(text, r'\n  1 queue   ours  100,000  +1\.50 us\n'
                               r'  2 queues  ours  150,000  +1\.75 us\n')
        self.assertNotIn('In the guest', text)
        self.assertNotIn('stock:', text)
        self.assertTrue(any('make stock' in note for note in result.notes))
        self.assertIn('8,192 blocks of 4 KiB checked (crc32c), all right',
                      text)
        self.assertNotIn('\33', text)
        self.assertTrue(text.isascii())
        self.assertNotIn(' \n', text)

    def test_rates_in_the_guest(self):
        """Bars and a factor are for what the disk bounds."""
        result = good_result()
        result.iops = {1: 1000.0, 2: 1900.0}
        session.judge(result)
        self.assertIn(f'2 queues  1,900 IOPS  {"#" * 30}  1.90 x\n',
                      report.render(result))
        text = report.guest_rates(result)
        self.assertIn('  2 queues  1,900 IOPS', text)
        self.assertNotIn('#', text)
        self.assertNotIn('1.90', text)

    def test_rates_beside_those_of_stock(self):
        result = good_result()
        result.rings += [rings.Figure('stock', 1, 90000, 3.0),
                         rings.Figure('stock', 2, 90000, 7.0)]
        session.judge(result)
        text = report.render(result)
        self.assertRegex(text, r'1 queue   ours .*\n  1 queue   stock .*\n'
                               r'  2 queues  ours .*\n  2 queues  stock ')
        self.assertIn('ours to stock: 0.50 with 1 queue, 0.25 with 2 queues\n',
                      text)
        self.assertFalse(any('make stock' in note for note in result.notes))

    def test_no_rates(self):
        result = good_result()
        result.rings = []
        session.judge(result)
        self.assertNotIn('rings', report.render(result))

    def test_colour(self):
        result = good_result()
        text = report.render(result, report.Style(True, True))
        self.assertIn(report.GREEN, text)
        self.assertIn(' µs', text)


class BootTest(unittest.TestCase):
    def machine(self, accel):
        guest = image.GuestImage(Path('k'), Path('i'), '6.1')
        machine = Machine('/qemu', guest, Path('/'), accel, 8)
        machine.check = lambda: None
        return machine

    def test_a_long_boot_is_not_silent(self):
        for accel, why in (('tcg', 'emulated CPUs'), ('kvm', '8 s')):
            said, now = [], iter(range(100))
            check = self.machine(accel).booting(said.append,
                                                lambda: next(now) // 2)
            for _ in range(20):
                check()
            self.assertGreater(len(said), 0)
            self.assertIn('still booting after 8 s', said[0])
            self.assertIn(why, said[0])

    def test_a_person_sees_the_kernel_boot(self):
        guest = image.GuestImage(Path('k'), Path('i'), '6.1')
        for console in (None, 'stdio'):
            words = ' '.join(Machine('/qemu', guest, Path('/'), 'tcg', 8,
                                     console=console).arguments).split()
            self.assertEqual('quiet' in words, console is None)


class FolderTest(unittest.TestCase):
    def test_build(self):
        self.assertEqual(parse('BUILD=/x', BUILD='/y').build, Path('/x'))
        self.assertEqual(parse(BUILD='y').build, Path('y').absolute())
        self.assertEqual(parse().build,
                         Path(options.__file__).parents[2] / 'build')
        with self.assertRaisesRegex(UsageError, '/x/qemu.*: no such file'):
            options.parse(['BUILD=/x'], {})

    def test_qemu_of_a_build_to_come(self):
        asked = options.parse(['BUILD=/x', '--check'], {})
        self.assertEqual(asked.qemu, Path('/x/qemu-system-x86_64'))
        with self.assertRaisesRegex(UsageError, 'QEMU=/y: no such file'):
            options.parse(['BUILD=/x', 'QEMU=/y', '--check'], {})

    def test_the_guest_is_made_there(self):
        with tempfile.TemporaryDirectory() as name, \
                mock.patch.object(image, 'make_image') as make:
            folder = Path(name) / 'b/guest'
            with mock.patch.dict(os.environ, BUILD=str(folder.parent)):
                image.guest_image()
            self.assertEqual(make.call_args[0][0], folder)
            self.assertTrue(folder.is_dir())

    def test_a_run_is_in_the_build_folder(self):
        with tempfile.TemporaryDirectory() as name:
            asked = parse(f'BUILD={name}', 'ACCEL=tcg')
            with mock.patch.object(session, 'version', return_value='1'), \
                    mock.patch.object(image, 'guest_image',
                                      side_effect=RunError('enough')) as make:
                with self.assertRaisesRegex(RunError, 'enough'):
                    session.run(asked, lambda text: None)
            self.assertEqual(make.call_args[0][0], Path(name) / 'guest')
            self.assertTrue((Path(name) / 'run').is_dir())

    def test_errors_are_words(self):
        for make in (lambda: image.guest_image(Path('/dev/null/guest')),
                     lambda: Images('/dev/null/xen', PROGRAM).build()):
            with self.assertRaises(RunError) as caught:
                make()
            self.assertRegex(str(caught.exception),
                             '^/dev/null/.*: Not a directory$')
        self.assertEqual(told(PermissionError(13, 'Permission denied', '/x')),
                         '/x: Permission denied')
        self.assertEqual(told(OSError(28, 'No space left')), 'No space left')
        self.assertEqual(told(OSError('odd')), 'odd')

    def test_waiting_is_said(self):
        with tempfile.TemporaryDirectory() as name:
            folder, said = Path(name), []
            with open(folder / '.lock', 'w', encoding='ascii') as held:
                fcntl.flock(held, fcntl.LOCK_EX)

                def say(text):
                    said.append(text)
                    fcntl.flock(held, fcntl.LOCK_UN)
                with locked(folder, say):
                    pass
            with locked(folder, say):
                pass
        self.assertEqual(len(said), 1)
        self.assertIn(f'waiting for another program that works in {folder}',
                      said[0])


class RingsTest(unittest.TestCase):
    def test_programs(self):
        with tempfile.TemporaryDirectory() as name:
            build = Path(name)
            asked = parse(f'BUILD={name}')
            self.assertEqual(rings.programs(asked), [('ours', asked.qemu)])
            stock = build / 'stock/qemu-system-x86_64'
            stock.parent.mkdir()
            shutil.copy('/bin/true', stock)
            self.assertEqual(rings.programs(asked)[1:], [('stock', stock)])
            asked.qemu = stock
            self.assertEqual(rings.programs(asked), [('ours', stock)])

    def test_nothing_is_written_to_an_image(self):
        with tempfile.TemporaryDirectory() as name:
            image_file = Path(name) / 'image'
            image_file.write_bytes(bytes(disk.SMALLEST))
            over = Path(name) / 'over'
            over.write_bytes(b'x')
            made = disk.Disk(over, 'qcow2', disk.SMALLEST, image_file, 'raw')
            rings.write_all(made)
            self.assertEqual(over.read_bytes(), b'x')
            self.assertFalse(any(image_file.read_bytes()))
            node = rings.node(made)
            for part in (node, node['file'], node['backing']):
                self.assertTrue(part['read-only'])

    def test_a_scratch_image_gets_data(self):
        with tempfile.TemporaryDirectory() as name:
            made = disk.scratch(Path(name) / 'd', disk.SMALLEST)
            rings.write_all(made)
            self.assertEqual(made.path.stat().st_size, disk.SMALLEST)
            self.assertGreaterEqual(made.path.stat().st_blocks * 512,
                                    disk.SMALLEST)

    def test_a_program_that_cannot_be_driven(self):
        with tempfile.TemporaryDirectory() as name:
            result = good_result()
            result.options.build = Path(name)
            result.options.qemu = Path('/bin/false')
            result.image = disk.scratch(Path(name) / 'd', disk.SMALLEST)
            session.drive_rings(result, lambda text: None)
            self.assertEqual(result.failures, [])
            self.assertRegex(result.notes[-1],
                             '^No rates without the guest: QEMU ended')


class PartsTest(unittest.TestCase):
    def test_spread(self):
        self.assertEqual(spread(5, 2), [[0, 2, 4], [1, 3]])

    def test_boot_sector(self):
        self.assertEqual(len(BOOT_SECTOR), 512)
        self.assertEqual(BOOT_SECTOR[-2:], b'\x55\xaa')
        # The descriptor table register's operand and the code segment.
        self.assertEqual(BOOT_SECTOR[0x90:0x96], b'\x0f\0\x80\x7c\0\0')
        self.assertEqual(BOOT_SECTOR[0x88:0x90], b'\0\0\0\0\0\x9a\x20\0')

    def test_tcg_on_request_is_not_probed(self):
        self.assertEqual(choose('tcg', '/nowhere').name, 'tcg')

    def test_archive(self):
        stream = io.BytesIO()
        archive = Archive(stream)
        archive.file('/a/b/c', b'12345')
        archive.file('/a/b/c', b'again')
        archive.link('/a/l', 'b/c')
        archive.close()
        data = stream.getvalue()
        self.assertEqual(data.count(b'070701'), 5)      # a a/b a/b/c a/l end
        self.assertEqual(len(data) % 4, 0)
        self.assertIn(b'a/b/c\0' + b'12345\0\0\0' + b'070701', data)

    def test_module_order(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / 'kernel').mkdir()
            (folder / 'modules.builtin').write_text('kernel/core.ko\n')
            for module, needs in (('top-disk', 'ring,bus,core'),
                                  ('bus', 'ring'), ('ring', '')):
                (folder / 'kernel' / f'{module}.ko').write_bytes(
                    b'\x7fELF\0license=GPL\0depends=' + needs.encode()
                    + b'\0name=x\0')
            order = modules.Modules(folder).in_order(['top_disk'], ['none'])
            self.assertEqual([entry[0] for entry in order],
                             ['ring', 'bus', 'top_disk'])
            with self.assertRaises(RunError):
                modules.Modules(folder).in_order(['none'])

    def test_scratch_disk(self):
        with tempfile.TemporaryDirectory() as name:
            made = disk.scratch(Path(name) / 'd', 32 << 20)
            self.assertEqual(made.path.stat().st_size, 32 << 20)
            self.assertLess(made.path.stat().st_blocks, 100)
            with self.assertRaises(RunError) as caught:
                disk.scratch(Path(name) / 'e', 1 << 62)
            self.assertIn('needed', str(caught.exception))
            self.assertFalse((Path(name) / 'e').exists())


class ImageTest(unittest.TestCase):
    """What qemu-img says of an image, and what the user is told."""

    def told(self, said, image='/dev/null'):
        with tempfile.TemporaryDirectory() as name:
            fake = Path(name) / 'qemu-img'
            fake.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\n"
                            'exit 1\n')
            fake.chmod(0o755)
            with self.assertRaises(UsageError) as caught:
                disk.inspect(Path(image), None, fake)
            return str(caught.exception)

    def test_locked(self):
        for reason in ('get "write" lock', 'get shared "write" lock',
                       'get "consistent read" lock', 'lock byte 201'):
            text = self.told(
                f"qemu-img: Could not open '/x': Failed to {reason}\n"
                'Is another process using the image [/x]?')
            self.assertIn('in use by another process', text)

    def test_lock_in_a_name(self):
        for said in ("Could not open '/home/lock/x': Image is corrupt",
                     "Could not open '/block/Failed to get \"write\" lock/x':"
                     ' Permission denied'):
            text = self.told(f'qemu-img: {said}')
            self.assertEqual(text, f'IMAGE=/dev/null: {said}')


class Wire:
    """A socket that has all its input at once, then ends."""

    def __init__(self, data):
        self.data, self.sent = data, b''

    def settimeout(self, seconds):
        pass

    def sendall(self, data):
        self.sent += data

    def recv(self, size):
        data, self.data = self.data[:7], self.data[7:]
        return data


class ProtocolTest(unittest.TestCase):
    def test_qmp(self):
        wire = Wire(b'{"QMP": {}}\n{"return": {}}\n{"event": "STOP"}\n'
                    b'{"return": [1]}\n{"error": {"desc": "no"}}\n')
        monitor = qmp.Qmp(wire)
        monitor.handshake(1)
        self.assertEqual(monitor.command('x', some_name=1), [1])
        self.assertIn(b'{"some-name": 1}', wire.sent)
        self.assertEqual(monitor.events, [{'event': 'STOP'}])
        with self.assertRaisesRegex(RunError, 'y: no'):
            monitor.command('y')
        with self.assertRaisesRegex(RunError, 'closed'):
            monitor.command('z')

    def test_channel(self):
        channel = Channel(Wire(
            b'\xff\0noise\nWelcome to firmware!\nready 6.1.0\r\n'
            b'2 0 H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==\n'
            b'1 5 H4sIAAAAAAAAAwMAAAAAAAAAAAA=\n'))
        while channel.pump(1):
            pass
        self.assertEqual(channel.release, '6.1.0')
        self.assertEqual(channel.answers, {2: (0, 'hello'), 1: (5, '')})

    def test_garbled_answer(self):
        channel = Channel(Wire(b'1 0 H4sIAAAA!\n'))
        with self.assertRaisesRegex(RunError, 'garbled'):
            while channel.pump(1):
                pass


if __name__ == '__main__':
    tap.main()
