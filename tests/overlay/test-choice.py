#!/usr/bin/env python3
#
# Which tests run under a sanitizer, and what is told of parts that are skipped.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts/base'))

# pylint: disable=wrong-import-position
import check  # noqa: E402
import sanitize  # noqa: E402
from term import Refusal  # noqa: E402

TESTS = [{'name': name, 'suite': [f'qemu:{suite}']}
         for name, suite in (('test-vring', 'mq-unit'),
                             ('disk-stats-test', 'mq-qtest'),
                             ('disk-stats-test-to-stock', 'mq-stock'),
                             ('guest', 'mq-full'))]


class ChoiceTest(unittest.TestCase):
    def choose(self, *names, sanitizer=sanitize.SANITIZERS['check-sanitizers']):
        return [test['name']
                for test in sanitize.choose(TESTS, sanitizer, names)]

    def test_default(self):
        self.assertEqual(self.choose(), ['test-vring', 'disk-stats-test'])

    def test_left_out(self):
        sanitizer = sanitize.SANITIZERS['check-threads']._replace(
            left_out={'test-vring': 'one thread'})
        self.assertEqual(self.choose(sanitizer=sanitizer), ['disk-stats-test'])
        self.assertEqual(self.choose('test-vring', sanitizer=sanitizer),
                         ['test-vring'])

    def test_what_is_left_out_is_a_test(self):
        lists = ''.join(path.read_text()
                        for path in REPO.glob('tests/*/meson.build'))
        for sanitizer in sanitize.SANITIZERS.values():
            for name, reason in sanitizer.left_out.items():
                self.assertIn(f"'{name}'", lists)
                self.assertTrue(reason)

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


class ListTest(unittest.TestCase):
    def patterns(self, series):
        with tempfile.TemporaryDirectory() as folder:
            lists = Path(folder)
            (lists / 'check.list').write_text(
                '# comment\n\nevery\n!not-this\nfirst @10.0  # why\n'
                'next @10.2\n')
            return check.patterns('check.list', series, lists)

    def test_patterns_of_a_series(self):
        self.assertEqual(self.patterns('10.0'), ['every', '!not-this', 'first'])
        self.assertEqual(self.patterns('10.2'), ['every', '!not-this', 'next'])


class SkipsTest(unittest.TestCase):
    def skips(self, *tests):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / 'meson-logs/testlog.json'
            log.parent.mkdir()
            log.write_text(''.join(json.dumps(test) + '\n' for test in tests))
            return dict(check.skips(SimpleNamespace(qemu=Path(folder))))

    def test_reasons_are_counted(self):
        self.assertEqual(self.skips(
            {'name': 'qemu:mq-qtest / a', 'stdout':
             'ok 1 /a/1 # SKIP no KVM: it is gone\nok 2 /a/2\n'
             'ok 3 /a/3 # SKIP no KVM: it is gone\n'},
            {'name': 'qemu:mq-unit / b', 'stdout': 'ok 1 /b # SKIP no b\n'}),
            {'no KVM: it is gone': 2, 'no b': 1})

    def test_others_do_not_count(self):
        self.assertEqual(self.skips(
            {'name': 'qemu:qtest / mq-a', 'stdout': 'ok 1 /a # SKIP slow\n'},
            {'name': 'qemu:mq-qtest / a', 'stdout': '# SKIP\nok 1 /a\n'},
            {'name': 'qemu:mq-tree / b'}), {})

    def test_no_record(self):
        self.assertEqual(check.skips(SimpleNamespace(qemu=Path('/none'))), {})


if __name__ == '__main__':
    unittest.main(verbosity=2)
