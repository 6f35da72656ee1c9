# SPDX-License-Identifier: GPL-2.0-or-later
"""One whole run: choose, boot, look, work, judge.  report.py prints it."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import accel, disk, image, rings, workload
from .errors import RunError
from .machine import Machine, spread
from .survey import refresh, survey


@dataclass
class RunResult:
    """What report.page() wants to know of any run."""
    options: object
    qemu_version: str = ''
    release: str = ''
    disk: object = None             # survey.GuestDisk or its like
    iothread_seconds: dict = field(default_factory=dict)
    iops: dict = field(default_factory=dict)        # queues: IOPS, in a guest
    verified: object = None
    failures: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    seconds: float = 0


@dataclass
class Result(RunResult):
    accelerator: object = None
    image: object = None            # disk.Disk
    mapping: list = field(default_factory=list)     # queues by IOThread
    rings: list = field(default_factory=list)       # rings.Figure


def run(options, say):
    """Boot, work and judge; a Result, whose failures may not be empty."""
    started = time.monotonic()
    result = Result(options, notes=list(options.notes))
    with run_folder(options.build / 'run') as folder:
        machine, sides = build(options, result, folder, say)
        with machine:
            say(f'booting Linux {result.release} with {options.vcpus} vCPUs '
                f'({result.accelerator.name.upper()})')
            machine.start(say=say)
            work(machine, result, sides, say)
            machine.shutdown()
        drive_rings(result, say)
    judge(result)
    result.seconds = time.monotonic() - started
    return result


def shell(options, say):
    """The same machine for a person; QEMU's exit status."""
    result = Result(options)
    with run_folder(options.build / 'run') as folder:
        machine, _ = build(options, result, folder, say, console='stdio')
        say(f'/dev/vda: {result.image.describe()}; what you write to it is '
            'thrown away at the end')
        say('Ctrl-A X ends the guest, Ctrl-A C switches to QEMU\'s monitor')
        say(f'booting Linux {result.release}')
        with machine:
            return machine.run_on_terminal()


def build(options, result, folder, say, console=None):
    """The machine, not started, and its disks by id."""
    result.qemu_version = version(options.qemu)
    say('choosing the accelerator')
    result.accelerator = accel.choose(options.accel, options.qemu)
    sides = make_disks(options, folder, bool(console) or not rates(result))
    result.image = sides['many']
    guest = image.guest_image(options.build / 'guest', say)
    result.release = guest.release
    machine = Machine(options.qemu, guest, folder, result.accelerator.name,
                      options.vcpus, options.machine, console=console)
    machine.add_iothreads(options.iothreads)
    result.mapping = spread(options.queues, options.iothreads)
    machine.add_disk('many', sides['many'], options.queues, result.mapping)
    if 'one' in sides:
        machine.add_disk('one', sides['one'], 1, [[0]])
    return machine, sides


def make_disks(options, folder, only_one):
    """'many': the disk; 'one': one like it, to measure with one queue."""
    names = ['many'] if only_one or options.queues == 1 else ['many', 'one']
    if not options.image:
        disk.need_space(folder, disk.SCRATCH_SIZE * len(names))
        return {name: disk.scratch(folder / f'{name}.raw') for name in names}
    qemu_img = disk.find_qemu_img(options.qemu)
    return {name: disk.overlay(options.image, options.format,
                               folder / f'{name}.qcow2', qemu_img)
            for name in names}


def rates(result):
    """Whether rates in the guest say something about the disk."""
    return result.accelerator.name == 'kvm'


def work(machine, result, sides, say):
    options = result.options
    disks = survey(machine)
    if set(disks) != set(sides):
        raise RunError(f'the guest sees the disks {sorted(disks)} instead of '
                       f'{sorted(sides)}')
    result.disk = disks['many']
    say('one queue after the other: its interrupt, its IOThread')
    workload.trace(machine, result.disk)
    # Linux uses a scheduler for one queue, but not for several.
    machine.run('for f in /sys/block/vd*/queue/scheduler; do '
                'echo none > $f; done')
    if rates(result):
        measure(machine, result, disks, sides, say)
    say('verified writes from every CPU')
    result.verified = workload.write_and_verify(
        machine, result.disk, options.vcpus,
        min(workload.VERIFY_BYTES, result.image.size))
    refresh(machine, result.disk)
    result.iothread_seconds = {
        name: time / 1e9 for name, time in machine.iothread_times().items()}


