# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU with a Linux guest: made, started, talked to, ended.

    with Machine(qemu, image, folder) as machine:
        machine.add_iothreads(2)
        machine.add_disk('many', disk.scratch(path), queues=4,
                         mapping=spread(4, 2))
        machine.start()
        print(machine.run('cat /proc/interrupts'))
        machine.shutdown()

QEMU gets its monitor and the guest's command port as socket pairs, so no
path names are needed and both ends vanish together.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import time

from .channel import Channel
from .errors import RunError
from .qmp import Qmp

BOOT_SECONDS = 120
TELL_SECONDS = 8
# On a busy host an emulated timer may be too late for Linux's check that the
# IO-APIC delivers it; Linux would panic.
LINUX_OPTIONS = 'console=ttyS0 panic=-1 no_timer_check'
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def spread(queues, iothreads):
    """A list of queues for each IOThread; queues are dealt out in turn."""
    return [list(range(first, queues, iothreads))
            for first in range(iothreads)]


class Machine:
    # What the environment of QEMU has besides ours
    environment = {}

    def __init__(self, qemu, image, folder, accel='tcg', vcpus=4,
                 machine='q35', memory=1024, console=None):
        """image: kernel and initramfs, or None: what firmware finds boots.
        console: None logs the guest's console to a file in folder,
        'stdio' connects it to the terminal, for a person."""
        self.folder = folder
        self.console_log = folder / 'console.log'
        self.console = console
        self.process = None
        self.qmp = self.guest = None
        self.iothreads = []
        self.closers = []
        # With a thread for each emulated CPU a boot fails now and then on a
        # busy host: a device's memory moves while another CPU uses it, and
        # QEMU asserts, or a timer is lost.
        self.emulated = accel == 'tcg'
        if self.emulated:
            accel = 'tcg,thread=single'
            cpu = 'max'
        else:
            cpu = 'host'
        self.arguments = [
            os.fspath(qemu), '-machine', machine,
            '-accel', accel, '-cpu', cpu,
            '-smp', str(vcpus), '-m', str(memory), '-nodefaults',
            '-no-user-config', '-display', 'none', '-no-reboot']
        if image:
            # A person sees the kernel boot.
            self.add('-kernel', str(image.kernel),
                     '-initrd', str(image.initramfs), '-append',
                     f"{LINUX_OPTIONS} {'mq.shell' if console else 'quiet'}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.kill()

    # The parts of the machine; before start()

    def add(self, *arguments):
        self.arguments += arguments

    def add_iothreads(self, count):
        for number in range(count):
            self.iothreads.append(f'iothread{number}')
            self.add('-object', f'iothread,id=iothread{number}')

    def add_disk(self, name, disk, queues, mapping, **properties):
        """A virtio-blk-pci with this id and serial number.

        mapping: for each IOThread in turn its list of queues, which may
        be empty.
        """
        self.add('-blockdev', json.dumps(disk.node(f'node-{name}')))
        self.add('-device', json.dumps({
            'driver': 'virtio-blk-pci', 'id': name, 'serial': name,
            'drive': f'node-{name}', 'num-queues': queues,
            'iothread-vq-mapping': [
                {'iothread': iothread, 'vqs': list(vqs)}
                for iothread, vqs in zip(self.iothreads, mapping) if vqs],
            **{key.replace('_', '-'): value
               for key, value in properties.items()}}))

    # Life

    def start(self, timeout=BOOT_SECONDS, say=lambda text: None):
        """Start QEMU; returns when the guest takes commands.

        say: called now and then with a line that it still boots."""
        self.launch()
        self.wait_for_guest(timeout, say)

    def launch(self, *more):
        """Start QEMU, with further arguments; returns when it answers."""
        qmp, qmp_theirs = socket.socketpair()
        guest, guest_theirs = socket.socketpair()
        self.closers += [qmp, guest]
        console, more_theirs = self.console_port()
        theirs = [qmp_theirs, guest_theirs, *more_theirs]
        arguments = self.arguments + [
            '-chardev', f'socket,id=qmp,fd={qmp_theirs.fileno()}',
            '-mon', 'chardev=qmp,mode=control',
            '-chardev', f'{console},id=console',
            '-chardev', f'socket,id=guest,fd={guest_theirs.fileno()}',
            '-serial', 'chardev:console', '-serial', 'chardev:guest', *more]
        with open(self.folder / 'qemu.log', 'wb') as log:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[sock.fileno() for sock in theirs],
                env={**os.environ, **self.environment},
                preexec_fn=die_with_parent)
        for sock in theirs:
            sock.close()
        self.qmp, self.guest = Qmp(qmp), Channel(guest)
        try:
            self.qmp.handshake(30)
        except TimeoutError:
            raise self.failure("QEMU's monitor does not answer") from None
        except RunError as error:
            raise self.failure(str(error)) from None

    def console_port(self):
        """What the first serial port is connected to, and QEMU's sockets."""
        return f'file,path={self.console_log}', []

    def wait_for_guest(self, timeout=BOOT_SECONDS, say=lambda text: None):
        """Returns when the guest has booted and takes commands."""
        try:
            self.guest.wait_until(lambda: self.guest.release,
                                  time.monotonic() + timeout,
                                  self.booting(say))
        except TimeoutError:
            raise self.failure(
                f'the guest did not start within {timeout} s') from None
        except RunError as error:
            raise self.failure(str(error)) from None

    def booting(self, say, clock=time.monotonic):
        """check(), which also says how long the boot has taken."""
        started = told = clock()

        def check():
            nonlocal told
            self.check()
            if clock() - told >= TELL_SECONDS:
                told = clock()
                say(f'still booting after {told - started:.0f} s: emulated '
                    'CPUs start one after the other' if self.emulated else
                    f'still booting after {told - started:.0f} s')
        return check

    def run_on_terminal(self):
        """A guest for a person; returns QEMU's exit status."""
        arguments = self.arguments + ['-serial', f'mon:{self.console}']
        # Ctrl-C goes to the guest, not to us.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process = subprocess.Popen(arguments,
                                            preexec_fn=die_with_parent)
            return self.process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)

    def shutdown(self, timeout=60):
        """Power off from inside; RunError unless QEMU ends well."""
        self.guest.send('sync; poweroff -f')
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure('the guest did not power off') from None
        if status:
            raise self.failure(f'QEMU ended with status {status}')

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for sock in self.closers:
            sock.close()
        self.closers = []

    # Work

    def run(self, script, timeout=60, check=True):
        """Run a shell script in the guest; its output.

        check: a status other than 0 is a RunError; else (status, output)
        is returned.
        """
        return self.wait(self.begin(script), timeout, check)

    def begin(self, script):
        """Start a script; wait() takes what this returns."""
        return self.guest.send(script)

    def answered(self, job):
        """Has a script that was begun ended?  wait() tells how."""
        self.guest.pump(0)
        return job in self.guest.answers

    def wait(self, job, timeout=60, check=True):
        try:
            self.guest.wait_until(lambda: job in self.guest.answers,
                                  time.monotonic() + timeout, self.check)
        except TimeoutError:
            raise self.failure('the guest did not answer within '
                               f'{timeout} s') from None
        except RunError as error:
            raise self.failure(str(error)) from None
        status, output = self.guest.answers.pop(job)
        if not check:
            return status, output
        if status:
            raise RunError(f'a command failed in the guest (status {status})',
                           output.splitlines()[-15:])
        return output

    def check(self):
        """RunError if QEMU ended or stopped the guest."""
        if self.process.poll() is not None:
            raise RunError(f'QEMU ended with status {self.process.returncode}')
        events = self.qmp.poll_events()[:]
        self.qmp.events.clear()
        for event in events:
            data = event.get('data', {})
            if event['event'] == 'BLOCK_IO_ERROR' and \
                    data.get('action') == 'stop':
                disk = data.get('device') or data.get('qom-path')
                raise RunError(f'the disk {disk} stopped the guest: '
                               f"{data.get('reason')}")
            if event['event'] == 'GUEST_PANICKED':
                raise RunError('the guest\'s kernel panicked')

    def iothread_times(self):
        """{IOThread: nanoseconds of CPU so far}."""
        times = {}
        for entry in self.qmp.command('query-iothreads'):
            path = (f"/proc/{self.process.pid}/task/{entry['thread-id']}"
                    '/schedstat')
            with open(path, encoding='ascii') as file:
                times[entry['id']] = int(file.read().split()[0])
        return times

    def failure(self, message):
        """A RunError with what QEMU and the guest said last."""
        said = tail(self.folder / 'qemu.log', 8)
        errors = [line for line in said if ': warning: ' not in line]
        # A QEMU that refuses its arguments is about to end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(1)
            message = errors[0] if errors else \
                f'QEMU ended with status {status}'
        details = [f'qemu: {line}' for line in said if line != message]
        details += [f'guest: {line}' for line in tail(self.console_log, 12)]
        return RunError(message, details)


def tail(path, count):
    try:
        text = path.read_text(errors='replace')
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines()]
    return [line for line in lines if line.isprintable() and line][-count:]


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
