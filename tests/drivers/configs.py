# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks on which each driver is tried, by what the page calls them."""

from dataclasses import dataclass, field

VCPUS = 4


@dataclass(frozen=True)
class Config:
    """A disk: the properties that differ from 'num-queues=4'."""
    queues: int = 4
    properties: dict = field(default_factory=dict)
    iothreads: bool = True      # of the machine, and not of the disk

    def device(self, name):
        """The argument of -device; the disk's node is called node-NAME."""
        found = {'driver': 'virtio-blk-pci', 'id': name, 'serial': name,
                 'drive': f'node-{name}', 'num-queues': self.queues,
                 **self.properties}
        if self.iothreads:
            found['iothread-vq-mapping'] = [{'iothread': 'iothread0'}]
            if self.queues > 1:
                found['iothread-vq-mapping'].append({'iothread': 'iothread1'})
        return found


CONFIGS = {
    'defaults': Config(),
    'disable-legacy=on': Config(properties={'disable-legacy': 'on'}),
    'disable-modern=on': Config(properties={'disable-modern': True,
                                            'disable-legacy': 'off'}),
    'packed=on': Config(properties={'packed': True}),
    'num-queues=1': Config(queues=1),
    'num-queues=8': Config(queues=8),
    'vectors=2': Config(properties={'vectors': 2}),
    'vectors=3': Config(properties={'vectors': 3}),
    'queue-size=128': Config(properties={'queue-size': 128}),
    'sectors of 4 KiB': Config(properties={'logical_block_size': 4096,
                                           'physical_block_size': 4096}),
    'iothreads=auto': Config(properties={'iothreads': 'auto'},
                             iothreads=False),
}
