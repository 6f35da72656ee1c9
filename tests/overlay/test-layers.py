#!/usr/bin/env python3
#
# Who may call whom in the device models, in the block layer and in util.
# LAYERS has the order, over all folders: a source file uses what it has itself
# and what files below it have, and a header includes headers below it only.
# What a lower file wants of a higher one goes through a table of functions that
# the higher one fills in.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent

# From the bottom up.  A header without a source file of its name is shared by
# the files after it.
LAYERS = {
    'util': [
        'base-version.h', 'uninitialized.h', 'tsan-guest-memory.h',
        'thread-slot', 'thread-shards', 'asym-barrier', 'brief-read',
        'hbitmap-shared', 'coroutine-x86-64', 'io-uring-thread.h', 'fdmon-ring',
    ],
    'block': [
        # Requests of any node
        'accounting.h', 'accounting-shard.h', 'accounting-latency',
        'accounting.c', 'in-flight', 'tracked-requests', 'throttle-shares',
        'chunk-claims',
        # qcow2
        'qcow2-slots', 'qcow2-metadata', 'qcow2-lookup', 'qcow2-load',
    ],
    'hw/virtio': [
        'ring-view', 'ring-view-source', 'vring.h', 'vring-layout.h',
        'vring-chain', 'vring-split', 'vring-packed', 'vring.c', 'vring-vdev',
    ],
    "hw/xen, for QEMU's bus": [
        'xen-guest-log', 'xen-native',
    ],
    'hw/block': [
        # Queues of any block device
        'block-slab', 'block-queue-state', 'block-queue', 'queue-iothreads',
        'stats-intervals', 'block-queue-device', 'block-queue-monitor',
        # virtio-blk
        'virtio-blk.h', 'virtio-blk-queue.h',
        'virtio-blk-request.h', 'virtio-blk-segments', 'virtio-blk-answer',
        'virtio-blk-capacity', 'virtio-blk-zoned', 'virtio-blk-request.c',
        'virtio-blk-ring', 'virtio-blk-queue.c',
        'virtio-blk-control', 'virtio-blk-ioeventfd', 'virtio-blk-migration',
        'virtio-blk-query', 'virtio-blk.c',
        # Xen PV disk
        'xen-vdev', 'xen-block-budget', 'xen-block-buffers',
        'xen-block-request', 'xen-block-grants', 'xen-block-queue.h',
        'xen-block-io', 'xen-block-queue.c', 'xen-block.h',
        'xen-block-control', 'xen-block-connect', 'xen-block.c',
        'xen-block-failed', 'xen-block-toolstack',
    ],
    'hw/virtio, what a machine plugs': [
        'virtio-blk-pci',
    ],
    'hw/xen, for tests': [
        'xen-standin.h',
        'xen-standin-memory', 'xen-standin-gnttab', 'xen-standin-evtchn',
        'xen-standin-watch', 'xen-standin-xenstore', 'xen-standin-control',
        'xen-standin.c',
    ],
}

FOLDERS = ('util', 'include/qemu', 'block', 'include/block', 'hw/virtio',
           'include/hw/virtio', 'hw/block', 'include/hw/block', 'hw/xen',
           'include/hw/xen')

# A function or an object that other files see, at its definition.
DEFINITION = re.compile(
    r'^(?!static\b|typedef\b|extern\b|return\b|else\b)'
    r'[a-z_A-Z][\w \t*]*?[ *\n](\w+)'
    r'(?:\([^;{}]*\)\s*\n\{|(?:\[[^\]]*\])*\s*=\s*\{)', re.M)
COMMENT = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|//[^\n]*', re.S)
INCLUDE = re.compile(r'^#include "(?:[\w./-]*/)?([\w-]+\.h)"', re.M)


def code(text):
    """Without comments and strings, but with what it includes."""
    includes = ''.join(f'#include "{name}"\n'
                       for name in INCLUDE.findall(text))
    return includes + COMMENT.sub(' ', re.sub(r'^#include.*$', '', text,
                                              flags=re.M))


