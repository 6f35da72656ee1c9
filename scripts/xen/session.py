# SPDX-License-Identifier: GPL-2.0-or-later
"""One whole run: boot Xen, look, work, judge.  report.py prints it."""

import re
import time
from dataclasses import dataclass

from guest import workload
from guest.session import RunResult, plural, run_folder, version

from .domu import DomU
from .images import Images
from .machine import DOM0_CPUS, XenMachine

DISK_MIB = 64
VERIFY_BYTES = 16 << 20


@dataclass
class Result(RunResult):
    xen_version: str = ''


def run(options, say):
    """Boot, work and judge; a Result, whose failures may not be empty."""
    started = time.monotonic()
    result = Result(options)
    result.qemu_version = version(options.qemu)
    images = Images(options.build / 'xen', options.qemu, say).build()
    with run_folder(options.build / 'run-xen') as folder:
        with XenMachine(options.emulator, images, folder,
                        options.cpus) as machine:
            say('booting Xen and dom0 (TCG)')
            machine.start()
            found = machine.dom0.run('xl info')
            result.xen_version = re.search(r'xen_version\s*: (\S+)', found)[1]
            say(f'Xen {result.xen_version}: creating the domU with '
                f'{plural(options.vcpus, "vCPU")}')
            domu = DomU(machine)
            domu.create(options.vcpus, DISK_MIB)
            result.release = machine.domu.port.release
            work(domu, result, say)
    judge(result)
    result.seconds = time.monotonic() - started
    return result


def work(domu, result, say):
    options = result.options
    result.disk = domu.survey()
    say('one queue after the other: its event channel, its IOThread')
    domu.trace(result.disk)
    # Linux uses a scheduler for one queue, but not for several.
    domu.run('echo none >/sys/block/xvda/queue/scheduler')
    workload.fill(domu, result.disk, DISK_MIB << 20)
    say('verified writes from every vCPU')
    result.verified = workload.write_and_verify(domu, result.disk,
                                                options.vcpus, VERIFY_BYTES)
    domu.refresh(result.disk)
    measure(domu, result, len(result.disk.queues), say)
    result.iothread_seconds = {
        name: spent / 1e9 for name, spent in domu.iothread_times().items()}
    if len(result.disk.queues) > 1:
        domu.replace_driver(max_queues=1)
        domu.run('echo none >/sys/block/xvda/queue/scheduler')
        measure(domu, result, 1, say)


def measure(domu, result, count, say):
    options = result.options
    say(f'random reads on {plural(count, "queue")}, {options.runtime} s')
    result.iops[count] = workload.random_read_iops(
        domu, result.disk, options.vcpus, DISK_MIB << 20, options.runtime)


def judge(result):
    """Fill in failures and notes."""
    options, disk = result.options, result.disk
    fail = result.failures.append
    expected = min(options.vcpus, DOM0_CPUS)
    if len(disk.queues) != expected:
        fail(f'the domU uses {plural(len(disk.queues), "queue")}, '
             f'not {expected}')
    elif expected < options.vcpus:
        result.notes.append(f'the backend offers {expected} queues, as many '
                            'as dom0 has vCPUs')
    for name in ('persistent grants', 'indirect descriptors'):
        if disk.features.get(name) != 'enabled':
            fail(f'{name} are not enabled')
    channels = [queue.vector.entry for queue in disk.queues]
    if len(set(channels)) < len(channels):
        fail('queues share an event channel')
    for queue in disk.queues:
        if queue.vector.count == 0:
            fail(f'queue {queue.number} never raised its interrupt')
        if queue.others:
            fail(f'requests on queue {queue.number} raised the interrupts '
                 f'of {queue.others}')
        if queue.iothread is None:
            fail(f'no IOThread serves queue {queue.number}')
    for error in result.verified.errors:
        fail(f'verification: {error}')
    result.notes.append('The CPUs are emulated and bound the IOPS, not '
                        'the disk')
