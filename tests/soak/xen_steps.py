# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to a domU and its disks on a Xen host."""

import re

from guest.errors import RunError
from steps import Step
from xen_rig import DISK_MIB, DISKS, PIECES, VCPUS

# Of Linux' xen-blkfront, which allocates pages for the segments of all requests
# that its rings can hold: larger ones do not fit into the domU's memory.
PARAMETERS = {'max_queues': (1, 2, 4), 'max_ring_page_order': (0, 1),
              'max_indirect_segments': (0, 32, 64)}


class Write(Step):
    weight = 30

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'pieces': random.sample(range(PIECES), 4)}

    def act(self, rig, disk, pieces):
        for piece in pieces:
            rig.write(disk, piece)


class Discard(Step):
    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'piece': random.randrange(PIECES)}

    def act(self, rig, disk, piece):
        rig.discard(disk, piece)


class Hotplug(Step):
    """A third disk comes, is written to and goes."""

    def plan(self, random, rig):
        return {'kind': random.choice(['raw', 'qcow2']),
                'times': random.randint(1, 3)}

    def act(self, rig, kind, times):
        rig.new_image('xvdc', kind)
        for _ in range(times):
            rig.domu.attach('xvdc', rig.words('xvdc', kind))
            rig.write('xvdc', 1)
            rig.domu.detach('xvdc')
        del rig.known['xvdc', 1]
        rig.dom0.run('rm /images/xvdc')


class FailedAttach(Step):
    """A disk that cannot be attached leaves its name to one that can be."""

    def act(self, rig):
        rig.domu.new_image('xvdc', 1)
        rig.domu.attach_in_vain('xvdc', rig.words('xvdc', 'qcow2'))
        rig.domu.xl(f'block-detach {rig.domu.name} xvdc')
        rig.domu.attach('xvdc', rig.words('xvdc', 'raw'))
        rig.domu.detach('xvdc')
        rig.dom0.run('rm /images/xvdc')


class Pause(Step):
    def plan(self, random, rig):
        return {'times': random.randint(1, 5)}

    def act(self, rig, times):
        for _ in range(times):
            rig.domu.xl(f'pause {rig.domu.name}')
            rig.domu.xl(f'unpause {rig.domu.name}')
        rig.load.progress()


class Cpus(Step):
    """All but one of the vCPUs go and come back."""

    def act(self, rig):
        for vcpus in (1, VCPUS):
            rig.domu.set_vcpus(vcpus)
        # Its threads have been moved to the CPU that stayed.
        rig.end_load()


class Monitor:
    """The human monitor of the domU's device model, about one disk."""

    def __init__(self, domu, disk):
        self.ask = domu.monitor
        said = self.ask('info block')
        match = re.search(rf'^{disk}.*\n(?:\s.*\n)*?\s+Attached to:\s+(\S+)',
                          said, re.M)
        if not match:
            raise RunError(f'info block does not tell of {disk}',
                           said.splitlines())
        self.path = match[1]

    def tell(self, command):
        """A command that says nothing when all is well."""
        said = self.ask(command)
        if said.strip():
            raise RunError(f'{command} failed', said.splitlines())

    def places(self):
        """The IOThread of each ring; '' is the main loop."""
        found = re.findall(rf'^{re.escape(self.path)} queue \d+: '
                           r'iothread=(\(main loop\)|\S+)',
                           self.ask('info queues'), re.M)
        return ['' if place == '(main loop)' else place for place in found]

    def move(self, ring, place):
        self.tell(f'queue_set_iothread {self.path} {ring} {place}'.rstrip())
        if self.places()[ring] != place:
            raise RunError(f'ring {ring} is not in {place or "the main loop"}',
                           [str(self.places())])


class Limits(Step):
    """xvda gets limits in its device model, and loses them."""

    def plan(self, random, rig):
        return {'iops': random.randint(50, 500)}

    def act(self, rig, iops):
        monitor = Monitor(rig.domu, 'xvda')
        for limit in (iops, 0):
            monitor.tell(
                f'block_set_io_throttle {monitor.path} 0 0 0 {limit} 0 0')
            rig.load.progress()


class Move(Step):
    """The rings of xvda go from thread to thread and back, under load."""

    IOTHREADS = ('extra0', 'extra1')

    def plan(self, random, rig):
        return {'moves': [(random.randrange(rig.rings),
                           random.choice(['', *self.IOTHREADS]))
                          for _ in range(random.randint(2, 8))],
                'first': random.choice(['move', 'delete'])}

    def act(self, rig, moves, first):
        monitor = Monitor(rig.domu, 'xvda')
        before = monitor.places()
        for name in self.IOTHREADS:
            monitor.tell(f'object_add iothread,id={name}')
        for ring, place in moves:
            monitor.move(ring, place)
            rig.load.progress()
        # An IOThread that is deleted stays until its rings have left it.
        actions = [lambda: [monitor.tell(f'object_del {name}')
                            for name in self.IOTHREADS],
                   lambda: [monitor.move(ring, place)
                            for ring, place in enumerate(before)]]
        for action in actions if first == 'delete' else reversed(actions):
            action()
        rig.load.progress()


class Resize(Step):
    """xvdb becomes larger or smaller, and the domU sees it."""

    def plan(self, random, rig):
        return {'mib': random.randint(PIECES, 2 * DISK_MIB)}

    def act(self, rig, mib):
        # Only a named BlockBackend can be resized by block_resize.
        monitor = Monitor(rig.domu, 'xvdb')
        monitor.tell(f'qemu-io -d {monitor.path} "truncate {mib}M"')
        rig.domu.run(f'until [ $(cat /sys/block/xvdb/size) = {mib * 2048} ]; '
                     'do usleep 20000; done')


class SaveAndRestore(Step):
    ends_process = True

    def act(self, rig):
        rig.domu.xl(f'save {rig.domu.name} /images/saved', 600)
        rig.domu.restore('/images/saved')
        rig.dom0.run('rm /images/saved')
        rig.load.progress()


class Migrate(Step):
    """To the same host, where this Xen can."""

    ends_process = True

    def possible(self, rig):
        return rig.can_migrate

    def act(self, rig):
        rig.can_migrate = rig.domu.migrate()
        rig.load.progress()


class Driver(Step):
    """Linux' driver is loaded again, with other parameters."""

    def plan(self, random, rig):
        return {name: random.choice(values)
                for name, values in PARAMETERS.items()}

    def act(self, rig, **parameters):
        rig.end_load()
        for disk in DISKS:
            rig.domu.detach(disk)
        words = ' '.join(f'{name}={value}'
                         for name, value in parameters.items())
        rig.domu.run('rmmod xen_blkfront && '
                     f'insmod /modules/xen_blkfront.ko {words}')
        for disk in DISKS:
            rig.domu.attach(disk, rig.words(disk))


class End(Step):
    """The domU ends under load and boots again on the same images."""

    ends_process = True
    weight = 15

    def plan(self, random, rig):
        return {'how': random.choice(['destroy', 'crash', 'poweroff'])}

    def act(self, rig, how):
        if how == 'destroy':
            rig.domu.xl(f'destroy {rig.domu.name}')
        else:
            rig.domu.begin({'crash': 'echo c >/proc/sysrq-trigger',
                            'poweroff': 'poweroff -f'}[how])
        rig.domu.wait_gone()
        rig.boot_domu()


STEPS = [Write(), Discard(), Hotplug(), FailedAttach(), Pause(), Cpus(),
         Limits(), Move(), Resize(), SaveAndRestore(), Migrate(), Driver(),
         End()]
