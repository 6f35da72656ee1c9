#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Five minutes of 'make soak', from a seed that is always the same.

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
import soak     # noqa: E402

SEED = 1
HOURS = 5 / 60


class SoakTest(unittest.TestCase):
    def test_five_minutes(self):
        qemu = Path(os.environ['QTEST_QEMU_BINARY']).absolute()
        options, _ = soak.parse([f'SEED={SEED}', f'HOURS={HOURS}',
                                 f'QEMU={qemu}'], os.environ)
        totals = soak.run(options, lambda text: print(f'# {text}', flush=True))
        self.assertGreater(totals.steps, 0)
        self.assertGreater(totals.bytes, 0)


if __name__ == '__main__':
    tap.main()
