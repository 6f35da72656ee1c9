# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache lines on which IOThreads meet, and the code that takes them there.

QEMU runs under valgrind's lackey, which prints every load and store;
cache-line-users condenses that to one count for each line, thread and
instruction, between two marks: stores to a word of guest memory that only we
use.  A thread is an IOThread here if it wrote to a queue's ring.

Nothing is sampled and nothing is timed: the C library's code and every atomic
are in it, and the result is the same in every run.
"""

import collections
import dataclasses
import os
import shutil
import subprocess

from qemu import BenchError

MARK = 0x200000         # guest address, between MSI-X words and queues
LINE = 64
REQUESTS_PER_QUEUE = 256


def valgrind_command(trace_fd):
    valgrind = shutil.which('valgrind')
    if valgrind is None:
        raise BenchError('valgrind is missing: install the Debian package '
                         '"valgrind"')
    return [valgrind, '--tool=lackey', '--basic-counts=no', '--trace-mem=yes',
            '--trace-sched=yes', '--fair-sched=yes', f'--log-fd={trace_fd}']


@dataclasses.dataclass
class Line:
    """A cache line that more than one IOThread uses; figures per request."""
    address: int
    writers: int                # IOThreads that write it
    readers: int                # IOThreads that use it without writing
    writes: float
    reads: float
    writes_by_code: dict        # place in the code: writes
    reads_by_code: dict

    def as_json(self):
        return {**dataclasses.asdict(self), 'address': f'{self.address:#x}'}


class Places:
    """Instruction addresses to 'function (file:line)'."""

    def __init__(self, maps):
        """maps: the text of QEMU's /proc/PID/maps."""
        self.bases = {}
        self.ranges = []
        for line in maps.splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith('/'):
                start, end = (int(n, 16) for n in fields[0].split('-'))
                base = self.bases.setdefault(fields[5], start)
                self.ranges.append((start, end, base, fields[5]))

    def resolve(self, addresses):
        """Returns a dict from address to text."""
        result = {}
        by_file = collections.defaultdict(list)
        for address in addresses:
            for start, end, base, path in self.ranges:
                if start <= address < end:
                    by_file[path].append((address, address - base))
                    break
            else:
                result[address] = f'{address:#x}'
        for path, pairs in by_file.items():
            result.update(self._resolve_in(path, pairs))
        return result

    @staticmethod
    def _resolve_in(path, pairs):
        run = subprocess.run(
            ['addr2line', '-f', '-s', '-e', path],
            input=''.join(f'{offset:#x}\n' for _, offset in pairs),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=False)
        lines = run.stdout.splitlines()
        if run.returncode or len(lines) != 2 * len(pairs):
            raise BenchError(f'addr2line cannot read {path}')
        for (address, offset), name, where in zip(pairs, lines[::2],
                                                  lines[1::2]):
            where = where.split(' (')[0]
            if name == '??':
                yield address, f'{os.path.basename(path)}+{offset:#x}'
            elif where.startswith('??'):
                yield address, f'{name} ({os.path.basename(path)})'
            else:
                yield address, f'{name} ({where})'


class Tracer:
    """cache-line-users as a child that reads what valgrind writes."""

    def __init__(self, program, output):
        read_end, self.trace_fd = os.pipe()
        os.set_inheritable(self.trace_fd, True)
        self.output = open(output, 'w+b')
        self.process = subprocess.Popen(
            [program, str(read_end)], pass_fds=[read_end],
            stdin=subprocess.PIPE, stdout=self.output,
            stderr=subprocess.PIPE)
        os.close(read_end)

    def set_marker(self, address):
        self.process.stdin.write(b'%x\n' % address)
        self.process.stdin.close()

    def finish(self):
        """QEMU is gone: returns the lines that were printed."""
        os.close(self.trace_fd)
        self.trace_fd = None
        errors = self.process.stderr.read().decode().strip()
        if self.process.wait():
            raise BenchError(errors)
        self.output.seek(0)
        return self.output.read().decode().splitlines()

    def close(self):
        if self.trace_fd is not None:
            os.close(self.trace_fd)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.output.close()


