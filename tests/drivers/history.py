# SPDX-License-Identifier: GPL-2.0-or-later
"""What has been done to a disk so far, from QEMU's trace events."""

import re

EVENTS = ('virtio_set_status', 'msix_write_config')
# A reset is two events: the driver writes 0, and the device becomes new.
EVENTS_OF_A_RESET = 2


def arguments(folder):
    """QEMU's, which make it write the history of its only virtio disk."""
    found = ['-D', f'{folder}/history']
    for event in EVENTS:
        found += ['-trace', event]
    return found


class History:
    def __init__(self, folder):
        self.path = folder / 'history'

    def statuses(self):
        """All values of the device's status, oldest first."""
        return [int(value) for value in
                re.findall(r'virtio_set_status vdev \S+ val (\d+)',
                           self.path.read_text())]

    def msix(self):
        """Whether the driver has MSI-X enabled."""
        found = re.findall(r'msix_write_config dev \S+ enabled (\d)',
                           self.path.read_text())
        return bool(found) and found[-1] == '1'


def resets_before_use(statuses):
    """How often a device is reset until a driver acknowledges it."""
    count = 0
    for status in statuses:
        if status:
            break
        count += 1
    return count // EVENTS_OF_A_RESET
