#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the benchmark's parts: what it counts is what there is to count."""

import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.dom.minidom

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import beside_fio                                   # noqa: E402
import callgrind                                    # noqa: E402
import chart                                        # noqa: E402
import disks                                        # noqa: E402
import kernel                                       # noqa: E402
import kinds                                        # noqa: E402
import qemu                                         # noqa: E402
import sharing                                      # noqa: E402
import stats                                        # noqa: E402
import xen_stock                                    # noqa: E402
from qemu import BenchError, Qemu                   # noqa: E402
from scenario import Bench, Scenario, Session       # noqa: E402

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
STOCK = os.environ.get('STOCK_QEMU_BINARY', '')

PROFILE = """\
# callgrind format
positions: line
events: Ir Dr Ge
fn=(1) iothread_run
10 5 0 1
+3 2
calls=1 20
+1 900 0 90
cfn=(2) leaf.constprop.0
calls=7 20
* 1000 9 99
fn=(2)
* 40 1 4
-2 1
fn=(1)
8 10
totals: 58 1 5
"""


class CallgrindTest(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'callgrind.out-01')
            with open(path, 'w') as f:
                f.write(text)
            return (callgrind.read_profile(path),
                    callgrind.read_iothreads(folder))

    def test_self_cost_without_callees(self):
        profile, iothreads = self.read(PROFILE)
        self.assertEqual(profile.ir, {'iothread_run': 17, 'leaf': 41})
        self.assertEqual(profile.ge, {'iothread_run': 1, 'leaf': 4})
        self.assertEqual(iothreads.total(), (58, 5))

    def test_other_threads_do_not_count(self):
        with self.assertRaisesRegex(BenchError, 'no IOThread'):
            self.read(PROFILE.replace('iothread_run', 'main'))

    def test_atomics_must_have_been_counted(self):
        with self.assertRaisesRegex(BenchError, 'atomics'):
            self.read(PROFILE.replace('Ir Dr Ge', 'Ir Dr Dw'))

    def test_cost_is_the_difference(self):
        short, _ = self.read(PROFILE)
        long = callgrind.Profile()
        for _ in range(3):
            long.add(short)
        cost = callgrind.Cost(short, long, 4)
        self.assertEqual((cost.instructions, cost.atomics), (29, 2.5))
        self.assertEqual(cost.functions[0], ('leaf', 20.5, 2))


class StatsTest(unittest.TestCase):
    def test_ratio_is_of_pairs(self):
        r = stats.ratio([(1, 2), (10, 20), (100, 50)])
        self.assertEqual((r.median, r.low, r.high), (2, 0.5, 2))
        self.assertEqual((r.stock, r.ours), (10, 20))

    def test_nothing_to_divide_by(self):
        self.assertIsNone(stats.ratio([(0, 1), (0, 2)]))

    def test_turns(self):
        turns = []
        pairs = stats.alternate(3, lambda: turns.append('s') or 1,
                                lambda: turns.append('o') or 2)
        self.assertEqual(''.join(turns), 'soosso')
        self.assertEqual(pairs, [(1, 2)] * 3)


class ChartTest(unittest.TestCase):
    def test_well_formed(self):
        figures = {'median': 0.5, 'low': 0.1, 'high': 90}
        svg = chart.draw({
            'date': '<now>', 'cpus': 2,
            'counts': [{'scenario': 'a & b',
                        'stock': {'instructions': 9, 'atomics': 0.5},
                        'ours': {'instructions': 5000, 'atomics': 0}}],
            'throughput': [{'scenario': 'c', 'cpu_us': figures}],
            'kinds': [{'kind': 'd', 'where': ', disk', 'queues': 1,
                       'program': title, 'cpu_us': 1.5}
                      for title in ('stock', 'ours', 'peer')],
            'scaling': [{'program': 'ours', 'queues': 2, 'pin': 'same',
                         **figures}]})
        document = xml.dom.minidom.parseString(svg)
        self.assertEqual(len(document.getElementsByTagName('circle')), 2)
        self.assertEqual(svg.count(' 1.50</text>'), 3)


