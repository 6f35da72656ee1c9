#!/usr/bin/env python3
#
# What configure makes of good and of bad input, with a fake base and without a
# network.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from fake_base import PATCH, FakeBase, FakeCheckout, write

FAKE_APT = '''#!/bin/sh
case " $* " in
*" --print-uris "*)
    echo "'http://mirror.invalid/debian/dists/bookworm/InRelease' x 0" ;;
*)
    echo "E: Could not resolve 'mirror.invalid'"; exit 100 ;;
esac
'''


MORE = '''why

--- a/hw/kept.c
+++ b/hw/kept.c
@@ -1 +1,2 @@
 kept
+more
'''

LESS = '''why

--- a/hw/kept.c
+++ b/hw/kept.c
@@ -1,2 +1,2 @@
-kept
+kept less
 more
'''


class ConfigureTest(unittest.TestCase):
    def setUp(self):
        # In the build folder, where there is room.
        self.folder = Path(tempfile.mkdtemp(prefix='overlay.', dir='.')) \
            .resolve()
        self.addCleanup(shutil.rmtree, self.folder)
        self.base = FakeBase(self.folder / 'base')
        self.tree = FakeCheckout(self.folder / 'tree')

    def accept(self, *options, **kwargs):
        status, out, err = self.tree.configure(*options, **kwargs)
        self.assertEqual((status, err), (0, ''), out)
        return out

    def refuse(self, *options, **kwargs):
        """Expect one line on stderr, and return it."""
        status, _out, err = self.tree.configure(*options, **kwargs)
        self.assertEqual(status, 1)
        self.assertEqual(len(err.splitlines()), 1, err)
        return err

    def from_base(self):
        return f'--with-base={self.base.path}'

    def assert_no_build(self):
        self.assertFalse(self.tree.build.exists(), 'something stays behind')

    # Good input

    def test_prepared(self):
        self.accept(self.from_base())
        base = self.tree.build / 'base'
        self.assertIn("subdir('qemu-mq')", (base / 'meson.build').read_text())
        self.assertTrue((base / 'qemu-mq').samefile(self.tree.path))
        self.assertTrue((base / 'qapi/ours.json').exists())
        self.assertFalse((base / 'hw/old.c').exists())
        left = [path.name for path in self.tree.build.glob('*.tmp.*')]
        self.assertEqual(left, [])

    def test_again_is_quick(self):
        self.accept(self.from_base())
        out = self.accept(self.from_base())
        self.assertNotIn('preparing', out)
        self.assertEqual(self.tree.configured(), 1)

    def test_other_options(self):
        self.accept(self.from_base())
        self.accept(self.from_base(), '--enable-thing')
        self.assertEqual(self.tree.configured(), 2)
        runs = (self.tree.build / 'qemu/runs').read_text().splitlines()
        self.assertTrue(runs[-1].endswith('--enable-thing'))

    def test_other_defaults(self):
        self.accept(self.from_base())
        defaults = self.tree.path / 'scripts/base/defaults.py'
        defaults.write_text(defaults.read_text()
                            + "FEATURES += 'thing'\n")
        self.accept(self.from_base())
        self.assertEqual(self.tree.configured(), 2)

    def test_what_goes_with_another_feature(self):
        self.accept(self.from_base(), '--disable-fuse', '--disable-tcg')
        run = (self.tree.build / 'qemu/runs').read_text().split()
        self.assertIn('--enable-fuse', run)
        self.assertIn('--disable-fuse', run)
        for name in 'fuse-lseek', 'plugins':
            self.assertNotIn(f'--enable-{name}', run)

    def test_stock_has_the_same_options(self):
        self.accept(self.from_base(), '--enable-thing')
        self.tree.run('scripts/base/run', 'stock')
        ours, stock = ((self.tree.build / folder / 'runs').read_text()
                       for folder in ('qemu', 'stock/qemu'))
        self.assertEqual(ours, stock)

    def sanitizer_runs(self, goal, folder):
        # The fake base can be configured; there is nothing to build in it.
        self.tree.run('scripts/base/run', goal)
        runs = self.tree.path / folder / 'qemu/runs'
        return runs.read_text().splitlines()

    def test_sanitizers(self):
        self.accept(self.from_base(), '--enable-thing')
        for goal, folder, options in (
                ('check-sanitizers', 'build-asan',
                 ' --enable-thing --enable-asan --enable-ubsan'),
                ('check-threads', 'build-tsan',
                 ' --enable-thing --enable-tsan')):
            runs = self.sanitizer_runs(goal, folder)
            self.assertTrue(runs[-1].endswith(options), runs)
            self.assertEqual(self.sanitizer_runs(goal, folder), runs)
        self.assertEqual(self.tree.configured(), 1)

    def test_tarball(self):
        tarball = self.folder / 'base.tar.gz'
        subprocess.run(['tar', '-czf', tarball, '-C', self.folder, 'base'],
                       check=True)
        self.accept(f'--with-base={tarball}')

    def next_base(self):
        """A base of the next series, with a lock and patches of its own."""
        FakeBase(self.base.path, '10.2.1')
        own = self.tree.path / 'patches/10.2'
        lock = (self.tree.path / 'base.lock').read_text()
        write(own / 'base.lock', lock.replace('10.0', '10.2')
              + 'without 0003-not-here.patch\n')
        write(own / '0001-hook.patch', PATCH.replace("'qemu-mq'", "'next'"))
        write(own / '0000-first.patch', MORE)
        write(self.tree.path / 'patches/0002-more.patch', LESS)
        write(self.tree.path / 'patches/0003-not-here.patch', MORE)
        write(self.tree.path / 'patches/series',
              '0001-hook.patch\n0002-more.patch\n0003-not-here.patch\n')
        return own

    def test_next_base(self):
        self.next_base()
        self.accept(self.from_base())
        base = self.tree.build / 'base'
        self.assertIn("subdir('next')", (base / 'meson.build').read_text())
        self.assertEqual((base / 'hw/kept.c').read_text(), 'kept less\nmore\n')
        self.assertFalse((base / 'hw/old.c').exists())
        self.assertNotIn('preparing', self.accept(self.from_base()))

    def test_next_base_has_its_own_sums(self):
        own = self.next_base()
        (self.base.path / 'hw/old.c').write_text('mended\n')
        self.assertIn('hw/old.c', self.refuse(self.from_base()))
        before = (self.tree.path / 'base.lock').read_text()
        self.accept(self.from_base(), '--update-lock')
        self.accept(self.from_base())
        self.assertEqual((self.tree.path / 'base.lock').read_text(), before)
        self.assertIn('10.2', (own / 'base.lock').read_text())

    def test_first_base_has_nothing_of_the_next(self):
        self.next_base()
        FakeBase(self.base.path)
        series = self.tree.path / 'patches/series'
        series.write_text('0001-hook.patch\n0003-not-here.patch\n')
        self.accept(self.from_base())
        base = self.tree.build / 'base'
        self.assertIn("subdir('qemu-mq')", (base / 'meson.build').read_text())
        self.assertEqual((base / 'hw/kept.c').read_text(), 'kept\nmore\n')

    def test_a_variant_is_part_of_the_stamp(self):
        own = self.next_base()
        self.accept(self.from_base())
        hook = own / '0001-hook.patch'
        hook.write_text(hook.read_text().replace("'next'", "'other'"))
        self.assertIn('preparing', self.accept(self.from_base()))

    def test_check_with_another_base(self):
        """It has a build folder of its own, with the same options."""
        self.accept(self.from_base(), '--enable-thing')
        state = (self.tree.build / 'state.json').read_text()
        other = FakeBase(self.folder / 'other')
        self.tree.run('scripts/base/run', 'check', f'--with-base={other.path}')
        own = self.tree.path / 'build-base'
        runs = (own / 'qemu/runs').read_text().splitlines()
        self.assertTrue(runs[-1].endswith(' --enable-thing'), runs)
        self.assertIn(str(other.path), (own / 'state.json').read_text())
        self.assertEqual((self.tree.build / 'state.json').read_text(), state)
        self.assertEqual(self.tree.configured(), 1)

    def test_base_in_between(self):
        self.next_base()
        FakeBase(self.base.path, '10.1.0')
        self.assertIn('QEMU 10.1.0', self.refuse(self.from_base()))

    def test_tarball_of_the_next_base(self):
        self.next_base()
        tarball = self.folder / 'base.tar.xz'
        subprocess.run(['tar', '-cJf', tarball, '-C', self.folder, 'base'],
                       check=True)
        self.accept(f'--with-base={tarball}')
        self.assertIn("subdir('next')", (self.tree.build / 'base/meson.build')
                      .read_text())

    def test_changed_patch(self):
        self.accept(self.from_base())
        base = self.tree.build / 'base'
        before = {name: os.stat(base / name).st_mtime_ns
                  for name in ('hw/kept.c', 'meson.build')}
        patch = self.tree.path / 'patches/0001-hook.patch'
        patch.write_text(patch.read_text().replace("'qemu-mq'", "'other'"))
        out = self.accept(self.from_base())
        self.assertIn('preparing', out)
        self.assertIn("subdir('other')", (base / 'meson.build').read_text())
        self.assertEqual(os.stat(base / 'hw/kept.c').st_mtime_ns,
                         before['hw/kept.c'])
        self.assertGreater(os.stat(base / 'meson.build').st_mtime_ns,
                           before['meson.build'])

    def test_file_goes_back(self):
        """A patch that goes leaves a file newer than what was built from it."""
        write(self.base.path / 'hw/kept.c', 'kept\n')
        os.utime(self.base.path / 'hw/kept.c', (1, 1))
        write(self.tree.path / 'patches/0002-more.patch', MORE)
        series = self.tree.path / 'patches/series'
        series.write_text('0001-hook.patch\n0002-more.patch\n')
        self.accept(self.from_base())
        kept = self.tree.build / 'base/hw/kept.c'
        patched = os.stat(kept).st_mtime_ns
        series.write_text('0001-hook.patch\n')
        self.accept(self.from_base())
        self.assertEqual(kept.read_text(), 'kept\n')
        self.assertGreaterEqual(os.stat(kept).st_mtime_ns, patched)

    def test_update_lock(self):
        (self.base.path / 'hw/old.c').write_text('mended\n')
        self.refuse(self.from_base())
        self.accept(self.from_base(), '--update-lock')
        self.accept(self.from_base())

    def test_waits_for_the_other(self):
        self.tree.build.mkdir()
        with open(self.tree.build / '.lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with subprocess.Popen(['./configure', self.from_base()],
                                  cwd=self.tree.path, text=True,
                                  stdout=subprocess.PIPE) as other:
                self.assertIn('waiting', other.stdout.readline())
                self.assertFalse((self.tree.build / 'base').exists())
                fcntl.flock(lock, fcntl.LOCK_UN)
                other.stdout.read()
            self.assertEqual(other.returncode, 0)

    # Bad input

    def test_base_not_there(self):
        self.assertIn('/nowhere does not exist',
                      self.refuse('--with-base=/nowhere'))
        self.assert_no_build()

    def test_base_no_tree(self):
        write(self.folder / 'empty/README', '')
        self.assertIn('no QEMU source tree',
                      self.refuse(f'--with-base={self.folder}/empty'))
        self.assert_no_build()

    def test_base_no_tarball(self):
        self.assertIn('neither a folder nor a tarball',
                      self.refuse(f'--with-base={self.base.path}/VERSION'))
        self.assert_no_build()

    def test_base_of_other_series(self):
        for version in '9.2.4', '10.1.0', '10.05', '1':
            FakeBase(self.base.path, version)
            self.assertIn(f'QEMU {version}', self.refuse(self.from_base()))
            self.assert_no_build()

    def test_replaced_file_differs(self):
        (self.base.path / 'hw/old.c').write_text('mended\n')
        line = self.refuse(self.from_base())
        self.assertIn('hw/old.c', line)
        self.assertIn('base.lock', line)
        self.assert_no_build()

    def test_replaced_file_gone(self):
        (self.base.path / 'hw/old.c').unlink()
        self.assertIn('hw/old.c', self.refuse(self.from_base()))
        self.assert_no_build()

    def test_lock_unreadable(self):
        (self.tree.path / 'base.lock').write_text('packet qemu\n')
        self.assertIn('base.lock:1', self.refuse(self.from_base()))
        self.assert_no_build()

    def test_patch_does_not_apply(self):
        (self.base.path / 'meson.build').write_text('other\n')
        self.assertIn('0001-hook.patch', self.refuse(self.from_base()))
        self.assert_no_build()

    def test_patch_not_there(self):
        write(self.tree.path / 'patches/series', '0009-none.patch\n')
        self.assertIn('0009-none.patch', self.refuse(self.from_base()))
        self.assert_no_build()

    def test_schema_of_the_base(self):
        write(self.tree.path / 'qapi/schema.json', '')
        self.assertIn('schema.json', self.refuse(self.from_base()))
        self.assert_no_build()

    def test_unknown_option(self):
        self.assertIn('unknown option --enable-nonsense',
                      self.refuse(self.from_base(), '--enable-nonsense'))
        self.assert_no_build()

    def test_bad_input_keeps_the_good_build(self):
        self.accept(self.from_base())
        state = (self.tree.build / 'state.json').read_text()
        self.refuse(self.from_base(), '--enable-nonsense')
        self.refuse('--with-base=/nowhere')
        self.assertEqual((self.tree.build / 'state.json').read_text(), state)
        self.accept(self.from_base())
        self.assertEqual(self.tree.configured(), 1)

    def test_base_configure_fails(self):
        self.assertIn('a library is missing',
                      self.refuse(self.from_base(), '--fail'))
        self.assertFalse((self.tree.build / 'qemu').exists())
        self.accept(self.from_base())

    def test_interrupted_preparation(self):
        write(self.tree.build / 'base.tmp.1/base/VERSION', '')
        self.accept(self.from_base())
        self.assertFalse((self.tree.build / 'base.tmp.1').exists())

    def test_no_network(self):
        write(self.folder / 'bin/apt-get', FAKE_APT, 0o755)
        path = f'{self.folder}/bin:{os.environ["PATH"]}'
        line = self.refuse(env={'PATH': path})
        self.assertTrue('mirror.invalid' in line or 'keys' in line, line)
        self.assert_no_build()
        left = self.tree.path / 'cache/qemu-mq'
        self.assertEqual(list(left.glob('*')) if left.exists() else [], [])

    def test_no_patch_program(self):
        bin_folder = self.folder / 'bin'
        bin_folder.mkdir()
        for name in 'sh', 'dirname', 'tar', 'env', 'cat':
            (bin_folder / name).symlink_to(shutil.which(name))
        if not Path('/usr/bin/python3').exists():
            (bin_folder / 'python3').symlink_to(sys.executable)
        line = self.refuse(self.from_base(), env={'PATH': str(bin_folder)})
        self.assertIn('patch is missing', line)
        self.assert_no_build()


if __name__ == '__main__':
    unittest.main(verbosity=2)
