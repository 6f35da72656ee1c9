# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell of the benchmark: a machine, its disk, and the load on it."""

import contextlib
import dataclasses
import glob
import json
import os
import shutil
import subprocess
import tempfile

import callgrind
import disks
from qemu import BenchError, Qemu
from virtio_blk import VirtioBlk
import xen_blk

HERE = os.path.dirname(os.path.abspath(__file__))
RING_SIZE = 1024
PCI_SLOT = 4
TMPFS = '/dev/shm'
POLL_NS = 1000000000    # longer than a driver that gets a processor pauses


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is run; everything but the QEMU that runs it."""
    backend: str = 'null-co'
    write: bool = False
    depth: int = 256
    queues: int = 1
    poll: bool = False          # IOThreads poll and the driver never kicks
    indirect: bool = False
    pin: str = ''               # IOThreads: 'spread' over CPUs, or 'same'
    xen: bool = False           # a Xen PV disk, not virtio-blk
    persistent: bool = True     # its grants, where it can
    tmpfs: bool = False         # where the image lies

    @property
    def name(self):
        words = [self.backend, 'write' if self.write else 'read']
        if self.xen and self.depth < xen_blk.RING_ENTRIES:
            words.append(f'depth {self.depth}')
        elif self.xen:
            words.append('full ring')
        else:
            words.append(f'depth {self.depth}')
        if self.xen and not self.persistent:
            words.append('plain grants')
        if self.indirect:
            words.append('indirect')
        return (' '.join(words) + f', {self.queues} '
                + ('ring' if self.xen else 'queue')
                + ('s' if self.queues > 1 else '')
                + (', tmpfs' if self.tmpfs else ''))

    def connect(self, qemu):
        """Act as the driver of the disk; returns it, ready for requests."""
        if self.xen:
            return xen_blk.XenBlk(qemu, self.queues, self.depth,
                                  self.indirect, self.persistent)
        return VirtioBlk(qemu, PCI_SLOT, self.queues, RING_SIZE, self.depth,
                         self.indirect)

    @property
    def chardevs(self):
        return ('xen',) if self.xen else ()


class Bench:
    """What all runs share: the output folder, disks, the ring driver."""

    def __init__(self, output):
        self.output = output
        try:
            os.makedirs(output, exist_ok=True)
        except OSError as e:
            raise BenchError(f'{output}: {e.strerror}') from None
        self.driver = self.program('ring-driver')
        self.disks = disks.Disks(output, os.path.dirname(output))
        self.tmpfs_disks = None

    def close(self):
        """Remove what lies in memory; images on a disk stay."""
        if self.tmpfs_disks:
            shutil.rmtree(self.tmpfs_disks.folder, ignore_errors=True)

    def _disks(self, s):
        if not s.tmpfs:
            return self.disks
        if not self.tmpfs_disks:
            if not os.path.isdir(TMPFS):
                raise BenchError(f'{TMPFS}: there is no such folder for '
                                 'images in memory')
            self.tmpfs_disks = disks.Disks(
                tempfile.mkdtemp(prefix='qemu-mq-bench-', dir=TMPFS),
                self.disks.programs)
        return self.tmpfs_disks

    def image(self, s):
        """Path of a scenario's raw image, which is made if it is not there."""
        return self._disks(s).raw()

    def program(self, name):
        """Path of the C program NAME*.c, compiled unless that is done."""
        sources = glob.glob(os.path.join(HERE, name + '*.[ch]'))
        program = os.path.join(self.output, name)
        if os.path.exists(program) and os.path.getmtime(program) >= max(
                map(os.path.getmtime, sources)):
            return program
        compiler = shutil.which('cc')
        if compiler is None:
            raise BenchError('a C compiler is missing: install the Debian '
                             'package "gcc"')
        if subprocess.run([compiler, '-O2', '-g', '-std=gnu11', '-Wall',
                           '-o', program,
                           *(s for s in sources if s.endswith('.c'))],
                          check=False).returncode:
            raise BenchError(f'{name} does not compile')
        return program

    # --- Running ---

    def machine(self, binary, s, ring_size=RING_SIZE, iothreads=None):
        """QEMU's options for a machine with the disk in it."""
        iothreads = iothreads or s.queues
        options = self._disks(s).options(binary, s.backend)
        for i in range(iothreads):
            options += ['-object', f'iothread,id=iothread{i},poll-max-ns=0']
        if s.xen:
            return options + self._xen_disk(s)
        return options + ['-device', json.dumps(
            {'driver': 'virtio-blk-pci', 'id': 'blk', 'drive': 'disk',
             'addr': str(PCI_SLOT), 'num-queues': s.queues,
             'queue-size': ring_size,
             'iothread-vq-mapping': self._mapping(iothreads)})]

    def start(self, binary, s, **arguments):
        """A Qemu with the disk in it."""
        try:
            qemu = Qemu(binary, self.machine(binary, s),
                        chardevs=s.chardevs, **arguments)
        finally:
            self._disks(s).forget_new()
        try:
            disks.finish(qemu, s.backend)
        except BaseException:
            qemu.close()
            raise
        return qemu

    @staticmethod
    def _mapping(iothreads):
        return [{'iothread': f'iothread{i}'} for i in range(iothreads)]

    def _xen_disk(self, s):
        """Its options.  With one ring, the base knows all of them, too."""
        disk = {'driver': 'xen-disk', 'vdev': 'xvda', 'drive': 'disk'}
        if s.queues > 1:
            disk.update({'num-queues': s.queues,
                         'iothread-vq-mapping': self._mapping(s.queues)})
        else:
            disk['iothread'] = 'iothread0'
        return ['-nic', 'none', '-device', 'xen-standin,chardev=xen',
                '-device', json.dumps(disk)]

    def drive(self, qemu, disk, options):
        """Run the ring driver on a device; returns its report."""
        threads = [qemu.thread_stat(tid) for tid in qemu.iothreads().values()]
        run = subprocess.run(
            [self.driver, *disk.driver_options(), *options,
             *('--thread-stat=' + path for path in threads)],
            pass_fds=[qemu.memory_fd, *disk.fds],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if run.returncode:
            qemu.check_alive()
            raise BenchError(run.stderr.decode().strip())
        report = json.loads(run.stdout)
        if report['failed']:
            raise BenchError(f"{report['failed']} of {report['requests']} "
                             'requests failed')
        return report

    def _profile(self, binary, s, requests):
        """One run under callgrind."""
        folder = os.path.join(self.output, f'callgrind.{os.getpid()}')
        os.makedirs(folder)
        try:
            with self.start(
                    binary, s, patience=300,
                    wrapper=callgrind.valgrind_command(folder)) as qemu:
                disk = s.connect(qemu)
                self.drive(qemu, disk,
                           ['--batch', '--pause-ns=200000',
                            f'--requests={requests}']
                           + (['--write'] if s.write else []))
                qemu.quit()
            return callgrind.read_iothreads(folder)
        finally:
            shutil.rmtree(folder)

    def count(self, binary, s, short=2048, long=6144):
        """Instructions and atomics per request of @s."""
        return callgrind.Cost(self._profile(binary, s, short),
                              self._profile(binary, s, long), long - short)

    def memory_kib(self, binary, queues, ring_size=256):
        """Private memory of QEMU: (at DRIVER_OK, after full rings)."""
        s = Scenario(queues=queues, depth=ring_size, indirect=True)
        with Qemu(binary, self.machine(binary, s, ring_size, 1)) as qemu:
            disk = VirtioBlk(qemu, PCI_SLOT, queues, ring_size, s.depth, True)
            ready = qemu.settled_kib()
            self.drive(qemu, disk,
                       ['--batch', '--pause-ns=20000',
                        f'--requests={queues * ring_size * 4}'])
            used = qemu.settled_kib()
            qemu.quit()
        return ready, used

    def xen_memory_kib(self, binary, rings, seconds):
        """Private memory with a Xen disk: (after full rings of requests of
        all sizes, after @seconds without one, of the machine's clock)."""
        s = Scenario(xen=True, queues=rings, persistent=rings > 1)
        with self.start(binary, s) as qemu:
            with contextlib.closing(s.connect(qemu)) as disk:
                self.drive(qemu, disk,
                           ['--batch', '--pause-ns=20000',
                            f'--requests={rings * xen_blk.RING_ENTRIES * 8}'])
                used = qemu.settled_kib()
                for _ in range(seconds):
                    qemu.qtest('clock_step 1000000000')
                    # Threads take a look when they wake up.
                    qemu.qmp('query-iothreads')
                idle = qemu.settled_kib()
                qemu.quit()
        return used, idle


class Session:
    """A scenario set up on one QEMU, at rest between measurements."""

    def __init__(self, bench, binary, s):
        self.bench, self.s = bench, s
        self.runs = 0
        self.qemu = bench.start(binary, s)
        try:
            self._pin()
            self.disk = s.connect(self.qemu)
        except BaseException:
            self.qemu.close()
            raise
        self.options = ['--write'] if s.write else []
        self.options += ['--latencies'] if s.depth == 1 \
            else ['--pause-ns=20000']
        self.options += [] if s.poll else ['--interrupts']

    def _pin(self):
        cpus = sorted(os.sched_getaffinity(0))
        if self.s.pin:
            for i, tid in enumerate(self.qemu.iothreads().values()):
                cpu = i % len(cpus) if self.s.pin == 'spread' else 0
                os.sched_setaffinity(tid, {cpus[cpu]})

    def set_polling(self, ns):
        """How long each IOThread polls."""
        for name in self.qemu.iothreads():
            self.qemu.qmp('qom-set', path=f'/objects/{name}',
                          property='poll-max-ns', value=ns)

    def _grant_calls(self):
        return sum(self.disk.grant_stats()) if self.s.xen else 0

    def measure(self, ms):
        """Load the disk for @ms milliseconds; returns a dict of figures."""
        if self.s.poll:
            self.set_polling(POLL_NS)
        calls = self._grant_calls()
        self.runs += 1
        report = self.bench.drive(self.qemu, self.disk, [
            f'--ms={ms}', f'--warmup-ms={max(ms // 5, 10)}',
            f'--seed={self.runs}', *self.options])
        if self.s.poll:
            self.set_polling(0)
        requests = report['requests']
        if not requests:        # the machine is busy: look for longer
            return self.measure(2 * ms)
        figures = {'iops': requests * 1e9 / report['elapsed_ns'],
                   'cpu_us': sum(report['thread_cpu_ns']) / requests / 1e3,
                   'kicks': report['kicks'] / requests,
                   'interrupts': report['interrupts'] / requests}
        if self.s.xen:
            figures['grant_calls'] = (self._grant_calls() - calls) \
                / (requests + report['warmup_requests'])
        if 'latency_ns' in report:
            figures['latency_us'] = report['latency_ns']['p50'] / 1e3
        return figures

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disk.close()
        self.qemu.close()