class KindsTest(unittest.TestCase):
    def test_rows_compare_within_a_round(self):
        results = {
            ('stock', 1): [{'iops': 10, 'cpu_us': 4}] * 3,
            ('stock', 2): [{'iops': 20, 'cpu_us': 8}] * 3,
            ('ours', 1): [{'iops': i, 'cpu_us': 1} for i in (100, 200, 900)],
            ('ours', 2): [{'iops': 2 * i, 'cpu_us': 2}
                          for i in (100, 200, 900)]}
        row = kinds.row_of(kinds.KINDS[0], '', ('ours', 2), results)
        self.assertEqual((row['iops'], row['iops_to_one']), (400, 2))
        self.assertEqual((row['cpu_us_to_one'], row['cpu_us_to_stock']),
                         (2, 0.25))

    def test_row_without_stock(self):
        results = {('ours', 1): [{'iops': 2000, 'cpu_us': 4}]}
        row = kinds.row_of(kinds.KINDS[0], '', ('ours', 1), results)
        self.assertNotIn('cpu_us_to_stock', row)
        with unittest.mock.patch('builtins.print') as show:
            kinds.print_rows([row], ['stock', 'ours'])
        self.assertEqual(show.call_args[0][0].split()[-7:],
                         ['-', '2.0', '-', '4.00', '-', '1.00', '1.00'])

    def test_each_kind_is_a_disk_with_a_name(self):
        titles = {k.title for k in kinds.KINDS}
        self.assertEqual(len(titles), len(kinds.KINDS))
        for kind in kinds.KINDS:
            self.assertEqual(kind.scenario(2).tmpfs,
                             kind.backend not in disks.NO_IMAGE)


FIO = """\
#!/bin/sh
echo fio: a note
echo '{"jobs": [{"job_runtime": 500, "usr_cpu": 10, "sys_cpu": 40,' \
     '"read": {"total_ios": 1000}}]}'
"""


class FioTest(unittest.TestCase):
    def run_with(self, program):
        with tempfile.TemporaryDirectory() as folder, \
             unittest.mock.patch.dict(os.environ, PATH=folder + ':/bin'), \
             unittest.mock.patch('shutil.which', side_effect=lambda name: (
                 path if os.path.exists(path) else None)):
            path = os.path.join(folder, 'fio')
            if program:
                with open(path, 'w') as f:
                    f.write(program)
                os.chmod(path, 0o755)
            return beside_fio.fio('/no/such/file', 32, 500)

    def test_time_of_a_read(self):
        figures = self.run_with(FIO)
        self.assertAlmostEqual(figures['user_us'], 50)
        self.assertAlmostEqual(figures['kernel_us'], 200)

    def test_no_fio(self):
        with self.assertRaisesRegex(BenchError, '^fio is missing: '):
            self.run_with(None)

    def test_fio_fails(self):
        with self.assertRaisesRegex(BenchError, '^fio: no such file$'):
            self.run_with('#!/bin/sh\necho no such file >&2\nexit 1\n')

    def test_rows_compare_within_a_round(self):
        rounds = [{'fio': {'user_us': k, 'kernel_us': k},
                   'ours': {'user_us': 2 * k, 'kernel_us': k},
                   'polling': {'user_us': k, 'kernel_us': 3 * k}}
                  for k in (1, 2, 100)]
        row = beside_fio.row_of(rounds)
        self.assertEqual((row['ours_to_fio'], row['polling_to_fio']), (1.5, 2))
        self.assertEqual((row['ours_user_us'], row['fio_kernel_us']), (4, 2))

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_iothread(self):
        with tempfile.TemporaryDirectory() as folder, \
             Session(Bench(folder), QEMU, Scenario(depth=32)) as session:
            figures = beside_fio.IOThread(session).measure(50, 0)
            self.assertGreater(sum(figures.values()), 0)


