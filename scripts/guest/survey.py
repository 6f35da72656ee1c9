# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest sees of a disk's queues: CPUs, vectors, interrupts."""

import re
from dataclasses import dataclass, field

# One line per disk and queue, then the interrupt table.  Mind that reading
# serial is a request to the disk, from whatever CPU the shell is on.
SCRIPT = '''
for disk in /sys/block/vd*; do
    device=$(readlink $disk/device)
    echo "disk ${disk##*/} $(cat $disk/serial) ${device##*/}"
    for queue in $disk/mq/*; do
        echo "queue ${queue##*/} $(cat $queue/cpu_list)"
    done
done
cat /proc/interrupts
'''


@dataclass
class Vector:
    """A line of /proc/interrupts that belongs to a virtio device."""
    irq: int
    entry: int          # in the MSI-X table; None for a pin interrupt
    count: int


@dataclass
class Queue:
    number: int
    cpus: list                  # guest CPUs that submit to it
    vector: Vector = None       # None: no interrupt line found
    shared: bool = False        # the vector serves other queues too
    iothread: str = None        # the one seen at work, see workload.trace
    others: list = field(default_factory=list)  # queues disturbed by it


@dataclass
class GuestDisk:
    name: str           # vda
    serial: str         # the id given to Machine.add_disk()
    device: str         # virtio0
    queues: list


def survey(machine):
    """{serial: GuestDisk} of all virtio disks."""
    return parse(machine.run(SCRIPT))


def parse(text):
    disks = {}
    disk = None
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ['disk'] and len(words) == 4:
            disk = GuestDisk(words[1], words[2], words[3], [])
            disks[disk.serial] = disk
        elif words[:1] == ['queue'] and disk:
            cpus = [int(word.strip(',')) for word in words[2:]]
            disk.queues.append(Queue(int(words[1]), cpus))
    vectors = parse_interrupts(text)
    for disk in disks.values():
        # The shell sorts 10 before 2.
        disk.queues.sort(key=lambda queue: queue.number)
        for queue in disk.queues:
            attach_vector(disk, queue, vectors)
    return disks


def attach_vector(disk, queue, vectors):
    """A vector of its own, or the one for all queues, or the device's."""
    own = vectors.get(f'{disk.device}-req.{queue.number}')
    queue.vector = own or vectors.get(f'{disk.device}-virtqueues') \
        or vectors.get(disk.device)
    queue.shared = not own and len(disk.queues) > 1


def parse_interrupts(text):
    """{name: Vector} for the interrupts that virtio devices registered."""
    vectors = {}
    for line in text.splitlines():
        match = re.match(r'\s*(\d+):((?:\s+\d+)+)\s+(\S.*?)\s+(virtio\S.*)$',
                         line)
        if not match:
            continue
        counts = sum(int(word) for word in match[2].split())
        for name in match[4].split(', '):
            vectors[name.strip()] = Vector(int(match[1]),
                                           table_entry(match[3]), counts)
    return vectors


def table_entry(chip):
    """The MSI-X table entry, out of the interrupt chip's words.

    Linux 6.2 and later: 'PCI-MSIX-0000:00:02.0 1-edge'; before that
    'PCI-MSI 16385-edge', with the entry in the low 11 bits.
    """
    match = re.match(r'PCI-MSI(X?)\S*\s+(\d+)-edge', chip)
    if not match:
        return None
    return int(match[2]) if match[1] else int(match[2]) & 0x7ff


def refresh(machine, disk):
    """Bring the interrupt counts of a disk up to date; [count by queue]."""
    vectors = parse_interrupts(machine.run('cat /proc/interrupts'))
    for queue in disk.queues:
        attach_vector(disk, queue, vectors)
    return [queue.vector.count if queue.vector else 0
            for queue in disk.queues]


def cpu_ranges(cpus):
    """[0, 1, 2, 5] -> '0-2, 5'"""
    ranges = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ', '.join(f'{first}-{last}' if last > first else f'{first}'
                     for first, last in ranges)
