#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""About five minutes of 'make soak', from a seed that is always the same.

The guest of QEMU gets as many steps as make each kind come at least once, on a
qcow2 image with cache=none and blocks of 4 KiB; a domU gets five minutes.  The
step 'full' comes only for users that may mount a filesystem.

QTEST_QEMU_BINARY names the emulator, STOCK that of the untouched base, LOAD
the load's program, GUEST what is soaked.
"""

import os
import sys
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests/functional'))

import tap      # noqa: E402
import rig      # noqa: E402
import soak     # noqa: E402
import steps_errors     # noqa: E402

SEED = 1
STEPS = 30
HOURS = 5 / 60


class SoakTest(unittest.TestCase):
    def soak(self, *words):
        qemu = Path(os.environ['QTEST_QEMU_BINARY']).absolute()
        options, _ = soak.parse([f'SEED={SEED}', f'QEMU={qemu}', *words],
                                os.environ)
        totals = soak.run(options, lambda text: print(f'# {text}', flush=True))
        self.assertGreater(totals.bytes, 0)
        return totals

    @unittest.skipIf('GUEST' in os.environ, 'another guest')
    def test_each_kind_of_step(self):
        self.assertEqual(rig.Rig.shape(SEED), {
            'data_format': 'qcow2', 'direct': True, 'block': 4096,
            'detect_zeroes': 'off'})
        totals = self.soak(f'STEPS={STEPS}')
        self.assertEqual(totals.steps, STEPS)
        kinds = {step.name for step in soak.all_steps('virtio', stay=False)}
        if not steps_errors.may_mount():
            kinds.remove('full')
        self.assertEqual(set(totals.kinds), kinds)

    @unittest.skipUnless('GUEST' in os.environ, 'no other guest')
    def test_five_minutes(self):
        self.assertGreater(self.soak(f'HOURS={HOURS}').steps, 0)


if __name__ == '__main__':
    tap.main()
