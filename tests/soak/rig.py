# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine under test: its disks, its loads, and its present process.

    data    a bare disk of 4 queues; every block has one writer
    files   a filesystem on 4 queues; files are replaced and fsync'd
    port0   where further disks are plugged in

The process changes when the guest migrates or is cut off; disks stay.
"""

import contextlib
import json
import shutil
import subprocess
import time
from itertools import product

from chain import Chain, SECRET
from guest import accel, disk, image
from guest.disk import MIB
from guest.errors import RunError
from guest.initramfs import Archive
from guest.machine import Machine, spread
from loads import PORTS, Load, log_of
from watch import Watch

VCPUS = QUEUES = 4
IOTHREADS = 3
MEMORY = 512
SIZE = 48 * MIB
BOOT = 300
DISKS = ('data', 'files')
# What the data disk is: format, cache=none, bytes of a block, detect-zeroes.
# The seeds take them in turn.
KINDS = (('raw', True, 512, 'off'), ('qcow2', True, 4096, 'off'),
         ('qcow2', False, 512, 'off'), ('qcow2', True, 512, 'off'),
         ('raw', True, 4096, 'off'), ('luks', True, 512, 'off'),
         ('qcow2', True, 512, 'unmap'))
RING_KEYS = ('vring-num', 'last-avail-idx', 'shadow-avail-idx', 'used-idx',
             'signalled-used', 'signalled-used-valid', 'inuse')


class Side(Machine):
    """One process.  Errors of a disk stop the guest, which is to be noticed
    unless a step has asked for them."""

    errors_expected = False

    # glibc keeps what has been freed at the end of each thread's arena, up to a
    # threshold that it raises to 64 MiB by itself.  A fixed one makes the
    # memory of the process follow what QEMU has allocated.
    environment = {'MALLOC_TRIM_THRESHOLD_': str(128 * 1024)}

    def check(self):
        if self.process.poll() is not None:
            raise RunError(f'QEMU ended with status {self.process.returncode}')
        for event in self.qmp.poll_events():
            if event['event'] == 'BLOCK_IO_ERROR' and not self.errors_expected:
                raise RunError(f"an I/O error: {event['data']}")
            if event['event'] in ('GUEST_PANICKED', 'BLOCK_IMAGE_CORRUPTED'):
                raise RunError(f"{event['event']}: {event.get('data')}")

    def wait_for(self, name, timeout=120, **data):
        """Wait for an event that has this data."""
        return self.qmp.wait_event(
            lambda event: event['event'] == name and
            data.items() <= event.get('data', {}).items(), timeout)

    def has_happened(self, name):
        self.check()
        return any(event['event'] == name for event in self.qmp.events)

    def forget_events(self):
        self.check()
        self.qmp.events.clear()

    def take_over(self, release):
        """The guest runs here now; it has said long ago that it is ready."""
        self.guest.release = release


class Rig:
    def __init__(self, options, folder, say):
        self.options, self.folder, self.say = options, folder, say
        self.accel = accel.choose(options.accel, options.qemu).name
        self.guest_image = self.make_image()
        self.chains = {}
        self.loads = {
            name: Load(kind, options.load, folder, name)
            for name, kind in (('data', 'blocks'), ('files', 'files'))}
        self.watch = Watch()
        self.side = None
        self.sides = self.epoch = self.made_iothreads = 0
        self.extra_iothreads = []
        self.limited = {}
        self.direct = True
        self.formatted = self.has_slept = False

    @staticmethod
    def shape(seed):
        return dict(zip(('data_format', 'direct', 'block', 'detect_zeroes'),
                        KINDS[seed % len(KINDS)]))

    @property
    def bytes_compared(self):
        return sum(load.bytes for load in self.loads.values())

    # Making

    def make_image(self):
        """The guest of 'make run', and the load's program in it."""
        made = image.guest_image(self.options.build / 'guest', self.say)
        whole = self.folder / 'initramfs'
        with open(whole, 'wb') as stream:
            with open(made.initramfs, 'rb') as source:
                shutil.copyfileobj(source, stream)
            archive = Archive(stream)
            archive.program(self.options.load, '/usr/bin/soak-load')
            archive.close()
        return image.GuestImage(made.kernel, whole, made.release)

    def make_disks(self, data_format, direct, block, detect_zeroes):
        self.direct = direct
        for name in DISKS:
            chain = Chain(name, self.folder, disk.find_qemu_img(
                self.options.qemu), SIZE, block if name == 'data' else 512,
                detect_zeroes)
            chain.layers.append(chain.new_layer(
                data_format if name == 'data' else 'qcow2'))
            self.chains[name] = chain
        self.loads['data'].block = block

    def new_side(self, qemu=None):
        """A process that is not started yet."""
        self.sides += 1
        folder = self.folder / f'side{self.sides}'
        folder.mkdir()
        qemu = qemu or self.options.qemu
        # Writes of parts of a block are lost in stock, if several IOThreads
        # do them at once; without O_DIRECT there are none.
        direct = self.direct and qemu == self.options.qemu
        side = Side(qemu, self.guest_image, folder, self.accel, VCPUS,
                    'pc-q35-10.0,memory-backend=ram', MEMORY)
        side.arguments = [word.replace('tcg,', 'tcg,tb-size=64,')
                          .replace(' quiet', ' loglevel=7')
                          for word in side.arguments]
        side.add('-name', 'soak,debug-threads=on', *SECRET,
                 '-object', 'memory-backend-memfd,id=ram,share=on,'
                 f'size={MEMORY}M',
                 '-device', 'pcie-root-port,id=port0,addr=4,chassis=1')
        for name, port in PORTS.items():
            side.add('-chardev', f'file,id=flushed-{name},append=on,'
                     f'path={log_of(self.folder, name)}', '-device',
                     f'isa-debugcon,iobase={port},chardev=flushed-{name}')
        side.add_iothreads(IOTHREADS)
        for number, chain in enumerate(self.chains.values()):
            for node in chain.blockdevs(direct):
                side.add('-blockdev', json.dumps(node))
            side.add('-device', json.dumps(
                {**self.device(chain), 'addr': f'0x{5 + number}'}))
        return side

    @staticmethod
    def device(chain, iothreads=IOTHREADS):
        return {'driver': 'virtio-blk-pci', 'id': chain.name,
                'serial': chain.name, 'drive': chain.active.node,
                'num-queues': QUEUES, 'werror': 'stop', 'rerror': 'stop',
                'logical_block_size': chain.block,
                'physical_block_size': chain.block,
                'iothread-vq-mapping': [
                    {'iothread': f'iothread{number}', 'vqs': queues}
                    for number, queues in enumerate(
                        spread(QUEUES, iothreads))]}

    # Short names

    def qmp(self, command, **arguments):
        answer = self.side.qmp.command(command, timeout=120, **arguments)
        self.side.check()
        return answer

    def guest(self, script, timeout=120):
        return self.side.run(script, timeout)

    def queues(self, name):
        return self.qmp('__org.qemu-mq_query-block-queues', id=name)

    def iothreads(self):
        return [f'iothread{number}' for number in range(IOTHREADS)] + \
            self.extra_iothreads

    def device_of(self, serial):
        return self.guest(f'''
for disk in /sys/block/vd*; do
    [ "$(cat $disk/serial)" != {serial} ] || echo /dev/${{disk##*/}}
done''').strip()

    # The life of the guest

    def adopt(self, side):
        """This process has the guest now."""
        if self.side:
            self.side.kill()
        self.side = side
        self.extra_iothreads, self.limited = [], {}

    def boot(self):
        """Start a process and its guest, which may find data."""
        side = self.new_side()
        self.adopt(side)
        side.start(BOOT)
        self.begin_loads()

    def begin_loads(self):
        """In a guest that has just booted: what is on the disks is compared
        with what must be there, and everything begins anew."""
        device = {name: self.device_of(name) for name in DISKS}
        if self.formatted:
            self.loads['data'].verify_in(self.side, device['data'])
        else:
            self.guest(f"mkfs.ext4 -q -F {device['files']}")
        self.guest(f"mount -t ext4 {device['files']} /mnt")
        if self.formatted:
            self.loads['files'].verify_in(self.side, f'/mnt/{self.epoch}')
        self.formatted, self.has_slept = True, False
        self.epoch += 1
        self.guest(f'rm -rf /mnt/[0-9]*; mkdir /mnt/{self.epoch}; sync')
        self.loads['data'].start(self.side, device['data'], self.epoch)
        self.loads['files'].start(self.side, f'/mnt/{self.epoch}', self.epoch)
        self.go()

    def go(self):
        for load in self.loads.values():
            load.tell(self.side, 'go')

    def hold(self):
        """No load has a request under way after this."""
        for load in self.loads.values():
            load.tell(self.side, 'hold')

    def check(self):
        """All data, the process, the guest."""
        jobs = [load.begin(self.side, 'check')
                for load in self.loads.values()]
        for load, job in zip(self.loads.values(), jobs):
            load.end(self.side, job)
        self.check_queues()
        self.side.forget_events()
        self.watch.look(self.side.process.pid, len(self.extra_iothreads),
                        sum(len(chain.layers)
                            for chain in self.chains.values()))
        self.go()

    def check_queues(self):
        for name in DISKS:
            for queue in self.queues(name):
                place = queue.get('iothread')
                if place and place not in self.iothreads():
                    raise RunError(f"{name}: queue {queue['queue']} is in "
                                   f'{place}, which is not there')

    def work_a_while(self, operations=32):
        """Until every writer of blocks has done this much more."""
        load = self.loads['data']
        before = list(load.read_log())
        deadline = time.monotonic() + 240
        while any(now < old + operations
                  for now, old in zip(load.read_log(), before)):
            if time.monotonic() > deadline:
                raise self.side.failure('the load does not get on')
            self.side.guest.pump(0.05)
            self.side.check()

    # Jobs

    def wait_job(self, job, meanwhile=lambda: None, until='concluded'):
        """Wait for a status of a job that is not dismissed by itself."""
        deadline = time.monotonic() + 300
        while True:
            found = [entry for entry in self.qmp('query-jobs')
                     if entry['id'] == job]
            if not found:
                raise RunError(f'{job} is gone')
            if found[0].get('error'):
                raise RunError(f"{job}: {found[0]['error']}")
            if found[0]['status'] == until:
                break
            if found[0]['status'] == 'concluded':
                raise RunError(f'{job} has ended early')
            if time.monotonic() > deadline:
                raise RunError(f"{job} does not end: {found[0]}")
            meanwhile()
            self.side.guest.pump(0.05)
        if until == 'concluded':
            self.qmp('job-dismiss', id=job)

    def add_nodes(self, nodes):
        for node in nodes:
            self.qmp('blockdev-add', **{key.replace('-', '_'): value
                                        for key, value in node.items()})

    def drop_layer(self, layer, debug=False, keep_file=False):
        names = [layer.node] + ([f'{layer.node}-debug'] if debug else []) + \
            [f'{layer.node}-file']
        for name in names:
            self.qmp('blockdev-del', node_name=name)
        if not keep_file:
            layer.path.unlink()

    # The end

    def state(self):
        """What helps to understand a failure, as lines; errors are ignored."""
        if self.side is None or self.side.process.poll() is not None:
            return []
        lines = []
        for command, words in (
                ('query-status', {}), ('query-jobs', {}),
                *(('__org.qemu-mq_query-block-queues', {'id': name})
                  for name in DISKS)):
            with contextlib.suppress(RunError, TimeoutError):
                lines.append(f'{command}: ' + json.dumps(
                    self.side.qmp.command(command, timeout=10, **words)))
        lines += self.ring_states()
        with contextlib.suppress(RunError):
            _, said = self.side.run(
                'dmesg | tail -n 20; ps | grep -v "\\[" | tail -n 20', 20,
                check=False)
            lines += [f'guest: {line}' for line in said.splitlines()]
        return lines

    def ring_states(self):
        """The indices of the rings: they show a lost request or interrupt."""
        lines = []
        for name, queue in product(DISKS, range(QUEUES)):
            words = {'path': f'/machine/peripheral/{name}/virtio-backend',
                     'queue': queue}
            with contextlib.suppress(RunError, TimeoutError):
                found = self.side.qmp.command('x-query-virtio-queue-status',
                                              timeout=10, **words)
                element = self.side.qmp.command('x-query-virtio-queue-element',
                                                timeout=10, **words)
                lines.append(f'{name} queue {queue}: ' + ', '.join(
                    f'{key} {found[key]}' for key in RING_KEYS
                    if key in found) +
                    f", ring {element['avail']} {element['used']}")
        return lines

    def finish(self):
        """End, and look at what is left."""
        self.check()
        self.hold()
        self.guest('''
killall -9 soak-files
for turn in $(seq 600); do
    umount /mnt && exit 0
    usleep 100000
done
exit 1''')
        # Linux cannot power off by ACPI when it has slept.
        self.side.qmp.command('quit')
        if self.side.process.wait(120):
            raise self.side.failure('QEMU did not end well')
        for chain in self.chains.values():
            chain.check(after_a_cut=False)
        raw = self.folder / 'files.raw'
        chain = self.chains['files']
        chain.raw_copy(chain.layers, raw)
        done = subprocess.run(
            [image.find_program('e2fsck', 'e2fsprogs'), '-f', '-n', raw],
            capture_output=True, text=True, check=False)
        raw.unlink()
        if done.returncode:
            raise RunError('e2fsck finds errors', done.stdout.splitlines())

    def kill(self):
        if self.side:
            self.side.kill()
