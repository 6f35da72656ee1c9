# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a run on Xen, for people."""

from guest.disk import show_path
from guest.report import Style, columns, guest_rates, page
from guest.session import plural
from guest.survey import cpu_ranges

from .machine import DOM0_CPUS


def render(result, style=Style()):
    """The whole report as one text."""
    threads = len(result.iothread_seconds)
    heading = (f'xen-disk with {plural(len(result.disk.queues), "queue")} on '
               f'{plural(threads, "IOThread")}')
    return page(result, style, heading, facts(result), queue_table(result),
                iothread_table(result), guest_rates(result))


def facts(result):
    features = result.disk.features
    return columns([
        ['QEMU', f'{result.qemu_version}, {show_path(result.options.qemu)}, '
                 'as the device model in dom0'],
        ['Xen', f'{result.xen_version}, dom0 with '
                f'{plural(DOM0_CPUS, "vCPU")}, under TCG'],
        ['domU', f'Linux {result.release}, PV, '
                 f'{plural(result.options.vcpus, "vCPU")}'],
        ['Grants', f"persistent grants: {features['persistent grants']}"],
        ['Requests', 'indirect descriptors: '
                     f"{features['indirect descriptors']}"],
        ['Rings', f'{plural(result.disk.ring_pages, "page")} each']])


def queue_table(result):
    rows = [['Queue', 'domU vCPU', 'Event channel', 'Interrupts', 'IOThread']]
    for queue in result.disk.queues:
        vector = queue.vector
        rows.append([str(queue.number), cpu_ranges(queue.cpus),
                     f'{vector.entry} (IRQ {vector.irq})',
                     f'{vector.count:,}', queue.iothread or 'none'])
    return columns(rows, right=(0, 3))


def iothread_table(result):
    rows = [['IOThread', 'CPU time', 'Queues']]
    for name, seconds in sorted(result.iothread_seconds.items()):
        served = [queue.number for queue in result.disk.queues
                  if queue.iothread == name]
        rows.append([name, f'{seconds:.2f} s',
                     cpu_ranges(served) or 'none in use'])
    return columns(rows, right=(1,))
