#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the guest's kernel in packages of every layout that Debian has."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import tap
from guest import kernel, modules
from guest.errors import RunError
from xen import debs, images

OLD, NOW, SPLIT = '6.1.0-40-amd64', '6.12.9+deb13-amd64', '7.3.4+deb13-amd64'
MODULE = b'\x7fELF\0depends=\0name=x\0'

# The files of each package that matter here.
PACKAGES = {
    f'linux-image-{OLD}': {
        f'boot/vmlinuz-{OLD}': b'old',
        f'lib/modules/{OLD}/modules.builtin': b'',
        f'lib/modules/{OLD}/kernel/fs/ext4.ko': MODULE,
        f'lib/modules/{OLD}/kernel/sound/big.ko': MODULE},
    f'linux-image-{NOW}': {
        f'boot/vmlinuz-{NOW}': b'now',
        f'usr/lib/modules/{NOW}/modules.builtin': b'',
        f'usr/lib/modules/{NOW}/kernel/fs/ext4.ko': MODULE,
        f'usr/lib/modules/{NOW}/kernel/sound/big.ko': MODULE},
    f'linux-image-{SPLIT}': {'usr/share/doc/x': b''},
    f'linux-binary-{SPLIT}': {f'usr/lib/modules/{SPLIT}/vmlinuz': b'split'},
    f'linux-base-{SPLIT}': {f'usr/lib/modules/{SPLIT}/modules.builtin': b''},
    f'linux-modules-{SPLIT}': {
        f'usr/lib/modules/{SPLIT}/kernel/fs/ext4.ko': MODULE,
        f'usr/lib/modules/{SPLIT}/kernel/sound/big.ko': MODULE},
}
# The output of apt-cache show for them.
SHOWN = {
    f'linux-image-{OLD}': 'Depends: kmod, linux-base (>= 4.3~)\n',
    f'linux-image-{NOW}': 'Depends: kmod, linux-base (>= 4.12~)\n',
    f'linux-image-{SPLIT}':
        'Package: x\nDepends: dracut | initramfs-tools (>= 0.12), '
        + ', '.join(f'linux-{part}-{SPLIT} (= 7.3.4-1~bpo13+1)'
                    for part in ('base', 'binary', 'modules'))
        + '\nRecommends: linux-modules-9\n',
}
BYTES = {OLD: b'old', NOW: b'now', SPLIT: b'split'}


def fill(tree, *packages):
    for package in packages:
        for name, data in PACKAGES[package].items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def names(release):
    """The packages of a release, as the program finds them."""
    def show(name):
        return SHOWN.get(name, f'Depends: linux-modules-amd64 (= 1), '
                               f'linux-image-{release} (= 1)\n')
    return kernel.packages(show)


class KernelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='kernel-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def check(self, found, release):
        self.assertEqual((found.release, found.image.read_bytes()),
                         (release, BYTES[release]))
        order = modules.Modules(found.modules).in_order(['ext4'])
        self.assertEqual(order, [('ext4', MODULE)])

    def test_packages(self):
        for release in BYTES:
            self.assertEqual(set(names(release)),
                             {name for name in PACKAGES if release in name})
        with self.assertRaisesRegex(RunError, 'names no kernel'):
            kernel.packages(lambda name: 'Depends: linux-image-cloud\n')
        with self.assertRaisesRegex(RunError, 'names no kernel'):
            kernel.packages(lambda name: 'Description: nothing\n')

    def test_find(self):
        for release in BYTES:
            with self.subTest(release):
                tree = self.folder / release
                fill(tree, *names(release))
                self.check(kernel.find(tree), release)

    def test_find_the_newest(self):
        fill(self.folder, *names(OLD), *names(NOW))
        self.check(kernel.find(self.folder), NOW)

    def test_a_kernel_without_modules_is_none(self):
        fill(self.folder, f'linux-binary-{SPLIT}', f'linux-modules-{SPLIT}')
        with self.assertRaisesRegex(RunError, 'no kernel with its modules'):
            kernel.find(self.folder)

    def test_cache(self):
        self.assertIsNone(kernel.cached(self.folder))
        fill(self.folder / OLD, *names(OLD))
        # This is what a version left that knew no usr/lib/modules.
        (self.folder / NOW / 'boot').mkdir(parents=True)
        (self.folder / NOW / 'boot' / f'vmlinuz-{NOW}').touch()
        self.check(kernel.cached(self.folder), OLD)
        fill(self.folder / NOW, *names(NOW))
        self.check(kernel.cached(self.folder), NOW)

    def test_install(self):
        for release in BYTES:
            with self.subTest(release):
                files = [self.package(name) for name in names(release)]
                found = kernel.install(self.folder, files)
                self.check(found, release)
                self.assertEqual(found.release, release)
                self.assertFalse((found.modules / 'kernel/sound').exists())
                self.check(kernel.cached(self.folder), release)
        files = [self.package(f'linux-binary-{SPLIT}')]
        with self.assertRaisesRegex(RunError, 'linux-binary-.*deb'):
            kernel.install(self.folder, files)
        self.assertEqual(list(self.folder.glob('new-*')), [])

    def package(self, name):
        """The package as a .deb file."""
        tree = self.folder / 'tree' / name
        fill(tree, name)
        (tree / 'DEBIAN').mkdir(exist_ok=True)
        (tree / 'DEBIAN/control').write_text(
            f'Package: {name}\nVersion: 1\nArchitecture: all\n'
            'Maintainer: nobody <nobody@example.org>\nDescription: none\n')
        file = self.folder / f'{name}.deb'
        subprocess.run(['dpkg-deb', '--build', '--root-owner-group', tree,
                        file], check=True, stdout=subprocess.DEVNULL)
        return file

    def test_order_of_releases(self):
        releases = ['6.9.1', OLD, '10.0.0', SPLIT, '6.12.10', '6.12.9']
        self.assertEqual(sorted(releases, key=kernel.in_order),
                         [OLD, '6.9.1', '6.12.9', '6.12.10', SPLIT, '10.0.0'])

    def test_xen_takes_the_same(self):
        for release in BYTES:
            wanted = names(release)
            for name in wanted:
                self.assertTrue(re.fullmatch(kernel.PACKAGES, name))
            paths = {debs.merge_usr(path) for name in wanted
                     for path in PACKAGES[name]
                     if images._is_needed(debs.merge_usr(path))}
            self.assertTrue(any('vmlinuz' in path for path in paths))
            self.assertIn(f'usr/lib/modules/{release}/modules.builtin', paths)


if __name__ == '__main__':
    tap.main()
