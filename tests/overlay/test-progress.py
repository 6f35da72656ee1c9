#!/usr/bin/env python3
#
# The progress that a long build shows.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import sys
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts/base'))

# pylint: disable=wrong-import-position
import ninja  # noqa: E402


class ProgressTest(unittest.TestCase):
    def shown(self, lines, terminal=False, seconds=30):
        """What comes of lines of Ninja's, `seconds` apart."""
        now = iter(range(0, 10000 * seconds, seconds)) if seconds \
            else iter(lambda: 0, 1)
        out = io.StringIO()
        progress = ninja.Progress(out, terminal, lambda: next(now))
        for line in lines:
            progress.line(line)
        progress.clear()
        return out.getvalue()

    def test_time_that_passed_and_is_left(self):
        text = self.shown([f'[{n}/20] CC x.o\n' for n in range(1, 21)])
        lines = text.splitlines()
        self.assertEqual(len(lines), 10)
        self.assertEqual(lines[0], '[2/20] 10 %, 1:00 min, about 9:00 left')
        self.assertEqual(lines[-1], '[20/20] 100 %, 10:00 min')

    def test_what_takes_no_time_shows_nothing(self):
        lines = ["ninja: Entering directory `x'\n",
                 '[1/2] Generating version\n', '[2/2] Linking\n',
                 'ninja: no work to do.\n']
        self.assertEqual(self.shown(lines, seconds=0), '')
        on_terminal = self.shown(lines, True, 0)
        self.assertEqual(on_terminal.replace('\r\33[K', ''), '')

    def test_terminal_is_clean_at_the_end(self):
        text = self.shown(['[1/2] CC x.o\n', '[2/2] CC y.o\n'], True)
        self.assertIn('[1/2] 50 %, 0:30 min, about 0:30 left', text)
        self.assertNotIn('\n', text)
        self.assertTrue(text.endswith('\r\33[K'))

    def test_messages_have_their_step(self):
        for terminal in False, True:
            text = self.shown(['[1/9] CC x.o\n', 'x.c:1: warning: y\n',
                               'more of it\n', '[2/9] CC z.o\n'], terminal)
            self.assertIn('[1/9] CC x.o\nx.c:1: warning: y\nmore of it\n',
                          text.replace('\r\33[K', ''))
            self.assertNotIn('CC z.o', text)

    def test_announcement(self):
        self.assertIn('1,800 steps: about 4 minutes on 2 processors',
                      ninja.announcement(1800, 2))
        self.assertIn('about 1 minute on 64', ninja.announcement(1800, 64))


if __name__ == '__main__':
    unittest.main(verbosity=2)
