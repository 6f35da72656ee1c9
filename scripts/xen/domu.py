# SPDX-License-Identifier: GPL-2.0-or-later
"""A domU: its life, its disks, and what each side knows of a queue.

    the domU     /sys/block/xvda/mq      queue -> vCPUs
                 /proc/interrupts        queue -> interrupts of its channel
                 dmesg                   what the frontend negotiated
    xenstore     .../queue-N/            queue -> event channel, ring pages
    dom0         /proc/PID/task          which IOThread worked for a queue
"""

import re
from dataclasses import dataclass, field

from guest.errors import RunError
from guest.survey import Queue, Vector

from .images import MODEL
from .machine import DOMU_MIB, LOGS

NAME = 'guest'
DISK = ('format=raw,access=rw,backendtype=qdisk,'
        'vdev={vdev},target=/images/{vdev}')
# In a PV domU, user space has to bring a CPU online that has been added.
CPUS = '''
until [ $(nproc) = {vcpus} ]; do
    [ $(nproc) -gt {vcpus} ] ||
        echo 1 >/sys/devices/system/cpu/cpu$(nproc)/online
    usleep 100000
done 2>/dev/null
'''
VDEVS = {f'xvd{letter}': 51712 + 16 * number
         for number, letter in enumerate('abcdefgh')}
START_SECONDS = 150
BLOCK = 4096


@dataclass
class XenDisk:
    """A disk as the domU and the xenstore have it."""
    name: str
    queues: list                # survey.Queue; vector.entry: event channel
    features: dict = field(default_factory=dict)
    ring_pages: int = 1


def config(vcpus, name=NAME, disks=(DISK.format(vdev='xvda'),), kind='pv'):
    """xl's configuration of a domU that boots our kernel and ramdisk."""
    disks = ', '.join(f'"{disk}"' for disk in disks)
    return f'''
name = "{name}"
type = "{kind}"
kernel = "/domu/vmlinux"
ramdisk = "/domu/initrd"
extra = "console=hvc0 loglevel=3 mitigations=off panic=1"
memory = {DOMU_MIB - 32}
vcpus = {vcpus}
on_crash = "preserve"
device_model_override = "{MODEL}"
disk = [{disks}]
'''


