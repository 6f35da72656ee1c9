# SPDX-License-Identifier: GPL-2.0-or-later
"""What must not pile up in a process: memory, file handles, threads.

The first figures of a process with so many layers and IOThreads are what it may
use whenever it has as many again, and a few handles more, because an event loop
gets what it needs for asynchronous I/O when it is first used.  A thread pool's
workers come and go.

Memory grows for a while, as each thread's allocator and pools of coroutines get
what the load needs.  In one process of a hundred steps it went from 97 MiB
after four steps to 105 after twenty and 118 at most.  A seed that does not keep
its process has the first of the two limits only.
"""

import os
import re
from collections import Counter
from pathlib import Path

from guest.errors import RunError

WARM_UP = 4             # steps
# Bytes that a heap may have more than after so many steps.
MEMORY = {WARM_UP: 32 << 20, 20: 20 << 20}
HANDLES = 8             # of a kind
IMAGES = 'images'


def memory(process):
    """Private memory, without what TCG has translated, which grows up to a
    limit of its own.  The guest's memory is shared."""
    size, counts = 0, False
    for line in Path(f'/proc/{process}/smaps').read_text().splitlines():
        head = re.match(r'[0-9a-f]+-[0-9a-f]+ (\S+) ', line)
        if head:
            counts = 'x' not in head[1]
        elif counts and line.startswith('Anonymous:'):
            size += int(line.split()[1]) << 10
    return size


def threads(process):
    names = Counter()
    for task in Path(f'/proc/{process}/task').iterdir():
        try:
            name = (task / 'comm').read_text().strip()
        except OSError:
            continue
        if name != 'worker':
            names[re.sub(r'\d+', 'N', name)] += 1
    return names


def handles(process):
    """What the handles are, without what differs from one to the next; those
    of images are one kind."""
    kinds = Counter()
    for entry in Path(f'/proc/{process}/fd').iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith('/'):
            target = 'file'
        if re.search(r'\.(raw|qcow2)( |$)', target):
            target = IMAGES
        kinds[re.sub(r'\d+', 'N', target)] += 1
    return kinds


class Watch:
    def __init__(self):
        self.process = None
        self.steps = 0
        self.first = {}
        self.most = Counter()

    def look(self, process, iothreads, layers):
        """After a step; RunError if something has grown.

        iothreads, layers: how many there are, of those that come and go."""
        if process != self.process:
            self.process, self.steps, self.first = process, 0, {}
            self.heaps = {}
        self.steps += 1
        opened, heap = handles(process), memory(process)
        now = {('images', layers): Counter(images=opened.pop(IMAGES, 0)),
               ('file handles', iothreads): opened,
               ('threads', iothreads): threads(process)}
        self.most |= Counter(
            memory=heap, threads=sum(now['threads', iothreads].values()),
            handles=sum(opened.values()) + now['images', layers][IMAGES])
        if self.steps < WARM_UP:
            return
        self.look_at_heap(heap)
        for key, present in now.items():
            grown = present - self.first.setdefault(key, present)
            spare = 0 if key[0] == 'threads' else HANDLES
            if any(count > spare for count in grown.values()):
                raise RunError(
                    f'{key[0]} have grown: {dict(grown)} more than when the '
                    f'guest was first in the same configuration')

    def look_at_heap(self, heap):
        for steps, more in MEMORY.items():
            if self.steps < steps:
                continue
            before = self.heaps.setdefault(steps, heap)
            if heap > before + more:
                raise RunError(
                    f'memory has grown from {before >> 20} MiB, after {steps} '
                    f'steps, to {heap >> 20} MiB')
