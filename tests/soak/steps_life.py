# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest stops, sleeps, goes back in time, moves, and is cut off."""

import shutil

import write_log
from guest.errors import RunError
from rig import BOOT, DISKS, QUEUES
from steps import Step
from steps_images import SHAPES, overlay, take_snapshot
from steps_queues import move


class StopAndGo(Step):
    """A stopped guest is served nothing, even if its queues move."""

    def plan(self, random, rig):
        return {'disk': random.choice(DISKS),
                'queue': random.randrange(QUEUES),
                'place': random.choice([None, *rig.iothreads()])}

    def act(self, rig, disk, queue, place):
        rig.qmp('stop')
        before = self.requests(rig)
        move(rig, disk, queue, place)
        # By the end of this, every thread has had its turn.
        rig.qmp('query-blockstats')
        if self.requests(rig) != before:
            raise RunError('a stopped guest is served')
        rig.qmp('cont')
        rig.work_a_while(16)

    @staticmethod
    def requests(rig):
        return [queue['requests'] for name in DISKS
                for queue in rig.queues(name)]


class Suspend(Step):
    """To RAM and back; drivers reset their devices."""

    def act(self, rig):
        job = rig.side.begin('echo mem > /sys/power/state')
        while not rig.side.has_happened('SUSPEND'):
            if rig.side.answered(job):
                # It has not slept, or an alarm of its own has woken it.
                break
            rig.side.guest.pump(0.1)
        else:
            rig.qmp('system_wakeup')
        rig.side.wait(job, 240)
        rig.has_slept = True
        rig.work_a_while(16)


class SaveAndLoad(Step):
    """The guest and its disks go back to what they were."""

    def possible(self, rig):
        return all(chain.active.format == 'qcow2'
                   for chain in rig.chains.values())

    def act(self, rig):
        devices = [chain.active.node for chain in rig.chains.values()]
        words = {'tag': 'then', 'vmstate': devices[0], 'devices': devices}
        rig.qmp('stop')
        then = {load: load.read_log() for load in rig.loads.values()}
        self.job(rig, 'snapshot-save', **words)
        rig.qmp('cont')
        rig.work_a_while()
        rig.check()
        rig.qmp('stop')
        self.job(rig, 'snapshot-load', **words)
        for load, flushed in then.items():
            load.go_back(flushed)
        rig.qmp('cont')
        rig.work_a_while()
        self.job(rig, 'snapshot-delete', tag='then', devices=devices)

    @staticmethod
    def job(rig, command, **words):
        rig.qmp(command, job_id='snapshot', **words)
        rig.wait_job('snapshot')


class Migrate(Step):
    """To another process, of ours, or of stock and back."""

    weight = 8
    ends_process = True

    def plan(self, random, rig):
        ways = ['ours', 'stock'] if rig.options.stock else ['ours']
        return {'to': random.choice(ways)}

    def act(self, rig, to):
        if to == 'stock':
            self.go_to(rig, rig.options.stock)
            rig.hold()
            rig.go()
        self.go_to(rig, rig.options.qemu)

    @staticmethod
    def go_to(rig, qemu):
        source, target = rig.side, rig.new_side(qemu)
        address = {'channel-type': 'main', 'addr': {
            'transport': 'socket', 'type': 'unix',
            'path': str(target.folder / 'migrate')}}
        target.launch('-incoming', 'defer')
        target.qmp.command('migrate-incoming', channels=[address])
        source.qmp.command('migrate', channels=[address])
        while True:
            status = source.qmp.command('query-migrate')
            if status['status'] in ('completed', 'failed'):
                break
            source.check()
            target.check()
            source.guest.pump(0.1)
        if status['status'] == 'failed':
            raise target.failure(f'the migration failed: {status}')
        target.wait_for('RESUME')
        target.take_over(source.guest.release)
        rig.adopt(target)


class Cut(Step):
    """The process is killed; another starts on what it left.

    The host and its page cache live on, so this loses what QEMU has in its
    memory only, such as tables of a qcow2 image."""

    weight = 5
    ends_process = True

    def plan(self, random, rig):
        return {'operations': random.randint(0, 40),
                'job': random.choice([None, 'mirror', 'commit'])}

    def act(self, rig, operations, job):
        rig.work_a_while(operations)
        chain = rig.chains['data']
        target = None
        if job == 'mirror':
            target = chain.new_layer('qcow2')
            rig.add_nodes(target.blockdevs(rig.direct))
            rig.qmp('blockdev-mirror', job_id='mirror', target=target.node,
                    device=chain.active.node, sync='full')
        elif job == 'commit' and len(chain.layers) > 1:
            rig.qmp('block-commit', job_id='commit',
                    device=chain.active.node,
                    base_node=chain.layers[-2].node)
        rig.side.process.kill()
        rig.side.process.wait()
        if target:
            target.path.unlink()
        for each in rig.chains.values():
            each.check(after_a_cut=True)
        rig.boot()


class PowerCut(Step):
    """The process and the host's caches are gone: of what was written since
    the last snapshot, there is what was flushed."""

    weight = 5
    ends_process = True

    def plan(self, random, rig):
        return {'operations': random.randint(16, 40),
                'shape': random.choice(SHAPES)}

    def act(self, rig, operations, shape):
        chain, load = rig.chains['data'], rig.loads['data']
        layer = overlay(chain, shape)
        log, fresh = rig.folder / 'writes', rig.folder / 'fresh'
        log.touch()
        shutil.copyfile(layer.path, fresh)
        take_snapshot(rig, chain, layer, log=log)
        rig.work_a_while(operations)
        sizes = []
        done, slack = load.bounds(lambda: sizes.append(log.stat().st_size))
        # Requests under way end, so that the log has no gaps.
        rig.qmp('stop')
        rig.side.process.kill()
        rig.side.process.wait()
        writes, lost = write_log.replay(log, sizes[0], fresh)
        rig.say(f'{lost} of {writes} writes are lost')
        fresh.replace(layer.path)
        log.unlink()
        load.go_back(done)
        load.slack = slack
        for each in rig.chains.values():
            each.check(after_a_cut=True)
        rig.boot()


class Reset(Step):
    """The guest is reset in the midst of its work."""

    weight = 4

    def act(self, rig):
        rig.side.guest.release = None
        # Otherwise QEMU ends, which it is to do only if the guest panics.
        rig.qmp('set-action', reboot='reset')
        rig.qmp('system_reset')
        rig.side.wait_for_guest(BOOT)
        rig.qmp('set-action', reboot='shutdown')
        rig.begin_loads()


STEPS = [StopAndGo(), Suspend(), SaveAndLoad(), Migrate(), Cut(), PowerCut(),
         Reset()]
