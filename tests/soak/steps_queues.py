# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues, IOThreads, limits, sizes, disks that come and go."""

from chain import Chain
from guest.disk import MIB
from guest.errors import RunError
from loads import SLACK, Load
from rig import DISKS, QUEUES, SIZE
from steps import Step

MOST_IOTHREADS = 3
PLUGGED = 'plugged'


def move(rig, disk, queue, place):
    """Move to an IOThread, or to the main loop (None), and check that."""
    rig.qmp('__org.qemu-mq_block-queue-set-iothread', id=disk, queue=queue,
            **({'iothread': place} if place else {}))
    found = [entry.get('iothread') for entry in rig.queues(disk)
             if entry['queue'] == queue]
    if found != [place]:
        raise RunError(f'{disk}: queue {queue} is in {found}, not in {place}')


class Move(Step):
    weight = 20

    def plan(self, random, rig):
        places = [None, *rig.iothreads()]
        return {'moves': [(random.choice(DISKS), random.randrange(QUEUES),
                           random.choice(places))
                          for _ in range(random.randint(1, 8))]}

    def act(self, rig, moves):
        for disk, queue, place in moves:
            move(rig, disk, queue, place)


class AddIOThread(Step):
    def possible(self, rig):
        return len(rig.extra_iothreads) < MOST_IOTHREADS

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'queue': random.randrange(QUEUES),
                'poll': random.choice([0, 32768])}

    def act(self, rig, disk, queue, poll):
        rig.made_iothreads += 1
        name = f'extra{rig.made_iothreads}'
        rig.qmp('object-add', qom_type='iothread', id=name, poll_max_ns=poll)
        rig.extra_iothreads.append(name)
        move(rig, disk, queue, name)


class DeleteIOThread(Step):
    """An IOThread that still has queues has no name until they leave."""

    def possible(self, rig):
        return bool(rig.extra_iothreads)

    def plan(self, random, rig):
        return {'name': random.choice(rig.extra_iothreads),
                'to': random.choice([None, 'iothread0', 'iothread1']),
                'first': random.choice(['move', 'delete'])}

    def act(self, rig, name, to, first):
        inside = [(disk, queue['queue']) for disk in DISKS
                  for queue in rig.queues(disk)
                  if queue.get('iothread') == name]
        actions = [lambda: rig.qmp('object-del', id=name),
                   lambda: [move(rig, *queue, to) for queue in inside]]
        for action in actions if first == 'delete' else reversed(actions):
            action()
        rig.extra_iothreads.remove(name)
        if name in [entry['id'] for entry in rig.qmp('query-iothreads')]:
            raise RunError(f'{name} is still there')


class Limit(Step):
    """The disks may share a group."""

    CHOICES = ({}, {'iops': 500}, {'bps': 64 * MIB},
               {'iops_wr': 300, 'iops_wr_max': 900, 'iops_wr_max_length': 2},
               {'bps_rd': 48 * MIB, 'iops_wr': 400, 'iops_size': 65536})

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'limits': random.choice(self.CHOICES),
                'group': random.choice([None, 'shared'])}

    def act(self, rig, disk, limits, group):
        words = {**{name: 0 for name in ('bps', 'bps_rd', 'bps_wr', 'iops',
                                         'iops_rd', 'iops_wr')}, **limits}
        if group and limits:
            words['group'] = group
        # These names have underscores, which Qmp would make dashes.
        rig.side.qmp.command_as_is(
            'block_set_io_throttle', **words,
            id=f'/machine/peripheral/{disk}/virtio-backend')
        found = [entry['inserted'] for entry in rig.qmp('query-block')
                 if entry.get('qdev', '').split('/')[-2:-1] == [disk]][0]
        for name, value in limits.items():
            if name in found and found[name] != value:
                raise RunError(f'{disk}: {name} is {found[name]}')


class Resize(Step):
    def plan(self, random, rig):
        disk = random.choice(DISKS)
        chain = rig.chains[disk]
        # No layer below an overlay may be larger than the overlay.
        least = SIZE if len(chain.layers) == 1 else chain.size
        steps = (SIZE + 16 * MIB - least) // 4096
        return {'disk': disk, 'size': least + 4096 * random.randint(0, steps)}

    def act(self, rig, disk, size):
        chain = rig.chains[disk]
        rig.qmp('block_resize', node_name=chain.active.node, size=size)
        chain.size = size
        device = rig.device_of(disk).rpartition('/')[2]
        rig.guest(f'''
for turn in $(seq 600); do
    [ $(cat /sys/block/{device}/size) = {size // 512} ] && exit 0
    usleep 100000
done
cat /sys/block/{device}/size
exit 1''')


class Plug(Step):
    """A disk comes, is written and compared, and goes while it is written.

    After Linux has slept it notices no new disk, with stock QEMU as well."""

    def possible(self, rig):
        return not rig.has_slept

    def plan(self, random, rig):
        return {'image_format': random.choice(['raw', 'qcow2']),
                'iothreads': random.choice([1, 2, 3])}

    def act(self, rig, image_format, iothreads):
        chain = Chain(PLUGGED, rig.folder, rig.chains['data'].qemu_img, SIZE)
        layer = chain.new_layer(image_format)
        chain.layers.append(layer)
        rig.add_nodes(layer.blockdevs(rig.direct))
        rig.side.qmp.command_as_is('device_add', bus='port0',
                                   **rig.device(chain, iothreads))
        rig.guest(f'''
for turn in $(seq 600); do
    grep -qx {PLUGGED} /sys/block/vd*/serial && exit 0
    usleep 100000
done
exit 1''')
        load = self.use(rig)
        rig.qmp('device_del', id=PLUGGED)
        rig.side.wait_for('DEVICE_DELETED', device=PLUGGED)
        rig.guest(f'killall -9 soak-{PLUGGED}')
        self.compare(rig, chain, load)
        rig.loads['data'].bytes += load.bytes
        rig.drop_layer(layer)

    @staticmethod
    def use(rig):
        """A load that has been compared once, and goes on."""
        load = Load('blocks', rig.options.load, rig.folder, PLUGGED)
        load.start(rig.side, rig.device_of(PLUGGED), rig.epoch)
        load.tell(rig.side, 'go')
        load.tell(rig.side, 'check')
        load.tell(rig.side, 'go')
        return load

    @staticmethod
    def compare(rig, chain, load):
        """What the load had flushed is there; its last writes have failed."""
        copy = rig.folder / 'plugged.raw'
        chain.raw_copy(chain.layers, copy)
        load.verify_here(copy, load.read_log(), SLACK[load.kind])
        copy.unlink()


STEPS = [Move(), AddIOThread(), DeleteIOThread(), Limit(), Resize(), Plug()]
