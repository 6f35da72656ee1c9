# SPDX-License-Identifier: GPL-2.0-or-later
"""The same disk driven through its rings by a program, with no guest.

A guest's CPUs, emulated ones above all, bound what it gets from a disk.  The
benchmark's driver fills and empties the rings from outside (docs/bench.rst), so
that the figures are the disk's: ours, and the untouched base's where 'make
stock' has built it.
"""

import contextlib
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from .arguments import ROOT
from .disk import MIB

sys.path.insert(0, str(ROOT / 'tests/bench'))
# pylint: disable=wrong-import-position
from qemu import BenchError, Qemu               # noqa: E402
from scenario import Bench, PCI_SLOT, RING_SIZE     # noqa: E402
from virtio_blk import VirtioBlk                # noqa: E402

DEPTH = 128             # requests outstanding in each queue
MAX_QUEUES = 256        # that the driver takes
WINDOWS = 5             # programs take turns: the machine has other work


@dataclass
class Figure:
    """Medians of the windows."""
    program: str        # ours or stock
    queues: int
    iops: float
    cpu_us: float       # of all IOThreads, for a request


class Driven:
    """A QEMU that only this program uses, at rest between two windows."""

    def __init__(self, bench, binary, disk, queues, iothreads):
        self.bench = bench
        self.windows = []
        threads = [f'iothread{n}' for n in range(min(iothreads, queues))]
        arguments = ['-blockdev', json.dumps(node(disk))]
        for thread in threads:
            arguments += ['-object', f'iothread,id={thread},poll-max-ns=0']
        arguments += ['-device', json.dumps({
            'driver': 'virtio-blk-pci', 'drive': 'disk', 'addr': str(PCI_SLOT),
            'num-queues': queues, 'queue-size': RING_SIZE,
            'iothread-vq-mapping': [{'iothread': name} for name in threads]})]
        self.qemu = Qemu(str(binary), arguments)
        try:
            self.disk = VirtioBlk(self.qemu, PCI_SLOT, queues, RING_SIZE,
                                  DEPTH)
        except BaseException:
            self.qemu.close()
            raise

    def close(self):
        self.qemu.close()

    def window(self, ms):
        report = self.bench.drive(self.qemu, self.disk, [
            f'--ms={ms}', f'--warmup-ms={max(ms // 5, 10)}',
            '--pause-ns=20000', '--interrupts'])
        requests = report['requests']
        self.windows.append((requests * 1e9 / report['elapsed_ns'],
                             sum(report['thread_cpu_ns']) / requests / 1e3))

    def figure(self, program, queues):
        iops, cpu_us = map(statistics.median, zip(*self.windows))
        return Figure(program, queues, iops, cpu_us)


def node(disk):
    """The disk's node, for several programs that all read only."""
    words = {**disk.node('disk'), 'read-only': True}
    for key in ('file', 'backing'):
        if key in words:
            words[key] = {**words[key], 'read-only': True}
    return words


def programs(options):
    """(name, binary) of what there is to compare."""
    found = [('ours', options.qemu)]
    stock = options.build / 'stock/qemu-system-x86_64'
    if os.access(stock, os.X_OK) and not stock.samefile(options.qemu):
        found.append(('stock', stock))
    return found


def write_all(disk):
    """Give a scratch image data, so that reads reach them and not holes."""
    if disk.backing:
        return
    data = os.urandom(MIB)
    with open(disk.path, 'r+b') as file:
        for _ in range(disk.size // MIB):
            file.write(data)
        os.fsync(file.fileno())


def measure(options, disk, say):
    """Figures of every program with one queue and with all.

    Raises BenchError, in one line, where a program cannot be driven.
    """
    counts = sorted({1, min(options.queues, MAX_QUEUES)})
    bench = Bench(str(options.build / 'bench'))
    write_all(disk)
    cells = [(program, binary, count) for program, binary in programs(options)
             for count in counts]
    say(f'the same disk driven through its rings, {options.runtime} s for '
        f'each of {len(cells)} figures')
    with contextlib.ExitStack() as stack:
        driven = {}
        for program, binary, count in cells:
            driven[program, count] = stack.enter_context(contextlib.closing(
                Driven(bench, Path(binary), disk, count, options.iothreads)))
        for _ in range(WINDOWS):
            for one in driven.values():
                one.window(max(options.runtime * 1000 // WINDOWS, 1))
        return [one.figure(*key) for key, one in driven.items()]