class DomU:
    """A domU of a XenMachine.

    Its agent's port is shared by all domUs of the machine: select() says who
    has it.  A new domU has it.
    """

    def __init__(self, machine, name=NAME):
        self.machine = machine
        self.name = name
        self.dom0 = machine.dom0
        self.run = machine.domu.run
        self.begin = machine.domu.begin
        self.wait = machine.domu.wait

    # Its life, by the toolstack

    def create(self, vcpus, mib):
        """Make and boot it with a disk of that size."""
        self.new_image('xvda', mib)
        self.boot(config(vcpus, self.name))

    def boot(self, text, seconds=START_SECONDS):
        """Make it as xl's configuration @text says, which names the disks."""
        self.dom0.run(f"cat >/etc/domu.cfg <<'END'\n{text}\nEND")
        self.machine.domu.port.release = None
        self.xl('create /etc/domu.cfg')
        self.dom0.run(f'attach-domu {self.name}')
        self.machine.domu.wait_ready(seconds)

    def select(self):
        """What is run in a domU from now on is run in this one."""
        self.dom0.run('xenstore-read /local/domain/'
                      f'$(xl domid {self.name})/console/tty '
                      '>/run/domu-console')

    def xl(self, words, timeout=START_SECONDS):
        """A command of the toolstack, with its log if it fails."""
        status, said = self.dom0.run(f'xl {words}', timeout, check=False)
        if status:
            log = self.dom0.run(LOGS, check=False)[1]
            raise RunError(f'xl {words} failed (status {status})',
                           (said + log).splitlines())
        return said

    def new_image(self, vdev, mib):
        """A raw image in dom0, all zeroes, for a disk of that name."""
        self.dom0.run(f'truncate -s {mib}M /images/{vdev}')

    def attach(self, vdev, disk=DISK):
        """Plug a disk in; returns when the domU has it."""
        self.xl(f"block-attach {self.name} '{disk.format(vdev=vdev)}'")
        self.run('until [ "$(cat /sys/block/%s/size 2>/dev/null || echo 0)"'
                 ' -gt 0 ]; do usleep 20000; done' % vdev)

    def attach_in_vain(self, vdev, disk):
        """Plug in what QEMU cannot open; returns when xenstore says so.

        xl does not wait for disks of QEMU's, so it ends without an error."""
        self.xl(f"block-attach {self.name} '{disk.format(vdev=vdev)}'")
        self.dom0.run(
            f'backend=/local/domain/0/backend/qdisk/$(xl domid {self.name})\n'
            f'status=$backend/{VDEVS[vdev]}/hotplug-status\n'
            'until [ "$(xenstore-read $status)" = error ]; do\n'
            'usleep 100000; done 2>/dev/null')

    def detach(self, vdev):
        """Unplug a disk; returns when the domU has lost it."""
        self.xl(f'block-detach {self.name} {vdev}')
        self.run(f'while [ -e /sys/block/{vdev} ]; do usleep 20000; done')

    def restore(self, path):
        """Bring it back as it was when it was saved in @path of dom0."""
        self.xl(f'restore {path}')
        self.dom0.run(f'attach-domu {self.name}')

    def state(self):
        """xl's letters for its state, or None if it is not there."""
        match = re.search(rf'^{self.name}\s+\d+\s+\d+\s+\d+\s+(\S+)',
                          self.xl('list'), re.M)
        return match[1] if match else None

    def power_off(self):
        """From inside; returns when dom0 has cleaned up after it."""
        self.begin('poweroff -f')
        self.wait_gone()

    def wait_gone(self):
        """Until it has ended and dom0 has cleaned up after all domUs."""
        self.dom0.run('while xenstore-exists /local/domain/0/backend/qdisk/*'
                      f' || xl domid {self.name}; do usleep 100000; done '
                      '>/dev/null 2>&1')

    def set_vcpus(self, vcpus):
        """Returns when it uses that many."""
        self.xl(f'vcpu-set --ignore-host {self.name} {vcpus}')
        self.run(CPUS.format(vcpus=vcpus))

    def migrate(self):
        """To the same host; False, and it goes on, if this Xen cannot.

        Xen needs shadow paging to log which pages a PV domU writes, and
        Debian builds newer ones without."""
        status, said = self.dom0.run(
            f'xl migrate -s "" {self.name} "xl migrate-receive"', 900,
            check=False)
        if 'Failed to enable logdirty: 95' in said:
            return False
        if status:
            raise RunError('xl migrate failed', said.splitlines())
        self.dom0.run(f'attach-domu {self.name}')
        return True

    # Its disks

    def survey(self, name='xvda'):
        """The disk as it is now."""
        found = []
        for line in self.run(f'cd /sys/block/{name}/mq && '
                             'for n in *; do echo $n $(cat $n/cpu_list); done'
                             ).splitlines():
            number, *cpus = line.replace(',', ' ').split()
            found.append(Queue(int(number), [int(cpu) for cpu in cpus]))
        found.sort(key=lambda queue: queue.number)
        disk = XenDisk(name, found, self.features(name))
        self._read_xenstore(disk)
        self.refresh(disk)
        return disk

    def features(self, name):
        """What the frontend says it negotiated: {'feature': 'enabled'}."""
        lines = re.findall(rf'blkfront: {name}: (.*)',
                           self.run('dmesg'))
        return dict(re.findall(r'(\w[\w ]*): (\w+)', lines[-1])
                    if lines else ())

    def _read_xenstore(self, disk):
        """Event channels and the size of a ring."""
        domid = self.dom0.run(f'xl domid {self.name}').strip()
        nodes = dict(re.findall(r'^(\S+) = "(.*)"$', self.dom0.run(
            'xenstore-ls -f '
            f'/local/domain/{domid}/device/vbd/{VDEVS[disk.name]}'), re.M))
        nodes = {path.partition('/vbd/')[2].partition('/')[2]: value
                 for path, value in nodes.items()}
        disk.ring_pages = 1 << int(nodes.get('ring-page-order', 0))
        for queue in disk.queues:
            own = f'queue-{queue.number}/event-channel'
            port = nodes.get(own, nodes.get('event-channel'))
            queue.vector = Vector(None, int(port), 0)

    def refresh(self, disk):
        """Bring the interrupt counts up to date; [count by queue].

        The frontend binds the channels queue by queue, so the lines of
        /proc/interrupts are in that order, if this is the only disk.
        """
        lines = re.findall(r'^\s*(\d+):((?:\s+\d+)+)\s.*\sblkif$',
                           self.run('cat /proc/interrupts'), re.M)
        if len(lines) != len(disk.queues):
            raise RunError(f'{len(disk.queues)} queues, but {len(lines)} '
                           'event channels of block devices in the domU')
        for queue, (irq, counts) in zip(disk.queues, lines):
            queue.vector.irq = int(irq)
            queue.vector.count = sum(map(int, counts.split()))
        return [queue.vector.count for queue in disk.queues]

    def use_alone(self, disk, number, reads=64):
        """Read through one queue only; {queue: interrupts} that it raised."""
        queue = disk.queues[number]
        before = self.refresh(disk)
        self.run(f'taskset -c {queue.cpus[0]} dd if=/dev/{disk.name} '
                 f'of=/dev/null bs={BLOCK} count={reads} iflag=direct')
        after = self.refresh(disk)
        return {n: after[n] - before[n] for n in range(len(after))
                if after[n] > before[n]}

    # The device model in dom0

    def monitor(self, command):
        """What the human monitor says to a command."""
        return self.xl(f"qemu-monitor-command {self.name} '{command}'")

    def iothread_times(self):
        """{IOThread: nanoseconds of CPU so far}."""
        said = self.monitor('info queues')
        threads = dict(re.findall(r'iothread=(\S+) thread_id=(\d+)', said))
        domid = self.dom0.run(f'xl domid {self.name}').strip()
        times = self.dom0.run(
            'cd /proc/$(xenstore-read '
            f'/local/domain/{domid}/image/device-model-pid)/task\n'
            + '\n'.join(f'cat {tid}/schedstat' for tid in threads.values()))
        return {name: int(line.split()[0])
                for name, line in zip(threads, times.splitlines())}

    def trace(self, disk, reads=256):
        """Find out which IOThread serves each queue, by using it alone."""
        for queue in disk.queues:
            times = self.iothread_times()
            raised = self.use_alone(disk, queue.number, reads)
            grown = {name: after - times.get(name, 0)
                     for name, after in self.iothread_times().items()}
            queue.others = [n for n in raised if n != queue.number]
            queue.iothread = max(grown, key=grown.get) if grown else None

    def replace_driver(self, **parameters):
        """Unplug xvda and plug it into a driver with these parameters."""
        self.detach('xvda')
        words = ' '.join(f'{key}={value}'
                         for key, value in parameters.items())
        self.run('rmmod xen_blkfront && '
                 f'insmod /modules/xen_blkfront.ko {words}')
        self.attach('xvda')