class GuestMemory:
    """Where a process has guest memory: as a whole, and again page by page
    where it maps grants."""

    def __init__(self, maps):
        self.mappings = []
        for line in maps.splitlines():
            if 'memfd:guest-memory' in line:
                where, _, offset = line.split()[:3]
                start, end = (int(n, 16) for n in where.split('-'))
                self.mappings.append((start, end - start, int(offset, 16)))
        if not self.mappings:
            raise BenchError('QEMU has not mapped its guest memory')

    def whole(self, guest):
        """The address of @guest in the one mapping of all memory."""
        start, _, offset = max(self.mappings, key=lambda m: m[1])
        return start + guest - offset

    def everywhere(self, guest):
        """Its addresses in all mappings."""
        return [start + guest - offset
                for start, size, offset in self.mappings
                if offset <= guest < offset + size]


def trace(bench, binary, s):
    """Run @s; returns (memory map, addresses that only a
    queue's server writes for each queue, printed uses)."""
    output = os.path.join(bench.output, f'uses.{os.getpid()}')
    tracer = Tracer(bench.program('cache-line-users'), output)
    load = ['--batch', '--pause-ns=200000',
            f'--requests={s.queues * REQUESTS_PER_QUEUE}'] \
        + (['--write'] if s.write else [])
    try:
        with bench.start(binary, s, patience=1800,
                         wrapper=valgrind_command(tracer.trace_fd),
                         keep_fds=[tracer.trace_fd]) as qemu:
            disk = s.connect(qemu)
            with open(f'/proc/{qemu.process.pid}/maps') as f:
                maps = f.read()
            memory = GuestMemory(maps)
            bench.drive(qemu, disk, load)
            tracer.set_marker(memory.whole(MARK))
            qemu.mem_write(MARK, 1, 1)
            bench.drive(qemu, disk, load + ['--seed=1'])
            qemu.mem_write(MARK, 1, 1)
        words = [memory.everywhere(word) for word in disk.written_words()]
        return maps, words, tracer.finish()
    finally:
        tracer.close()
        os.unlink(output)


def shared_lines(bench, binary, s):
    """Returns the Lines of @s, most written first."""
    maps, words, printed = trace(bench, binary, s)
    uses = collections.defaultdict(list)
    for text in printed:
        line, thread, pc, kind, count = text.split()
        uses[int(line, 16) * LINE].append(
            (int(thread), int(pc, 16), kind, int(count)))
    iothreads = {thread for addresses in words for address in addresses
                 for thread, _, kind, _ in uses.get(address & -LINE, ())
                 if kind == 'w'}
    if len(iothreads) != s.queues:
        raise BenchError(f'{len(iothreads)} threads serve {s.queues} queues')
    shared = {}
    for address, rows in uses.items():
        rows = [row for row in rows if row[0] in iothreads]
        writers = {row[0] for row in rows if row[2] == 'w'}
        if writers and len({row[0] for row in rows}) > 1:
            shared[address] = rows
    places = Places(maps).resolve({row[1] for rows in shared.values()
                                   for row in rows})
    requests = s.queues * REQUESTS_PER_QUEUE
    return sorted((make_line(address, rows, places, requests)
                   for address, rows in shared.items()),
                  key=lambda line: (-line.writers, -line.writes))


def make_line(address, rows, places, requests):
    by_code = {'w': collections.Counter(), 'r': collections.Counter()}
    threads = {'w': set(), 'r': set()}
    for thread, pc, kind, count in rows:
        by_code[kind][places[pc]] += count / requests
        threads[kind].add(thread)
    return Line(address, len(threads['w']), len(threads['r'] - threads['w']),
                sum(by_code['w'].values()), sum(by_code['r'].values()),
                dict(by_code['w'].most_common()),
                dict(by_code['r'].most_common()))
