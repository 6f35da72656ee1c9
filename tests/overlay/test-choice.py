#!/usr/bin/env python3
#
# Which tests run under a sanitizer.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts/base'))

# pylint: disable=wrong-import-position
import sanitize  # noqa: E402
from term import Refusal  # noqa: E402

TESTS = [{'name': name, 'suite': [f'qemu:{suite}']}
         for name, suite in (('test-vring', 'mq-unit'),
                             ('disk-stats-test', 'mq-qtest'),
                             ('disk-stats-test-to-stock', 'mq-stock'),
                             ('guest', 'mq-full'))]


class ChoiceTest(unittest.TestCase):
    def choose(self, *names):
        sanitizer = sanitize.SANITIZERS['check-sanitizers']
        return [test['name']
                for test in sanitize.choose(TESTS, sanitizer, names)]

    def test_default(self):
        self.assertEqual(self.choose(), ['test-vring', 'disk-stats-test'])

    def test_named(self):
        self.assertEqual(self.choose('guest'), ['guest'])

    def test_stock_is_not_built(self):
        self.assertEqual(self.choose('disk-*'), ['disk-stats-test'])

    def test_nothing_but_stock(self):
        with self.assertRaisesRegex(Refusal, 'to-stock needs the untouched'):
            self.choose('*-to-stock')

    def test_unknown(self):
        with self.assertRaises(Refusal):
            self.choose('disc-*')


if __name__ == '__main__':
    unittest.main(verbosity=2)
