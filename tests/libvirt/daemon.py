# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirtd for one test: a session daemon on folders of its own.

    with Daemon(folder) as daemon:
        daemon.virsh('define', '--validate', path)
        daemon.virsh('start', 'guest')

Neither systemd nor D-Bus is needed, and nothing of this machine's libvirt is
touched.  A session daemon must not be root: if the test is root, the daemon
runs in a user namespace as the user nobody.
"""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from guest.errors import RunError
from guest.machine import die_with_parent

SECONDS = 120       # for one command; none takes ten on an idle machine
# libvirt wants a user that the system knows.
NOBODY = pwd.getpwnam('nobody')
NOT_ROOT = ['unshare', '--user', f'--map-user={NOBODY.pw_uid}',
            f'--map-group={NOBODY.pw_gid}']
PATH = '/usr/sbin:/usr/bin:/sbin:/bin'


class Daemon:
    """@prefix: the command line that enters another system's tree."""

    def __init__(self, folder, prefix=None):
        self.folder = Path(folder)
        self.prefix = prefix if prefix is not None else \
            NOT_ROOT if os.geteuid() == 0 else []
        self.process = None
        self.socket = self.folder / 'run/libvirt/libvirt-sock'
        self.log = self.folder / 'libvirtd.log'
        self.uri = f'qemu+unix:///session?socket={self.socket}'
        self.environment = {'PATH': PATH, 'HOME': str(self.folder),
                            'LC_ALL': 'C.UTF-8'}
        for kind in ('runtime_dir', 'config_home', 'cache_home', 'data_home'):
            place = self.folder / kind.partition('_')[0].replace('time', '')
            self.environment[f'XDG_{kind.upper()}'] = str(place)
            place.mkdir(parents=True, exist_ok=True)
        self._configure()

    def _configure(self):
        config = self.folder / 'config/libvirt'
        config.mkdir(exist_ok=True)
        (config / 'qemu.conf').write_text(
            'stdio_handler = "file"\nsecurity_driver = "none"\n',
            encoding='ascii')
        (config / 'libvirtd.conf').write_text(
            f'log_outputs = "2:file:{self.log}"\n', encoding='ascii')

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        self.stop()

    # Life

    def start(self):
        # An end by SIGTERM cleans up as any other end does.
        signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
        with open(self.folder / 'libvirtd.out', 'ab') as out:
            self.process = subprocess.Popen(
                [*self.prefix, 'libvirtd', '-f',
                 self.folder / 'config/libvirt/libvirtd.conf'],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self.environment, preexec_fn=die_with_parent)
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if self.process.poll() is not None or \
                    time.monotonic() > deadline:
                raise RunError('libvirtd does not start', self.last_words())
            time.sleep(0.05)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
            except OSError:
                return False
        return True

    def end_process(self):
        """The daemon ends, its guests go on."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)
        self.socket.unlink(missing_ok=True)

    def restart(self):
        """As an upgrade of libvirt does: the next daemon finds the guests."""
        self.end_process()
        self.start()

    def stop(self):
        self.end_process()
        for file in self.folder.glob('run/libvirt/qemu/run/*.pid'):
            try:
                os.kill(int(file.read_text()), signal.SIGKILL)
            except (OSError, ValueError):
                continue

    # Commands

    def virsh(self, *words, **options):
        """Run virsh; what it prints.  RunError with its words otherwise."""
        return self.tool('virsh', '-q', '-c', self.uri, *words, **options)

    def tool(self, *words, timeout=SECONDS):
        done = subprocess.run(
            [*self.prefix, *map(str, words)], capture_output=True, text=True,
            stdin=subprocess.DEVNULL, env=self.environment, check=False,
            timeout=timeout)
        if done.returncode:
            raise RunError(done.stderr.strip() or f'{words[0]} failed',
                           self.last_words())
        return done.stdout.strip()

    def version(self):
        """(9, 0, 0)"""
        return tuple(map(int, self.tool('virsh', '-v').split('.')))

    def last_words(self, count=15):
        lines = []
        for path in (self.log, *self.folder.glob(
                'cache/libvirt/qemu/log/*.log')):
            try:
                lines += path.read_text(errors='replace').splitlines()[-count:]
            except OSError:
                continue
        return [line for line in lines
                if not re.search(r'DBus|dnsmasq|DMIData', line)]
