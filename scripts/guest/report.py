# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a run, for people."""

from . import rings
from .disk import MIB, show_path
from .session import mapped_iothread, plural
from .survey import cpu_ranges

BAR = 30
RED, GREEN, BOLD, PLAIN = '\33[31m', '\33[32m', '\33[1m', '\33[m'


class Style:
    def __init__(self, colour=False, unicode=False):
        self.colour = colour
        self.block = '█' if unicode else '#'
        self.times = '×' if unicode else 'x'
        self.micro = 'µ' if unicode else 'u'

    def paint(self, code, text):
        return f'{code}{text}{PLAIN}' if self.colour else text


def render(result, style=Style()):
    """The whole report as one text."""
    options = result.options
    heading = (f'virtio-blk-pci with {plural(options.queues, "queue")} on '
               f'{plural(options.iothreads, "IOThread")}')
    tables = [facts(result), queue_table(result), iothread_table(result)]
    if result.iops:
        tables.append(guest_rates(result, style))
    if result.rings:
        tables.append(ring_rates(result, style))
    return page(result, style, heading, *tables)


def page(result, style, heading, *tables):
    """What the report of any run has, with the tables of this one."""
    parts = [style.paint(BOLD, heading), *tables, verification(result)]
    if result.notes:
        parts.append('\n'.join(f'Note: {note}.' for note in result.notes))
    parts.append(verdict(result, style))
    return '\n\n'.join(parts) + '\n'


def facts(result):
    accelerator = result.accelerator
    return columns([
        ['QEMU', f'{result.qemu_version}, {show_path(result.options.qemu)}'],
        ['Accelerator', f'{accelerator.name.upper()} ({accelerator.reason})'],
        ['Guest', f'Linux {result.release}, '
                  f'{plural(result.options.vcpus, "vCPU")}, '
                  f'{result.options.machine}'],
        ['Disk', result.image.describe()]])


def queue_table(result):
    rows = [['Queue', 'Guest CPU', 'MSI-X vector', 'Interrupts', 'IOThread']]
    for queue in result.disk.queues:
        vector = queue.vector
        rows.append([
            str(queue.number), cpu_ranges(queue.cpus),
            f'{vector.entry} (IRQ {vector.irq})'
            if vector and vector.entry is not None else 'none',
            f'{vector.count:,}' if vector else '0',
            queue.iothread or mapped_iothread(result.mapping, queue.number)])
    return columns(rows, right=(0, 3))


def iothread_table(result):
    rows = [['IOThread', 'CPU time', 'Queues']]
    used = {queue.number for queue in result.disk.queues}
    for number, queues in enumerate(result.mapping):
        name = f'iothread{number}'
        rows.append([name, f'{result.iothread_seconds.get(name, 0):.2f} s',
                     cpu_ranges(used.intersection(queues)) or 'none in use'])
    return columns(rows, right=(1,))


def guest_rates(result, style=None):
    """What fio measured.  Bars and a factor are shown only if @style is given,
    which means that the disk bounds the rates."""
    options = result.options
    best = max(result.iops.values())
    base = result.iops.get(1)
    rows = []
    for count, iops in sorted(result.iops.items()):
        row = [plural(count, 'queue'), f'{iops:,.0f} IOPS']
        if style:
            row += [style.block * max(1, round(BAR * iops / best))
                    if best else '',
                    f'{iops / base:.2f} {style.times}' if base and count > 1
                    else '']
        rows.append(row)
    return ('In the guest: 4 KiB random reads, '
            f'{plural(options.vcpus, "CPU")} with 32 outstanding each, '
            f'{options.runtime} s\n' + columns(rows, right=(1,)))


def ring_rates(result, style):
    """What the disk does, and what it costs, with no guest in the way."""
    rows = [['', '', 'IOPS', 'IOThread CPU a request']]
    for figure in sorted(result.rings, key=lambda figure: figure.queues):
        rows.append([plural(figure.queues, 'queue'), figure.program,
                     f'{figure.iops:,.0f}',
                     f'{figure.cpu_us:.2f} {style.micro}s'])
    text = (f'Through its rings, no guest: 4 KiB random reads, {rings.DEPTH} '
            'outstanding in each queue, '
            f'{result.options.runtime} s\n' + columns(rows, right=(2, 3)))
    cost = {(f.program, f.queues): f.cpu_us for f in result.rings}
    ratios = [f'{ours / cost["stock", count]:.2f} with '
              f'{plural(count, "queue")}'
              for (program, count), ours in cost.items()
              if program == 'ours' and cost.get(('stock', count))]
    if ratios:
        text += '\n  CPU a request, ours to stock: ' + ', '.join(ratios)
    return text


def verification(result):
    done = result.verified
    state = 'FAILED' if done.errors else 'all right'
    return (f'Written {done.written // MIB} MiB from '
            f'{plural(done.cpus, "CPU")}, read back from other CPUs: '
            f'{done.checked:,} blocks of 4 KiB checked (crc32c), {state}'
            if done.cpus > 1 else
            f'Written {done.written // MIB} MiB and read back: '
            f'{done.checked:,} blocks of 4 KiB checked (crc32c), {state}')


def verdict(result, style):
    if not result.failures:
        return style.paint(GREEN, f'OK, {result.seconds:.0f} s')
    lines = [style.paint(RED, f'FAILED: {failure}')
             for failure in result.failures]
    return '\n'.join(lines)


def columns(rows, right=()):
    """Rows of text as aligned columns, indented by two."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if i in right else cell.ljust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append(('  ' + '  '.join(cells)).rstrip())
    return '\n'.join(lines)
