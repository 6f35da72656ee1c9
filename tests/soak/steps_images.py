# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots, commits, streams, mirrors, backups, all under load."""

from random import Random

from chain import Chain
from rig import DISKS, QUEUES
from steps import Step
from steps_queues import move

MOST_LAYERS = 5
SHAPES = ('cluster_size=64k', 'cluster_size=4k', 'cluster_size=2M',
          'extended_l2=on,cluster_size=128k', 'lazy_refcounts=on')


def mover(rig, seed):
    """Moves a queue each time it is called; how often is not in the seed."""
    random = Random(seed)
    places = [None, *rig.iothreads()]

    def turn():
        move(rig, random.choice(DISKS), random.randrange(QUEUES),
             random.choice(places))
    return turn


def deep(rig):
    """Disks with more than one layer."""
    return [name for name in DISKS if len(rig.chains[name].layers) > 1]


def overlay(chain, shape, folder=None):
    """A new image over the active one, that is not part of the chain yet."""
    layer = chain.new_layer('qcow2', shape, folder=folder)
    chain.img('rebase', '-u', '-f', 'qcow2', '-F', chain.active.format,
              '-b', chain.active.path, layer.path)
    return layer


def take_snapshot(rig, chain, layer, **nodes):
    """All writes go to this layer from now on."""
    rig.add_nodes(layer.blockdevs(**{'direct': rig.direct, **nodes}))
    rig.qmp('blockdev-snapshot', node=chain.active.node, overlay=layer.node)
    chain.layers.append(layer)


def commit(rig, chain, base, top, meanwhile=lambda: None, on_error='report'):
    """Layers base + 1 to top go into layer base."""
    layers = chain.layers
    rig.qmp('block-commit', job_id='commit', device=chain.active.node,
            base_node=layers[base].node, top_node=layers[top].node,
            on_error=on_error, auto_dismiss=False)
    if layers[top] is chain.active:
        rig.wait_job('commit', meanwhile, 'ready')
        rig.qmp('job-complete', id='commit')
    rig.wait_job('commit', meanwhile)
    gone = layers[base + 1:top + 1]
    chain.layers = layers[:base + 1] + layers[top + 1:]
    return reversed(gone)


class Snapshot(Step):
    """What the disk had is in the layers below, whatever is written next."""

    weight = 12

    def possible(self, rig):
        return any(self.room(rig))

    @staticmethod
    def room(rig):
        return [name for name in DISKS
                if len(rig.chains[name].layers) < MOST_LAYERS]

    def plan(self, random, rig):
        return {'disk': random.choice(self.room(rig)),
                'shape': random.choice(SHAPES)}

    def act(self, rig, disk, shape):
        chain = rig.chains[disk]
        layer = overlay(chain, shape)
        bounds = rig.loads['data'].bounds(
            lambda: take_snapshot(rig, chain, layer))
        rig.work_a_while()
        if disk == 'data':
            self.compare(rig, chain, bounds)

    @staticmethod
    def compare(rig, chain, bounds):
        copy = rig.folder / 'snapshot.raw'
        chain.raw_copy(chain.layers[:-1], copy)
        rig.loads['data'].verify_here(copy, *bounds)
        copy.unlink()


class Commit(Step):
    def possible(self, rig):
        return bool(deep(rig))

    def plan(self, random, rig):
        disk = random.choice(deep(rig))
        base, top = sorted(random.sample(
            range(len(rig.chains[disk].layers)), 2))
        return {'disk': disk, 'base': base, 'top': top,
                'moves': random.getrandbits(32)}

    def act(self, rig, disk, base, top, moves):
        for layer in commit(rig, rig.chains[disk], base, top,
                            mover(rig, moves)):
            rig.drop_layer(layer)


class Stream(Step):
    """Layer top takes in what it has in the layers above base."""

    def possible(self, rig):
        return bool(deep(rig))

    def plan(self, random, rig):
        disk = random.choice(deep(rig))
        top = random.randrange(1, len(rig.chains[disk].layers))
        return {'disk': disk, 'base': random.randrange(-1, top - 1)
                if top > 1 else -1, 'top': top,
                'moves': random.getrandbits(32)}

    def act(self, rig, disk, base, top, moves):
        chain = rig.chains[disk]
        layers = chain.layers
        words = {'base_node': layers[base].node} if base >= 0 else {}
        rig.qmp('block-stream', job_id='stream', device=layers[top].node,
                auto_dismiss=False, **words)
        rig.wait_job('stream', mover(rig, moves))
        chain.layers = layers[:base + 1] + layers[top:]
        for layer in reversed(layers[base + 1:top]):
            rig.drop_layer(layer)


class Mirror(Step):
    """The disk goes over to a copy of itself."""

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'image_format': random.choice(
                    ['raw', 'luks', 'qcow2', 'qcow2']),
                'copy_mode': random.choice(['background', 'write-blocking']),
                'moves': random.getrandbits(32)}

    def act(self, rig, disk, image_format, copy_mode, moves):
        chain = rig.chains[disk]
        target = chain.new_layer(image_format)
        rig.add_nodes(target.blockdevs(rig.direct))
        rig.qmp('blockdev-mirror', job_id='mirror', device=chain.active.node,
                target=target.node, sync='full', copy_mode=copy_mode,
                auto_dismiss=False)
        meanwhile = mover(rig, moves)
        rig.wait_job('mirror', meanwhile, 'ready')
        rig.work_a_while(16)
        rig.qmp('job-complete', id='mirror')
        rig.wait_job('mirror', meanwhile)
        gone, chain.layers = chain.layers, [target]
        for layer in reversed(gone):
            rig.drop_layer(layer)


class Backup(Step):
    """A full and an incremental copy have what the disk had when the job
    began, and not what the load has written since."""

    def plan(self, random, rig):
        return {'moves': random.getrandbits(32)}

    def act(self, rig, moves):
        chain = rig.chains['data']
        copy = Chain('copy', rig.folder, chain.qemu_img, chain.size)
        target = copy.new_layer('raw')
        rig.add_nodes(target.blockdevs(rig.direct))
        for sync in ('full', 'incremental'):
            rig.hold()
            if sync == 'full':
                rig.qmp('block-dirty-bitmap-add', node=chain.active.node,
                        name='since')
                words = {}
            else:
                words = {'bitmap': 'since'}
            done = list(rig.loads['data'].done)
            rig.qmp('blockdev-backup', job_id='backup', sync=sync,
                    device=chain.active.node, target=target.node,
                    auto_dismiss=False, **words)
            rig.go()
            rig.wait_job('backup', mover(rig, moves))
            rig.loads['data'].verify_here(target.path, done)
            rig.work_a_while(16)
        rig.qmp('block-dirty-bitmap-remove', node=chain.active.node,
                name='since')
        rig.drop_layer(target)


STEPS = [Snapshot(), Commit(), Stream(), Mirror(), Backup()]
