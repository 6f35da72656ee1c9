# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver has made of a disk, as the device knows it."""

import re
from dataclasses import dataclass

# The order in which features are named: those of the ring come last.
FEATURES = ('SEG_MAX', 'SIZE_MAX', 'GEOMETRY', 'BLK_SIZE', 'TOPOLOGY', 'MQ',
            'FLUSH', 'CONFIG_WCE', 'DISCARD', 'WRITE_ZEROES',
            'INDIRECT_DESC', 'EVENT_IDX', 'RING_PACKED', 'RING_RESET',
            'ANY_LAYOUT', 'NOTIFY_ON_EMPTY', 'VERSION_1')
LIVE = 'DRIVER_OK'


@dataclass
class Look:
    status: list        # names of the bits: ACKNOWLEDGE, DRIVER...
    features: list      # names of what the driver has taken
    offered: int        # queues that the disk has
    entries: list       # of each queue that is set up

    @property
    def live(self):
        return LIVE in self.status

    @property
    def interface(self):
        return 'modern' if 'VERSION_1' in self.features else 'legacy'

    @property
    def ring(self):
        return 'packed' if 'RING_PACKED' in self.features else 'split'

    def queues(self):
        return f'{len(self.entries)} of {self.offered}'

    def sizes(self):
        return ', '.join(map(str, sorted(set(self.entries))))


def look(qmp, disk):
    """Ask the device @disk (its ID)."""
    path = f'/machine/peripheral/{disk}/virtio-backend'
    status = qmp.command('x-query-virtio-status', path=path)
    taken = status['guest-features']
    names = {short(text) for text in taken['dev-features']
             + taken['transports']}
    if status['guest-features'].get('unknown-dev-features'):
        names.add('unknown')
    offered = status['num-vqs']
    queues = [qmp.command('x-query-virtio-queue-status', path=path,
                          queue=number) for number in range(offered)]
    return Look([short(text) for text in status['status']['statuses']],
                sorted(names, key=order), offered,
                [queue['vring-num'] for queue in queues
                 if queue['vring-desc']])


def short(text):
    """'VIRTIO_BLK_F_SEG_MAX: Max segments...' -> 'SEG_MAX'"""
    name = text.split(':')[0]
    name = re.sub(r'^VIRTIO_CONFIG_S_', '', name)
    return re.sub(r'^VIRTIO_(BLK_F|RING_F|F)_', '', name)


def order(name):
    return FEATURES.index(name) if name in FEATURES else len(FEATURES), name