def measure(machine, result, disks, sides, say):
    """Rates in the guest: with one queue, then with all."""
    options = result.options
    for name, side in sides.items():
        if not side.backing:
            workload.fill(machine, disks[name], side.size)
    for name in sorted(sides, reverse=True):        # 'one' first
        count = len(disks[name].queues)
        say(f'random reads on {plural(count, "queue")}, '
            f'{options.runtime} s')
        result.iops[count] = workload.random_read_iops(
            machine, disks[name], options.vcpus, sides[name].size,
            options.runtime)


def drive_rings(result, say):
    """Rates without the guest; a note where that cannot be."""
    try:
        result.rings = rings.measure(result.options, result.image, say)
    except rings.BenchError as error:
        result.notes.append(f'No rates without the guest: {error}')


def judge(result):
    """Fill in failures and notes."""
    options, queues = result.options, result.disk.queues
    expected = min(options.queues, options.vcpus)
    fail = result.failures.append
    if len(queues) != expected:
        fail(f'the guest uses {plural(len(queues), "queue")}, not {expected}')
    elif expected < options.queues:
        result.notes.append(
            f'Linux uses {expected} of the {options.queues} queues: no more '
            f'than it has CPUs')
    for queue in queues:
        if queue.vector is None or queue.vector.entry is None:
            fail(f'queue {queue.number} has no MSI-X vector')
        elif queue.vector.count == 0:
            fail(f'queue {queue.number} never raised its interrupt')
        if queue.shared:
            fail(f'queue {queue.number} shares its interrupt')
        if queue.others:
            fail(f'requests on queue {queue.number} raised the interrupts '
                 f'of {queue.others}')
        mapped = mapped_iothread(result.mapping, queue.number)
        if queue.iothread != mapped:
            fail(f'queue {queue.number} is mapped to {mapped}, but '
                 f'{queue.iothread} did the work')
    for error in result.verified.errors:
        fail(f'verification: {error}')
    if options.image:
        result.notes.append(f'{disk.show_path(options.image)} was only read; '
                            'writes went to an overlay, now deleted')
    if result.rings and {f.program for f in result.rings} == {'ours'}:
        result.notes.append('make stock builds the untouched QEMU to compare '
                            'with')
    processors = len(os.sched_getaffinity(0))
    if result.rings and processors <= options.iothreads:
        result.notes.append(
            f'{plural(processors, "processor")} for '
            f'{plural(options.iothreads, "IOThread")} and the driver: they '
            'bound the IOPS, not the CPU time of a request')


def mapped_iothread(mapping, queue):
    return next(f'iothread{number}' for number, queues in enumerate(mapping)
                if queue in queues)


def version(qemu):
    """'10.0.13 (qemu-mq)', which also proves that the binary starts."""
    try:
        done = subprocess.run([qemu, '--version'], capture_output=True,
                              text=True, timeout=30, check=False)
    except OSError as error:
        raise RunError(f'QEMU={qemu} does not run: {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise RunError(f'QEMU={qemu} --version does not end') from None
    match = re.match(r'QEMU emulator version (\S+(?: \(.*\))?)', done.stdout)
    if done.returncode or not match:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RunError(f'QEMU={qemu} is no QEMU'
                       + (f': {said[0]}' if said else ''))
    return match[1]


@contextlib.contextmanager
def run_folder(parent):
    """A folder for one run, removed at its end; the logs stay beside it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = parent / str(os.getpid())
    folder.mkdir()
    try:
        yield folder
    finally:
        for log in ('console.log', 'qemu.log'):
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder / log, parent / log)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent):
    """Remove what killed runs have left."""
    for folder in parent.glob('[0-9]*'):
        if not Path('/proc', folder.name).exists() or \
                folder.name == str(os.getpid()):
            shutil.rmtree(folder, ignore_errors=True)


def plural(count, noun):
    return f'{count} {noun}' + ('' if count == 1 else 's')
