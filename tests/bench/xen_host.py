# SPDX-License-Identifier: GPL-2.0-or-later
"""The same RAM disk, served by QEMU and by Linux's own backend, in one boot.

    domU    fio -> xen-blkfront -> xvdb
                                    |  attached to one after the other
    dom0          our device model / stock's / xen-blkback -> /dev/ram0

Xen and all its domains run in an emulator that counts instructions for time
(-icount, 4 ns each): rates do not depend on what else the machine does, and
mean something only beside each other.  On a slower processor the ticks of
eight virtual CPUs would be most of what is measured.  The TSC is invariant, as
that of a real server is.  Otherwise each reading of the clock in dom0 would be
a system call.
"""

import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))
# pylint: disable=wrong-import-position
from guest import workload                          # noqa: E402
from guest.errors import RunError                   # noqa: E402
from xen.domu import DomU, config                   # noqa: E402
from xen.images import Images                       # noqa: E402
from xen.machine import XenMachine                  # noqa: E402

RAM_MIB = 32
VCPUS = 4
SECONDS = 1             # of the emulated machine's time
ROUNDS = 3
JOBS = {
    '4 KiB random reads': 'rw=randread\nbs=4k\niodepth=16',
    '4 KiB random writes': 'rw=randwrite\nbs=4k\niodepth=16',
    '1 MiB reads': 'rw=read\nbs=1M\niodepth=4',
    '1 MiB writes': 'rw=write\nbs=1M\niodepth=4',
}
JOB = f'''
[global]
filename=/dev/xvdb
ioengine=libaio
direct=1
thread=1
size={RAM_MIB}M
norandommap=1
time_based=1
ramp_time=250ms
runtime={SECONDS}
numjobs={VCPUS}
cpus_allowed=0-{VCPUS - 1}
cpus_allowed_policy=split
group_reporting=1
[job]
'''
# What the script of Linux' distributions does for a block device, and no more.
HOTPLUG = '''#!/bin/sh
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
xenstore-write "$XENBUS_PATH/physical-device" \\
    "$(stat -L -c %t:%T "$device")"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
'''
DISKS = {
    'xen-blkback': 'backendtype=phy,script=/etc/xen/scripts/ram',
    'QEMU': 'backendtype=qdisk',
}


class Host:
    """dom0 with a RAM disk, and a domU that has it as xvdb."""

    def __init__(self, machine):
        self.dom0 = machine.dom0
        self.domu = DomU(machine)
        self.dom0.run(f"""
set -e
rmmod brd
insmod /modules/brd.ko rd_nr=1 rd_size={RAM_MIB << 10}
dd if=/dev/zero of=/dev/ram0 bs=1M 2>/dev/null || true
mkdir -p /etc/xen/scripts
cat >/etc/xen/scripts/ram <<'END'
{HOTPLUG}
END
chmod +x /etc/xen/scripts/ram""")
        self.domu.new_image('xvda', 1)
        self.domu.boot(config(VCPUS))

    @contextlib.contextmanager
    def disk(self, words):
        self.domu.attach('xvdb', f'format=raw,access=rw,vdev={{vdev}},{words},'
                                 'target=/dev/ram0')
        self.domu.run('echo none >/sys/block/xvdb/queue/scheduler')
        yield
        self.domu.detach('xvdb')

    def measure(self, words):
        result = workload.fio(self.domu, JOB + words, 900)
        if result.errors:
            raise RunError('fio failed', result.errors)
        return sum(workload.total(result.jobs, way, 'iops')
                   for way in ('read', 'write'))


def compare(host, rings, say):
    """{job: {backend: median IOPS}} with that many rings."""
    host.domu.replace_driver(max_queues=rings)
    found = {job: {name: [] for name in DISKS} for job in JOBS}
    for number in range(ROUNDS):
        for name, words in DISKS.items():
            with host.disk(words):
                for job, lines in JOBS.items():
                    found[job][name].append(host.measure(lines))
                    say(f'{rings} rings, round {number + 1}, {job}, {name}: '
                        f'{found[job][name][-1]:,.0f} IOPS')
    return {job: {name: statistics.median(values)
                  for name, values in names.items()}
            for job, names in found.items()}


def run(program, folder, say, rings=(2, 4)):
    """{rings: {job: {backend: IOPS}}} of one boot with @program."""
    program = Path(program)
    images = Images(Path(folder) / 'xen', program, say).build()
    with tempfile.TemporaryDirectory(prefix='xen-') as name:
        with XenMachine(program, images, Path(name), more=[
                '-cpu', 'qemu64,+invtsc',
                '-icount', 'shift=2,sleep=off']) as machine:
            machine.start()
            host = Host(machine)
            return {number: compare(host, number, say) for number in rings}

