# SPDX-License-Identifier: GPL-2.0-or-later
"""unittest with the Test Anything Protocol on stdout, for Meson."""

import sys
import traceback
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))


class TapResult(unittest.TestResult):
    """One line per test, the reason of a failure as comments after it."""

    def __init__(self, stream):
        super().__init__()
        self.stream = stream
        self.number = 0

    def line(self, state, test, error=None, note=''):
        self.number += 1
        name = test.id().replace('__main__.', '')
        print(f'{state} {self.number} - {name}{note}', file=self.stream)
        if error:
            for text in traceback.format_exception(*error):
                for row in text.rstrip().splitlines():
                    print(f'# {row}', file=self.stream)
            for row in getattr(error[1], 'details', ()):
                print(f'# {row}', file=self.stream)
        self.stream.flush()

    def addSuccess(self, test):
        self.line('ok', test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line('not ok', test, err)

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.line('not ok', subtest, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line('ok', test, note=f' # SKIP {reason}')


class TapRunner:
    def run(self, suite):
        print('TAP version 13')
        result = TapResult(sys.stdout)
        suite(result)
        # A failed setUpClass is a line that stands for several tests.
        print(f'1..{result.number}')
        return result


def main():
    unittest.main(testRunner=TapRunner())
