# SPDX-License-Identifier: GPL-2.0-or-later
"""Verified load on a domU's disk that runs while something is done to it.

    load = Load(domu, vcpus, queues)
    load.begin()
    ...
    load.progress()     every queue has completed some more requests
    load.end()          and no thread has met an error

Each vCPU writes an area of its own, reads it back and compares, until it is
told to end.
"""

JOB = '''
cd /run
cat >{name} <<'END'
[global]
filename=/dev/{disk}
ioengine=libaio
direct=1
thread=1
iodepth={depth}
rw=randwrite
bs=4k
size=1M
verify=crc32c
verify_fatal=1
verify_backlog=16
time_based=1
runtime=36000
{rate}
{areas}
END
fio --output-format=json --output={name}.out {name} >{name}.log 2>&1 &
echo $! >{name}.pid
wait $!
cat {name}.log
grep '"error" :' {name}.out
'''

# Wait until as many event channels of disks as the disk has queues have raised
# some more interrupts.  Which lines belong to this disk is not known, because
# the order changes with every restore.
PROGRESS = '''
counts() {
    awk '/ blkif$/ { n = 0
                     for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i
                     print n }' /proc/interrupts
}
counts >/run/start
until counts | paste /run/start - | awk '
        $2 >= $1 + 6 { busy++ }  END { exit busy < QUEUES }'; do
    usleep 300000
done
'''


class Load:
    """fio in a domU on the areas that start at @first MiB of a disk."""

    def __init__(self, domu, vcpus, queues, disk='xvda', first=32, depth=4,
                 rate=None):
        self.domu = domu
        self.vcpus = vcpus
        self.queues = queues
        self.name = f'busy-{disk}'
        self.job = None
        areas = ''.join(f'[cpu{cpu}]\ncpus_allowed={cpu}\n'
                        f'offset={first + cpu}M\n' for cpu in range(vcpus))
        self.script = JOB.format(name=self.name, disk=disk, depth=depth,
                                 rate=f'rate_iops={rate}' if rate else '',
                                 areas=areas)

    def begin(self):
        """Start it; returns when it runs."""
        self.job = self.domu.begin(self.script)
        self.progress()

    def progress(self):
        """Return when each queue has completed requests since the call."""
        self.domu.run(PROGRESS.replace('QUEUES', str(self.queues)))

    def end(self):
        """End it; what fio said, and whether no thread has met an error.

        An error is a wrong checksum, for one.
        """
        self.domu.run(f'kill -INT $(cat /run/{self.name}.pid)')
        said = self.domu.wait(self.job)
        self.job = None
        return said, said.count('"error" : 0,') == self.vcpus
