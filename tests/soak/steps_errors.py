# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the host: requests fail, and the guest never sees it.

    guest --> disk --> new layer --> blkdebug, or a small filesystem
                           |
                           +--> the layer that was active

A disk with werror=stop and rerror=stop stops the guest at an error and holds
the request.  The step ends the error, lets the guest go on, and commits the new
layer into the one below.
"""

import contextlib
import functools
import os
import subprocess
import tempfile
import time
from pathlib import Path

from guest.errors import RunError
from loads import PATIENCE
from rig import DISKS
from steps import Step
from steps_images import SHAPES, commit, overlay, take_snapshot


def wait_stopped(side, nospace):
    """Wait until an error has stopped the guest."""
    data = side.wait_for('BLOCK_IO_ERROR', action='stop')['data']
    if data['nospace'] != nospace:
        raise RunError(f'the error says {data}')
    side.wait_for('STOP')


def go_on(rig):
    """Let the guest go on if an error has stopped it."""
    if rig.side.has_happened('STOP'):
        rig.side.forget_events()
        rig.qmp('cont')


def hold(rig):
    """As rig.hold(), of a guest that may be stopped."""
    jobs = [(load, load.begin(rig.side, 'hold'))
            for load in rig.loads.values()]
    deadline = time.monotonic() + PATIENCE
    while not all(rig.side.answered(job) for _, job in jobs):
        if time.monotonic() > deadline:
            raise rig.side.failure('the loads do not come to rest')
        go_on(rig)
        rig.side.guest.pump(0.05)
    for load, job in jobs:
        load.end(rig.side, job)


@contextlib.contextmanager
def errors_of(side):
    """What is done inside may make requests fail."""
    side.errors_expected = True
    yield
    side.forget_events()
    side.errors_expected = False


class Fault(Step):
    """The backend fails some requests and recovers: the guest is stopped, goes
    on, and sees no error."""

    # Of the disks that meet them while they are under load.
    RULES = (
        ({'event': 'write_aio'}, DISKS),
        ({'event': 'cluster_alloc'}, DISKS),
        ({'event': 'l2_update'}, DISKS),
        ({'event': 'none', 'iotype': 'flush'}, DISKS),
        ({'event': 'read_aio', 'iotype': 'read'}, ('data',)),
    )

    def plan(self, random, rig):
        rule, disks = random.choice(self.RULES)
        return {'disk': random.choice(disks), **rule,
                'errno': random.choice([5, 28]),
                'times': random.choice([1, 1, 2, 5])}

    def act(self, rig, disk, times, **rule):
        chain = rig.chains[disk]
        layer = overlay(chain, SHAPES[0])
        with errors_of(rig.side):
            take_snapshot(rig, chain, layer,
                          errors=[{**rule, 'once': True}] * times)
            wait_stopped(rig.side, nospace=rule['errno'] == 28)
            rig.qmp('cont')
            # The job may meet what is left of the errors.
            top = len(chain.layers) - 1
            for gone in commit(rig, chain, top - 1, top,
                               lambda: go_on(rig), 'ignore'):
                rig.drop_layer(gone, debug=True)
            hold(rig)
        rig.go()


@contextlib.contextmanager
def small_filesystem(folder, size):
    """A filesystem of this many MiB; OSError where nobody may mount one."""
    folder.mkdir(exist_ok=True)
    mount('-t', 'tmpfs', '-o', f'size={size}m', 'soak', folder)
    try:
        yield
    finally:
        # After a failure, QEMU still has the image open.
        subprocess.run(['umount', '-l', folder], check=False)
        folder.rmdir()


def mount(*words):
    done = subprocess.run(['mount', *words], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())


@functools.cache
def may_mount():
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_filesystem(Path(folder) / 'room', 1):
                return True
        except OSError:
            return False


class Full(Step):
    """The filesystem of the image is full: the guest stops, stops again when
    it goes on too early, and goes on once there is room."""

    SMALL, LARGE = 4, 256       # MiB
    # An empty image of clusters of 2 MiB is larger than that.
    SHAPES = [shape for shape in SHAPES if '2M' not in shape]

    def possible(self, rig):
        return may_mount()

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'shape': random.choice(self.SHAPES)}

    def act(self, rig, disk, shape):
        room = rig.folder / 'room'
        with small_filesystem(room, self.SMALL), errors_of(rig.side):
            chain = rig.chains[disk]
            layer = overlay(chain, shape, room)
            # Not every kernel has O_DIRECT on a tmpfs.
            take_snapshot(rig, chain, layer, direct=False)
            wait_stopped(rig.side, nospace=True)
            rig.side.forget_events()
            rig.qmp('cont')
            rig.side.wait_for('STOP')
            mount('-o', f'remount,size={self.LARGE}m', room)
            rig.side.forget_events()
            rig.qmp('cont')
            rig.work_a_while()
            top = len(chain.layers) - 1
            for gone in commit(rig, chain, top - 1, top):
                rig.drop_layer(gone)
            if rig.side.has_happened('STOP'):
                raise RunError('the guest stops though there is room')


STEPS = [Fault(), Full()]
