# SPDX-License-Identifier: GPL-2.0-or-later
"""The images of a disk, from the base up, as the soak knows them.

When QEMU has changed its graph, the chain is changed in the same way, so that
it tells a new process what to open.
"""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from guest.errors import RunError

# The key of images of the format luks, for QEMU and for qemu-img.
SECRET = ('--object', 'secret,id=key,data=soak')
OPTIONS = {'luks': ('key-secret=key', 'iter-time=10')}


def driver_options(image_format):
    """What a block driver has to be told beside the file."""
    return {'key-secret': 'key'} if image_format == 'luks' else {}


@dataclass
class Layer:
    node: str           # node names: NODE, and NODE-file below it
    path: Path
    format: str
    detect_zeroes: str = 'off'

    def blockdevs(self, direct, backing=None, errors=(), log=None):
        """Arguments of blockdev-add, the protocol's node first.

        errors: rules of blkdebug, which goes between the two nodes
        log: file of blklogwrites, which then goes there, too"""
        file = {'driver': 'file', 'node-name': f'{self.node}-file',
                'filename': str(self.path), 'discard': 'unmap',
                'aio': 'native' if direct else 'threads',
                'cache': {'direct': direct}}
        nodes = [file]
        if errors:
            nodes.append({'driver': 'blkdebug',
                          'node-name': f'{self.node}-debug',
                          'image': file['node-name'],
                          'inject-error': list(errors)})
        if log:
            nodes.append({'driver': 'blklogwrites',
                          'node-name': f'{self.node}-log',
                          'file': file['node-name'],
                          'log': {'driver': 'file', 'filename': str(log)}})
        top = {'driver': self.format, 'node-name': self.node,
               'file': nodes[-1]['node-name'], 'discard': 'unmap',
               'detect-zeroes': self.detect_zeroes,
               'cache': {'direct': direct},
               **driver_options(self.format)}
        if self.format == 'qcow2':
            top['backing'] = backing
        return nodes + [top]


@dataclass
class Chain:
    name: str           # of the disk: its id and serial number
    folder: Path
    qemu_img: Path
    size: int
    block: int = 512    # bytes of a logical block
    detect_zeroes: str = 'off'
    layers: list = field(default_factory=list)
    made: int = 0

    @property
    def active(self):
        return self.layers[-1]

    def nodes(self):
        """Names of the format nodes, from the base up."""
        return [layer.node for layer in self.layers]

    def new_layer(self, image_format, *options, folder=None):
        """An image that is not part of the chain yet."""
        self.made += 1
        node = f'{self.name}{self.made}'
        layer = Layer(node, (folder or self.folder) / f'{node}.{image_format}',
                      image_format, self.detect_zeroes)
        words = [word for option in (*options, *OPTIONS.get(image_format, ()))
                 for word in ('-o', option)]
        self.img('create', '-q', *SECRET, '-f', image_format, *words,
                 layer.path, self.size)
        return layer

    def blockdevs(self, direct):
        """The nodes of all layers."""
        made, below = [], None
        for layer in self.layers:
            made += layer.blockdevs(direct, below)
            below = layer.node
        return made

    def raw_copy(self, layers, path):
        """What a guest sees of these layers, as a raw image.

        QEMU may have them open if it only reads them."""
        words = []
        for depth, layer in enumerate(reversed(layers)):
            prefix = depth * 'backing.'
            words += [f'{prefix}driver={layer.format}',
                      f'{prefix}file.driver=file',
                      f'{prefix}file.filename={layer.path}']
            words += [f'{prefix}{name}={value}' for name, value in
                      driver_options(layer.format).items()]
        if layers[0].format == 'qcow2':
            words.append(f'{prefix}backing=')
        self.img('convert', *SECRET, '-U', '-O', 'raw', '--image-opts',
                 ','.join(words), path)

    def check(self, after_a_cut):
        """qemu-img check of all layers, while nobody uses them.

        A process that was cut off may leave clusters that nothing refers to;
        they are given back.  With lazy refcounts, the process that opens the
        image next has to set those of the last clusters."""
        for layer in self.layers:
            if layer.format != 'qcow2':
                continue
            opened = self.image_options(layer)
            done = self.img('check', '-q', *opened, may_fail=True)
            if done.returncode == 3 and after_a_cut:
                self.img('check', '-q', '-r', 'leaks', *opened)
            elif done.returncode == 2 and after_a_cut and self.is_lazy(layer):
                self.img('check', '-q', '-r', 'all', *opened)
            elif done.returncode:
                raise RunError(f'{layer.path.name}: qemu-img check ends with '
                               f'status {done.returncode}',
                               (done.stdout + done.stderr).splitlines()[:20])

    def is_lazy(self, layer):
        said = self.img('info', '--output=json', layer.path).stdout
        data = json.loads(said)['format-specific']['data']
        return data['lazy-refcounts']

    @staticmethod
    def image_options(layer):
        return ['--image-opts', f'driver={layer.format},backing=,'
                f'file.driver=file,file.filename={layer.path}']

    def img(self, *words, may_fail=False):
        done = subprocess.run(
            [str(word) for word in (self.qemu_img, *words)],
            capture_output=True, text=True, check=False)
        if done.returncode and not may_fail:
            raise RunError(f'qemu-img {words[0]} failed',
                           done.stderr.splitlines())
        return done
