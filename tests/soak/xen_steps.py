# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to a domU and its disks on a Xen host."""

import re

from guest.errors import RunError
from steps import Step
from xen_rig import DISKS, PIECES, VCPUS

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


class Limits(Step):
    """xvda gets limits in its device model, and loses them."""

    def plan(self, random, rig):
        return {'iops': random.randint(50, 500)}

    def act(self, rig, iops):
        said = rig.domu.xl(f"qemu-monitor-command {rig.domu.name} "
                           "'info block'")
        match = re.search(r'^xvda.*\n(?:\s.*\n)*?\s+Attached to:\s+(\S+)',
                          said, re.M)
        if not match:
            raise RunError('info block does not tell of xvda',
                           said.splitlines())
        for limit in (iops, 0):
            said = rig.domu.xl(
                f"qemu-monitor-command {rig.domu.name} 'block_set_io_throttle "
                f"{match[1]} 0 0 0 {limit} 0 0'")
            if said.strip():
                raise RunError('no limits', said.splitlines())
            rig.load.progress()


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
         Limits(), SaveAndRestore(), Migrate(), Driver(), End()]
