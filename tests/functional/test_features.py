#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The build can replace Debian's QEMU: it has the same features.

A feature that ./configure was told to leave out is not asked for.
QTEST_QEMU_BINARY names the emulator; the tools are beside it.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import tap
from guest.arguments import build_folder

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
TOOLS = QEMU.parent
DAEMON = TOOLS / 'storage-daemon/qemu-storage-daemon'

# Words that a list has, and the feature that brings them.
FORMATS = {
    'bochs': 'bochs', 'cloop': 'cloop', 'dmg': 'dmg', 'https': 'curl',
    'iscsi': 'libiscsi', 'luks': 'nettle', 'nfs': 'libnfs',
    'parallels': 'parallels', 'qcow': 'qcow1', 'qed': 'qed',
    'replication': 'replication', 'ssh': 'libssh', 'vdi': 'vdi',
    'vhdx': 'vhdx', 'vmdk': 'vmdk', 'vpc': 'vpc', 'vvfat': 'vvfat'}
EXPORTS = {'fuse': 'fuse', 'nbd': 'tools', 'vduse-blk': 'vduse-blk-export',
           'vhost-user-blk': 'vhost-user-blk-server'}
LISTS = {
    '-netdev': {'l2tpv3': 'l2tpv3', 'tap': 'system', 'user': 'slirp',
                'vde': 'vde', 'vhost-user': 'vhost-user',
                'vhost-vdpa': 'vhost-vdpa'},
    '-device': {'ccid-card-passthru': 'smartcard', 'tpm-tis': 'tpm',
                'usb-host': 'libusb', 'usb-redir': 'usb-redir',
                'vhost-user-blk-pci': 'vhost-user',
                'vhost-user-fs-pci': 'vhost-user',
                'vhost-vdpa-device-pci': 'vhost-vdpa',
                'virtio-9p-pci': 'virtfs', 'virtio-gpu-pci': 'system',
                'x-pci-proxy-dev': 'multiprocess', 'xen-disk': 'xen'},
    '-object': {'dbus-vmstate': 'gio', 'filter-rewriter': 'colo-proxy',
                'memory-backend-file': 'system',
                'secret_keyring': 'keyring', 'tls-creds-x509': 'gnutls'},
    '-accel': {'kvm': 'kvm', 'tcg': 'tcg', 'xen': 'xen'},
    '-chardev': {'braille': 'brlapi', 'qemu-vdagent': 'spice-protocol'},
    '-display': {'curses': 'curses'},
    '-audiodev': {'alsa': 'alsa', 'oss': 'oss'},
    '-tpmdev': {'emulator': 'tpm', 'passthrough': 'tpm'},
}


def output(*words, statuses=(0,), **more):
    done = subprocess.run([str(word) for word in words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **more)
    if done.returncode not in statuses:
        raise AssertionError(f'{words}: {done.stdout}')
    return done.stdout


def left_out():
    """The features that the user did not want."""
    state = build_folder(os.environ) / 'state.json'
    options = json.loads(state.read_text())['options'] if state.exists() \
        else []
    return {option[len('--disable-'):] for option in options
            if option.startswith('--disable-')}


class FeaturesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='features-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.left_out = left_out()

    def check(self, text, wanted):
        words = set(re.findall(r'[\w-]+', text))
        missing = [word for word, feature in wanted.items()
                   if word not in words and feature not in self.left_out]
        self.assertEqual(missing, [], text)

    def need(self, *features):
        for feature in features:
            if feature in self.left_out:
                self.skipTest(f'configured with --disable-{feature}')

    def test_lists(self):
        for option, wanted in LISTS.items():
            with self.subTest(option):
                # '-tpmdev help' fails with some versions of the base.
                statuses = (0, 1) if option == '-tpmdev' else (0,)
                self.check(output(QEMU, option, 'help', statuses=statuses),
                           wanted)

    def test_formats(self):
        text = output(TOOLS / 'qemu-img', '--help')
        self.check(text[text.index('image formats:'):], FORMATS)

    def test_exports(self):
        self.check(output(DAEMON, '--help'), EXPORTS)

    def image(self, name, *options):
        """A copy of an image with data, in another format."""
        raw, copy = self.folder / 'raw', self.folder / name
        raw.write_bytes(os.urandom(1 << 20))
        output(TOOLS / 'qemu-img', 'convert', *options, '-f', 'raw', raw, copy)
        return raw, copy

    def test_luks(self):
        self.need('nettle', 'gnutls')
        secret = ('--object', 'secret,id=key,data=password')
        raw, copy = self.image(
            'luks', *secret, '-O', 'luks', '-o',
            'key-secret=key,cipher-alg=aes-256,cipher-mode=xts,iter-time=10')
        self.assertNotIn(raw.read_bytes()[:4096], copy.read_bytes())
        output(TOOLS / 'qemu-img', 'compare', *secret, '--image-opts',
               f'driver=raw,file.filename={raw}',
               f'driver=luks,key-secret=key,file.filename={copy}')

    def test_zstd(self):
        self.need('zstd')
        raw, copy = self.image('qcow2', '-c', '-O', 'qcow2', '-o',
                               'compression_type=zstd')
        output(TOOLS / 'qemu-img', 'compare', raw, copy)

    def test_vmdk(self):
        self.need('vmdk')
        raw, copy = self.image('vmdk', '-O', 'vmdk', '-o',
                               'subformat=streamOptimized')
        output(TOOLS / 'qemu-img', 'compare', raw, copy)

    def test_user_network(self):
        self.need('slirp')
        output(QEMU, '-machine', 'none', '-display', 'none', '-netdev',
               'user,id=net', '-qmp', 'stdio',
               input='{"execute": "qmp_capabilities"}{"execute": "quit"}')


if __name__ == '__main__':
    tap.main()
