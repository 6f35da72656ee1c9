# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain with a Linux guest that takes commands.

    domain = Domain(daemon, 'one', QEMU, image, [disk_xml(path, 'vda')])
    domain.start()
    domain.write(0)             # what is written is remembered
    ...
    domain.verify()             # the guest reads all of it back
"""

import json
import socket
import time
import xml.etree.ElementTree as ElementTree

from guest.channel import Channel
from guest.errors import RunError
from guest.machine import BOOT_SECONDS

VCPUS = 4
STAMP = 1 << 20         # bytes that each vCPU writes for one stamp
PATIENCE = 120          # seconds, for what takes one on an idle machine

XML = '''
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  {uuid}
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <iothreads>{iothreads}</iothreads>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{image.kernel}</kernel>
    <initrd>{image.initramfs}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 no_timer_check</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    {controllers}
    {disks}
    <serial type='file'>
      <source path='{folder}/{name}.console'/><target port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path='{folder}/{name}.sock'/><target port='1'/>
    </serial>
    <memballoon model='none'/>
  </devices>
  {extra}
</domain>
'''

# Free places for disks to be attached to.
PORTS = '''
    <controller type='pci' model='pcie-root'/>
''' + 6 * '''
    <controller type='pci' model='pcie-root-port'/>
'''

# Each vCPU writes a part of its own, around the page cache.
WRITE = '''
for cpu in 0 1 2 3; do
    head -c {stamp} /dev/urandom > /run/stamp$cpu
    taskset -c $cpu dd if=/run/stamp$cpu of=/dev/{disk} bs=64k \\
        seek=$(({at} + cpu * {stamp})) oflag=direct,seek_bytes 2>&1 &
done
wait
cat /run/stamp? | md5sum
'''

# ... and reads the part of its neighbour.
READ = '''
for cpu in 0 1 2 3; do
    part=$(((cpu + 1) % 4))
    taskset -c $cpu dd if=/dev/{disk} of=/run/read$part bs=64k \\
        skip=$(({at} + part * {stamp})) count={stamp} \\
        iflag=direct,skip_bytes,count_bytes 2>&1 &
done
wait
cat /run/read? | md5sum
'''

# A load that goes on beside, in the last 8 MiB of what a disk has at first.
LOAD = '''
rounds=0
until [ -e /run/stop ]; do
    taskset -c 0-3 fio --name=load --filename=/dev/{disk} --offset={at} \\
        --size=8m --ioengine=libaio --direct=1 --iodepth=16 --thread=1 \\
        --bssplit=4k/60:16k/25:64k/15 --rw=randwrite --randrepeat=0 \\
        --verify=crc32c --verify_interval=4k --verify_fatal=1 \\
        > /run/load 2>&1 || {{ cat /run/load; exit 1; }}
    rounds=$((rounds + 1))
done
rm /run/stop
echo $rounds
'''


def disk_xml(path, target, attributes='', mapping='', inside=''):
    """A virtio disk.

    attributes and mapping: of and in <driver>; inside: more elements.
    """
    return f'''
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' io='native' {attributes}>
        {mapping}
      </driver>
      <source file='{path}'/>
      <target dev='{target}' bus='virtio'/>
      {inside}
    </disk>
'''


class Domain:
    """Its guest's stamps are remembered: (disk, number) to a checksum."""

    def __init__(self, daemon, name, emulator, image, disks, **options):
        self.daemon = daemon
        self.name = name
        self.folder = daemon.folder
        self.stamps = {}
        self.channel = None
        options = {'iothreads': 2, 'extra': '', 'machine': 'q35',
                   'memory': 512, 'controllers': PORTS, 'uuid': '', **options}
        if options['uuid']:
            options['uuid'] = f"<uuid>{options['uuid']}</uuid>"
        self.xml = XML.format(name=name, emulator=emulator, image=image,
                              vcpus=VCPUS, folder=self.folder,
                              disks=''.join(disks), **options)

    # Life

    def define(self):
        path = self.folder / f'{self.name}.xml'
        path.write_text(self.xml, encoding='utf-8')
        self.daemon.virsh('define', '--validate', path)

    def start(self, *words):
        self.daemon.virsh('start', self.name, *words)
        self.connect()
        self.wait_until(lambda: self.channel.release, BOOT_SECONDS,
                        'the guest does not start')

    def connect(self):
        """Reach the guest, which may run already."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(f'{self.folder}/{self.name}.sock')
        if self.channel:
            self.channel.sock.close()
            self.channel.sock = client
        else:
            self.channel = Channel(client)

    def move(self, daemon):
        """It has migrated to another daemon."""
        self.daemon, self.folder = daemon, daemon.folder
        self.connect()

    def poweroff(self):
        """The guest powers itself off, and libvirt notices."""
        self.channel.send('sync; poweroff -f')
        deadline = time.monotonic() + PATIENCE
        while self.virsh('domstate') != 'shut off':
            if time.monotonic() > deadline:
                raise RunError('the guest does not power off',
                               self.daemon.last_words())
            # Until QEMU has closed the port.
            if not self.channel.pump(0.5):
                time.sleep(0.1)

    # The host's side

    def virsh(self, command, *words, **options):
        return self.daemon.virsh(command, self.name, *words, **options)

    def qmp(self, command, **arguments):
        text = json.dumps({'execute': command, 'arguments': {
            key.replace('_', '-'): value
            for key, value in arguments.items()}})
        answer = json.loads(self.virsh('qemu-monitor-command', text))
        if 'error' in answer:
            raise RunError(f"{command}: {answer['error']['desc']}")
        return answer['return']

    def tree(self):
        """The live XML."""
        return ElementTree.fromstring(self.virsh('dumpxml'))

    def disk_files(self, target):
        """The chain of images, the one that is written to first."""
        disk = self.tree().find(f".//disk/target[@dev='{target}']/..")
        return [] if disk is None else [
            source.get('file') for source in disk.iter('source')
            if source.get('file')]

    def stats(self, *words):
        """domstats as a dictionary."""
        lines = self.virsh('domstats', *words).splitlines()[1:]
        return dict(line.strip().split('=', 1) for line in lines)

    def iothreads(self):
        """Numbers, as iothreadinfo lists them."""
        lines = self.virsh('iothreadinfo').splitlines()
        return sorted(int(line.split()[0]) for line in lines if line.strip())

    def queues(self, alias):
        """The IOThread of each queue."""
        return [queue.get('iothread') for queue in
                self.qmp('__org.qemu-mq_query-block-queues', id=alias)]

    # The guest's side

    def run(self, script, check=True):
        return self.wait(self.channel.send(script), check)

    def wait(self, job, check=True):
        self.wait_until(lambda: job in self.channel.answers, PATIENCE,
                        'the guest does not answer')
        status, output = self.channel.answers.pop(job)
        if check and status:
            raise RunError(f'a command failed in the guest ({status})',
                           output.splitlines()[-15:])
        return output.strip()

    def wait_until(self, done, seconds, failure):
        try:
            self.channel.wait_until(done, time.monotonic() + seconds,
                                    lambda: None)
        except TimeoutError:
            raise RunError(f'{failure} in {seconds} s',
                           self.daemon.last_words()) from None

    def await_guest(self, condition):
        """Wait until a shell condition holds in the guest."""
        self.run(f'n=0; until {condition}; do usleep 50000; n=$((n + 1)); '
                 f'[ $n -lt {PATIENCE * 10} ] || exit 1; done')

    def write(self, number, disk='vda'):
        self.stamps[disk, number] = self.run(WRITE.format(
            disk=disk, at=number * VCPUS * STAMP,
            stamp=STAMP)).split('\n')[-1]

    def read(self, number, disk='vda'):
        return self.run(READ.format(disk=disk, at=number * VCPUS * STAMP,
                                    stamp=STAMP)).split('\n')[-1]

    def verify(self):
        """RunError unless the guest reads what it has written."""
        for (disk, number), checksum in self.stamps.items():
            if self.read(number, disk) != checksum:
                raise RunError(f'{disk}: stamp {number} has changed')

    def begin_load(self, at, disk='vda'):
        return self.channel.send(LOAD.format(disk=disk, at=at))

    def end_load(self, job):
        """The number of rounds, each of which has verified its writes."""
        self.run('touch /run/stop')
        return int(self.wait(job).split('\n')[-1])