def definitions(text):
    # A static function may have its name on the line after.
    text = re.sub(r'^(static\b(?:[^\n(){};=]|\(\(\w+\)\))*)\n', r'\1 ',
                  code(text), flags=re.M)
    return {match[1] for match in DEFINITION.finditer(text)}


def upward(texts, level):
    """What in @texts, a dictionary by file name, uses what is above it."""
    found = []
    owner = {name: file for file, text in texts.items() if file.endswith('.c')
             for name in definitions(text)}
    for file, text in texts.items():
        text = code(text)
        body = text
        own = level[file]
        if file.endswith('.h'):
            # Declarations begin in column 0, and inline code does not.  The
            # inline code is as high as the source of the header's name.
            body = '\n'.join(re.findall(r'^[ \t].*', text, re.M))
            own = max(own, level.get(file[:-1] + 'c', 0))
        for name in sorted(set(re.findall(r'\w+', body)) & set(owner)):
            if level[owner[name]] > own:
                found.append(f'{file}: {name} of {owner[name]}')
        for header in INCLUDE.findall(text):
            if header in level and level[header] > level[file]:
                found.append(f'{file}: includes {header}')
    return found


def levels():
    """By name, how high each file of LAYERS stands."""
    level = {}
    for i, name in enumerate(sum(LAYERS.values(), [])):
        for file in (name,) if '.' in name else (f'{name}.c', f'{name}.h'):
            level.setdefault(file, i)
    return level


def our_files():
    """By name: sources and headers of all folders."""
    return {path.name: path.read_text() for folder in FOLDERS
            for path in (REPO / folder).glob('*.[ch]')}


class LayersTest(unittest.TestCase):
    def test_every_file_has_a_layer(self):
        level = levels()
        self.assertEqual([name for name in our_files() if name not in level],
                         [], 'files without a place in LAYERS')

    def test_names_are_unique(self):
        paths = [path.name for folder in FOLDERS
                 for path in (REPO / folder).glob('*.[ch]')]
        self.assertEqual(len(paths), len(set(paths)))

    def test_nothing_is_used_upwards(self):
        self.assertEqual(upward(our_files(), levels()), [])

    def test_upward_uses_are_seen(self):
        level = {'low.c': 0, 'low.h': 0, 'high.c': 1, 'high.h': 1}
        low = ('#include "low.h"\nint low(void)\n{\n    return 1;\n}\n'
               'static __attribute__((noinline))\nint own(void)\n{\n}\n')
        high = ('#include "high.h"\nstatic int own(void)\n{\n    return 1;\n}\n'
                'bool *coroutine_fn high_call(int a,\n               int b)\n'
                '{\n}\nconst Ops high_ops = {\n    .low = low,\n};\n')
        self.assertEqual(definitions(low), {'low'})
        self.assertEqual(definitions(high), {'high_call', 'high_ops'})
        good = {'low.c': low, 'high.c': high, 'high.h': '#include "low.h"\n'}
        self.assertEqual(upward(good, level), [])
        self.assertEqual(
            upward({**good, 'low.c': low + 'int x(void)\n{\n  high_call();\n}'},
                   level), ['low.c: high_call of high.c'])
        self.assertEqual(
            upward({**good, 'low.c': low + '/* high_call() */ "high_ops"'},
                   level), [])
        self.assertEqual(
            upward({**good, 'low.h': '#include "hw/high.h"\n'}, level),
            ['low.h: includes high.h'])
        self.assertEqual(
            upward({**good, 'low.h': 'int high_call(int a, int b);\n'
                                     'static inline int f(void)\n{\n'
                                     '    return high_call(1, 2);\n}\n'},
                   level), ['low.h: high_call of high.c'])


if __name__ == '__main__':
    unittest.main(verbosity=2)