class PeerTest(unittest.TestCase):
    def test_accelerator(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, status in ('tcg', 1), ('qtest', 0):
                path = os.path.join(folder, name)
                with open(path, 'w') as f:
                    f.write(f'#!/bin/sh\nexit {status}\n')
                os.chmod(path, 0o755)
                self.assertEqual(qemu.accelerator(path), name)

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_accelerator_of_what_was_built(self):
        self.assertEqual(qemu.accelerator(QEMU), 'qtest')

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_processor_that_halts(self):
        run = subprocess.run([QEMU, '-accel', 'help'], check=True,
                             stdout=subprocess.PIPE)
        if b'tcg' not in run.stdout:
            self.skipTest('this QEMU has no TCG')
        with tempfile.TemporaryDirectory() as folder, \
             unittest.mock.patch('qemu.accelerator', return_value='tcg'), \
             Session(Bench(folder), QEMU, Scenario()) as session:
            self.assertGreater(session.measure(20)['iops'], 0)


class ProgramsTest(unittest.TestCase):
    """The C programs, and all of it on the QEMU that was built."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.bench = Bench(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def uses(self, trace, marker=b'1000\n'):
        read_end, write_end = os.pipe()
        os.write(write_end, trace)
        os.close(write_end)
        marker_end, told = os.pipe()
        os.write(told, marker)
        os.close(told)
        run = subprocess.run(
            [self.bench.program('cache-line-users'), str(read_end)],
            pass_fds=[read_end], stdin=marker_end, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, check=False)
        os.close(read_end)
        os.close(marker_end)
        return run.returncode, sorted(run.stdout.decode().splitlines())

    def test_cache_line_users(self):
        status, lines = self.uses(
            b'--1--   SCHED[3]:  acquired lock (x)\n'
            b'I  400,2\n S 2000,8\n'            # before the first mark
            b'I  402,2\n S 1000,1\n'            # the mark
            b'I  404,2\n S 203c,8\n'            # into the next line
            b'I  406,2\n L 3000,8\n'            # nobody writes that one
            b'--1--   SCHED[4]: releasing lock (x)\n'
            b'--1--   SCHED[4]:  acquired lock (x)\n'
            b'I  404,2\n M 2000,8\n M 2008,8\n'
            b'I  408,2\n L 2040,4\n'
            b'I  402,2\n S 1000,1\n'
            b'I  40a,2\n S 2000,8\n')           # after the last
        self.assertEqual(status, 0)
        self.assertEqual(lines, ['80 3 404 w 1', '80 4 404 w 2',
                                 '81 3 404 w 1', '81 4 408 r 1'])

    def test_trace_cut_short(self):
        self.assertEqual(self.uses(b'I  400,2\n S 1000,8\n'), (1, []))

    def test_driver_refuses_what_it_does_not_know(self):
        for options in (['--nonsense'], ['--depth=x'], ['--depth=-1'], []):
            run = subprocess.run([self.bench.driver, *options],
                                 stderr=subprocess.PIPE, check=False)
            self.assertEqual(run.returncode, 1, options)
            self.assertEqual(run.stderr.count(b'\n'), 1, options)

    def test_file_writers(self):
        program = self.bench.program('file-writers')
        with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
            for job in kernel.JOBS:
                figures = kernel.measure(program, folder, job, 2, 10)
                self.assertGreater(figures['kiops'], 0)
                self.assertGreater(figures['cpu_us'], 0)
            self.assertEqual(os.listdir(folder), [])

    def test_file_writers_refuse(self):
        program = self.bench.program('file-writers')
        with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
            for place, job, threads, ms in (
                    ('/no/such/folder', 'write', 1, 1),
                    (folder, 'read', 1, 1), (folder, 'write', 0, 1),
                    (folder, 'write', 257, 1), (folder, 'write', 'x', 1),
                    (folder, 'write', 1, -1)):
                with self.assertRaisesRegex(BenchError, '^file-writers: .+$'):
                    kernel.measure(program, place, job, threads, ms)

    def test_file_rows_compare_within_a_round(self):
        rounds = [{n: {'kiops': k * n, 'cpu_us': 1 / k} for n in (1, 2)}
                  for k in (1, 5, 100)]
        self.assertEqual(kernel.row_of(rounds, 2), {
            'threads': 2, 'kiops': 10, 'kiops_to_one': 2,
            'cpu_us': 0.2, 'cpu_us_to_one': 1})

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_load(self):
        for s in (Scenario(queues=2, depth=32), Scenario(depth=1, poll=True),
                  Scenario(write=True, depth=256, indirect=True),
                  Scenario('throttle', depth=32),
                  Scenario('limits', depth=32),
                  Scenario('mirror', depth=32, write=True),
                  Scenario('bitmap', depth=32, write=True)):
            with self.subTest(s.name), Session(self.bench, QEMU, s) as session:
                figures = session.measure(20)
                self.assertGreater(figures['iops'], 0)
                self.assertLessEqual(figures['kicks'], 1)
                self.assertEqual(figures['interrupts'] > 0, not s.poll)

    @unittest.skipUnless(QEMU and os.path.exists('qemu-img'),
                         'no QEMU with tools')
    def test_new_image(self):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(folder)
            with Session(bench, QEMU, Scenario('qcow2-empty', True, 32)) as s:
                self.assertGreater(s.measure(20)['iops'], 0)
                self.assertFalse(any('new' in name
                                     for name in os.listdir(folder)))

    def test_images_in_memory_go(self):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(folder)
            memory = bench._disks(Scenario(tmpfs=True)).folder
            self.assertTrue(os.path.isdir(memory))
            bench.close()
            self.assertFalse(os.path.exists(memory))

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_xen_load(self):
        devices = subprocess.run([QEMU, '-machine', 'none', '-device', 'help'],
                                 stdout=subprocess.PIPE, check=True).stdout
        if b'xen-standin' not in devices:
            self.skipTest('this QEMU has no stand-in for Xen')
        for s in (Scenario(xen=True, queues=2),
                  Scenario(xen=True, write=True, persistent=False),
                  Scenario(xen=True, indirect=True, depth=1)):
            with self.subTest(s.name), Session(self.bench, QEMU, s) as session:
                figures = session.measure(20)
                self.assertGreater(figures['iops'], 0)
                self.assertGreater(figures['interrupts'], 0)
                self.assertEqual(session.disk.persistent, s.persistent)

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_more_requests_than_descriptors(self):
        with Session(self.bench, QEMU, Scenario(depth=512)) as session, \
             self.assertRaisesRegex(BenchError, '512 .* ring of 1024'):
            session.measure(1)

    @unittest.skipUnless(QEMU, 'QTEST_QEMU_BINARY is not set')
    def test_qemu_that_ends(self):
        with self.assertRaisesRegex(BenchError, 'status 1: .*no-such-option'):
            Qemu(QEMU, ['-no-such-option'])

    def test_no_program(self):
        with self.assertRaisesRegex(BenchError, '/nowhere: no such program'):
            Session(self.bench, '/nowhere', Scenario())


@unittest.skipUnless(STOCK, 'the untouched base was not built')
class StockXenTest(unittest.TestCase):
    """The stand-in for Xen is compiled for a base without our patches."""

    def test_stand_in(self):
        with tempfile.TemporaryDirectory() as folder:
            program = xen_stock.build(STOCK, folder)
            devices = subprocess.run([program, '-device', 'help'], check=True,
                                     capture_output=True, text=True).stdout
            self.assertIn('"xen-standin"', devices)


class SharingTest(unittest.TestCase):
    def test_guest_memory(self):
        memory = sharing.GuestMemory(
            '1000-2000 rw-s 00003000 00:01 7 /memfd:guest-memory (deleted)\n'
            '9000-d000 rw-s 00000000 00:01 7 /memfd:guest-memory (deleted)\n'
            'e000-f000 r--p 00000000 00:01 8 /bin/true\n')
        self.assertEqual(memory.whole(0x3010), 0xc010)
        self.assertEqual(memory.everywhere(0x3010), [0x1010, 0xc010])
        self.assertEqual(memory.everywhere(0x10), [0x9010])
        with self.assertRaises(BenchError):
            sharing.GuestMemory('')

    def test_line(self):
        line = sharing.make_line(0x40, [
            (3, 1, 'w', 1024), (4, 1, 'w', 512), (4, 2, 'r', 256),
            (5, 2, 'r', 256)], {1: 'f', 2: 'g'}, 512)
        self.assertEqual((line.writers, line.readers), (2, 1))
        self.assertEqual((line.writes, line.reads), (3, 1))
        self.assertEqual(line.writes_by_code, {'f': 3})


if __name__ == '__main__':
    unittest.main()
