# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU that boots Xen and dom0, and scripts for what runs in it.

    first serial port    Xen's console: hypervisor and dom0, into a log
    second serial port   dom0's agent; lines that start with "domU" are the
                         domU's agent, which sits on the domU's console

    with XenMachine(qemu, images, folder) as machine:
        machine.start()
        print(machine.dom0.run('xl info'))

The protocol is that of guest/channel.py.  Every wait has a limit, and an
error says what the machine did last.
"""

import base64
import contextlib
import gzip
import socket
import subprocess
import time

from guest.channel import Channel
from guest.errors import RunError
from guest.machine import die_with_parent, tail

from .images import bundled

BOOT_SECONDS = 240
ANSWER_SECONDS = 180
DOM0_CPUS = 4       # a backend offers as many rings by default
DOM0_MIB = 1408
DOMU_MIB = 352
XEN_MIB = 192

XEN_OPTIONS = ('com1=115200,8n1 console=com1 loglvl=warning '
               f'guest_loglvl=warning dom0_max_vcpus={DOM0_CPUS} '
               'spec-ctrl=no noreboot=1')
DOM0_OPTIONS = 'console=hvc0 loglevel=4 mitigations=off panic=1'
# The device model's and the domU's words, in dom0
LOGS = '''
for log in /var/log/xen/qemu-dm-*.log /var/log/xen/console/*.log; do
    echo "$log:"
    grep -v '^@' $log | tail -n 30
done'''


class Dom0Port(Channel):
    """dom0's agent, and through it the domU's."""

    def __init__(self, sock):
        super().__init__(sock)
        self.domu = DomUPort(self)

    def _take_line(self, line):
        if line.startswith(b'domU '):
            self.domu._take_line(line[5:])
        else:
            super()._take_line(line)


class DomUPort(Channel):
    """The domU's agent; what it says comes in on dom0's port."""

    def __init__(self, dom0):
        super().__init__(self)
        self.dom0 = dom0

    # What Channel wants of a socket

    def settimeout(self, timeout):
        self.dom0.sock.settimeout(timeout)

    def sendall(self, data):
        self.dom0.sock.sendall(b'domU ' + data)

    def pump(self, timeout):
        return self.dom0.pump(timeout)


class Domain:
    """Scripts for one domain."""

    def __init__(self, name, port, machine):
        self.name = name
        self.port = port
        self.machine = machine

    def wait_ready(self, timeout):
        """Until its agent has said so."""
        self.machine.wait(self.port, lambda: self.port.release, timeout,
                          f'{self.name} did not start')

    def run(self, script, timeout=ANSWER_SECONDS, check=True):
        """Its output; with check=False (status, output)."""
        return self.wait(self.begin(script), timeout, check)

    def begin(self, script):
        """Start a script; wait() takes what this returns."""
        return self.port.send(script)

    def wait(self, job, timeout=ANSWER_SECONDS, check=True):
        self.machine.wait(self.port, lambda: job in self.port.answers,
                          timeout, f'{self.name} did not answer')
        status, output = self.port.answers.pop(job)
        if not check:
            return status, output
        if status:
            raise RunError(f'a command failed in {self.name} '
                           f'(status {status})',
                           output.splitlines()[-15:])
        return output

    def put(self, path, data):
        """Make a file of @data, which is mostly zeroes."""
        packed = base64.b64encode(gzip.compress(data)).decode()
        self.run(f"base64 -d <<'END' | gunzip >{path}\n{packed}\nEND")


class XenMachine:
    """A machine with Xen; use it in a with statement."""

    def __init__(self, qemu, images, folder, cpus=1, dom0_mib=DOM0_MIB,
                 domus=1, more=()):
        """Memory is for @domus domains; @more are QEMU's further options."""
        self.folder = folder
        self.console_log = folder / 'console.log'
        self.process = None
        self.sock = None
        # The loader splits the list of modules at commas
        modules = [f'{images.kernel} {DOM0_OPTIONS}', str(images.initrd)]
        self.arguments = [
            str(qemu), '-accel',
            'tcg,thread=multi' if cpus > 1 else 'tcg,thread=single',
            # Xen and the emulated AVX state do not get along: no -cpu max
            '-cpu', 'qemu64', '-machine', 'pc', '-smp', str(cpus),
            '-m', str(dom0_mib + domus * DOMU_MIB + XEN_MIB),
            '-nodefaults', '-no-user-config', '-display', 'none',
            '-no-reboot', *firmware(qemu),
            '-kernel', str(images.hypervisor),
            '-append', f'{XEN_OPTIONS} dom0_mem={dom0_mib}M',
            '-initrd', ','.join(x.replace(',', ',,') for x in modules),
            *more]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.kill()

    def start(self):
        """Start QEMU; returns when dom0 takes commands."""
        self.sock, theirs = socket.socketpair()
        port = Dom0Port(self.sock)
        self.dom0 = Domain('dom0', port, self)
        self.domu = Domain('the domU', port.domu, self)
        with open(self.folder / 'qemu.log', 'wb') as log, theirs:
            self.process = subprocess.Popen(
                self.arguments + [
                    '-chardev', f'file,id=console,path={self.console_log}',
                    '-chardev', f'socket,id=agent,fd={theirs.fileno()}',
                    '-serial', 'chardev:console',
                    '-serial', 'chardev:agent'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[theirs.fileno()], preexec_fn=die_with_parent)
        self.dom0.wait_ready(BOOT_SECONDS)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.sock:
            self.sock.close()

    def wait(self, port, done, timeout, complaint):
        """Until done(), or a RunError."""
        try:
            port.wait_until(done, time.monotonic() + timeout, self.check)
        except TimeoutError:
            raise self.failure(f'{complaint} within {timeout} s',
                               port is not self.dom0.port) from None
        except RunError as error:
            raise self.failure(str(error)) from None

    def check(self):
        if self.process.poll() is not None:
            raise RunError(f'QEMU ended with status {self.process.returncode}')

    def failure(self, message, ask_dom0=False):
        """End QEMU; a RunError with the last words of all programs."""
        details = [f'qemu: {line}'
                   for line in tail(self.folder / 'qemu.log', 8)]
        details += [f'console: {line}' for line in tail(self.console_log, 16)]
        if ask_dom0:
            with contextlib.suppress(RunError):
                details += self.dom0.run(LOGS, timeout=30).splitlines()
        self.kill()
        return RunError(message, details)


def firmware(qemu):
    """-L for a binary that does not find Debian's firmware by itself."""
    if bundled(qemu, 'bios-256k.bin'):
        return []
    return ['-L', '/usr/share/qemu', '-L', '/usr/share/seabios']
