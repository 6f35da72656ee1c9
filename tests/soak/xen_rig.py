# SPDX-License-Identifier: GPL-2.0-or-later
"""A Xen host under test: one domU, its two disks, its load.

    xvda    raw: known data, and the area of fio's load
    xvdb    qcow2 over a backing file, or raw: known data
    xvdc    where further disks are plugged in

Data are known by MiB: what such a piece of a disk holds follows from the number
of the write, and is there once the write has returned, because it bypasses all
caches.  So a domU may end at any moment.
"""

import hashlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))

# pylint: disable=wrong-import-position
import xen_holds  # noqa: E402
from guest.disk import find_qemu_img  # noqa: E402
from guest.errors import RunError  # noqa: E402
from xen.domu import DomU, config  # noqa: E402
from xen.images import Images  # noqa: E402
from xen.machine import XenMachine  # noqa: E402
from xen_load import Load  # noqa: E402

VCPUS = 2
MIB = 1 << 20
DISK_MIB = 64
PIECES = 24             # MiB of each disk whose data are known
DISKS = ('xvda', 'xvdb')
SETTLE_SECONDS = 120
BOOT = 600

WRITE = '''
awk 'BEGIN {{ for (i = 0; i < 2048; i++)
    printf "%-511s\\n", "{number} " i }}' >/run/new
dd if=/run/new of=/dev/{disk} bs=64k seek={start} oflag=direct conv=fsync \\
    2>/dev/null
'''
SUMS = '''
for piece in {pieces}; do
    dd if=/dev/{disk} bs=64k skip=$((piece * 16)) count=16 iflag=direct \\
        2>/dev/null | md5sum
done
'''


def digest(number):
    """Of a piece that holds the write of that number; 0: zeroes."""
    data = bytes(MIB) if not number else b''.join(
        f'{f"{number} {i}":<511}\n'.encode() for i in range(2048))
    return hashlib.md5(data).hexdigest()


class Watch:
    """Nothing that a host holds may grow."""

    def __init__(self):
        self.before = None
        self.most = Counter()

    def look(self, dom0):
        """Compare, once what ends in the background has ended."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            now = xen_holds.host(dom0)
            self.before = self.before or now
            found = xen_holds.grown(self.before, now)
            if not found:
                break
            if time.monotonic() > end:
                raise RunError('the host holds more than before',
                               [f'{name}: {values[0]}, now {values[1]}'
                                for name, values in found.items()])
            time.sleep(1)
        self.most |= Counter(handles=now['open_files'])


class XenRig:
    side = None

    def __init__(self, options, folder, say):
        self.options, self.folder, self.say = options, folder, say
        self.watch = Watch()
        self.known = {}         # (disk, piece): number of the write
        self.number = 0
        self.bytes_compared = 0
        self.can_migrate = True
        self.machine = self.domu = self.dom0 = self.load = None

    @staticmethod
    def shape(seed):
        random = Random(seed)
        return {'rings': random.choice([1, 2, 2]),
                'second': random.choice(['raw', 'qcow2', 'qcow2'])}

    # Making

    def make_disks(self, rings, second):
        """What boot() makes."""
        self.rings, self.second = rings, second

    def start_host(self):
        # The clock counts instructions, so that a busy machine does not make
        # the toolstack's time limits expire.
        images = Images(self.options.build / 'xen', self.options.qemu,
                        self.say).build()
        self.machine = XenMachine(self.options.qemu, images, self.folder,
                                  more=['-icount', 'shift=2,sleep=off'])
        self.machine.start()
        self.dom0 = self.machine.dom0
        self.domu = DomU(self.machine)

    def make_images(self):
        for disk in ('xvda', 'base'):
            self.domu.new_image(disk, DISK_MIB)
        self.new_image('xvdb', self.second, '-u', '-b', '/images/base', '-F',
                       'raw')

    def new_image(self, disk, kind, *options):
        """An image of zeroes in dom0; @options are of a qcow2 one."""
        if kind == 'raw':
            self.domu.new_image(disk, DISK_MIB)
            return
        path = self.folder / disk
        subprocess.run([find_qemu_img(self.options.qemu), 'create', '-q',
                        '-f', kind, *options, path, f'{DISK_MIB}M'],
                       check=True)
        self.dom0.put(f'/images/{disk}', path.read_bytes())

    def boot(self):
        self.start_host()
        self.make_images()
        self.boot_domu()

    # The domU

    def words(self, disk, kind=None):
        """What xl is told of a disk."""
        kind = kind or {'xvda': 'raw', 'xvdb': self.second}[disk]
        return (f'format={kind},access=rw,backendtype=qdisk,vdev={disk},'
                f'discard,target=/images/{disk}')

    def boot_domu(self):
        text = config(VCPUS, disks=map(self.words, DISKS))
        self.domu.boot(text.replace('"preserve"', '"destroy"') + (
            'device_model_args = ["-global", '
            f'"xen-disk.num-queues={self.rings}"]\n'), BOOT)
        self.load = None

    def nr_rings(self):
        """Of xvda: the driver may have taken fewer than there are."""
        return int(self.domu.run('ls /sys/block/xvda/mq | wc -l'))

    def begin_load(self):
        self.load = Load(self.domu, VCPUS, self.nr_rings(), depth=8)
        self.load.begin()

    def end_load(self):
        """RunError if what it has read was not what it had written."""
        load, self.load = self.load, None
        if load:
            said, right = load.end()
            if not right:
                raise RunError('the load has met an error', said.splitlines())

    # Data

    def write(self, disk, piece):
        self.number += 1
        self.domu.run(WRITE.format(number=self.number, disk=disk,
                                   start=piece * 16))
        self.known[disk, piece] = self.number

    def discard(self, disk, piece):
        self.domu.run(f'blkdiscard -o {piece * MIB} -l {MIB} /dev/{disk}')
        self.known[disk, piece] = 0

    def compare(self):
        for disk in DISKS:
            pieces = [piece for name, piece in self.known if name == disk]
            sums = self.domu.run(SUMS.format(
                disk=disk, pieces=' '.join(map(str, pieces)))).split()[::2]
            self.bytes_compared += len(pieces) * MIB
            wrong = [f'MiB {piece} is not write {self.known[disk, piece]}'
                     for piece, found in zip(pieces, sums, strict=True)
                     if found != digest(self.known[disk, piece])]
            if wrong:
                raise RunError(f'wrong data on {disk}', wrong)

    def check(self):
        """After a step; the load runs on."""
        self.end_load()
        self.compare()
        self.watch.look(self.dom0)
        self.begin_load()

    def state(self):
        """For whoever looks at a failure."""
        return [f'known: {self.known}']

    def finish(self):
        self.end_load()
        self.domu.power_off()

    def kill(self):
        if self.machine:
            self.machine.kill()
