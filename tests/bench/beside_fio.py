# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the benchmark that compares an IOThread with fio.

fio reads the same file with the same depth and batches, and has no guest.  The
two take turns.
"""

import json
import shutil
import statistics
import subprocess

from qemu import BenchError
from scenario import Scenario, Session

DEPTHS = (32, 256)
POLL_NS = 32768         # what an IOThread does by default
ROUNDS = 7
WINDOW_MS = 1500
BACKEND = 'raw-io_uring'


def fio(path, depth, ms):
    """Returns {'user_us': , 'kernel_us': } of one read."""
    program = shutil.which('fio')
    if program is None:
        raise BenchError('fio is missing: install the Debian package "fio"')
    run = subprocess.run(
        [program, '--name=read', '--thread', f'--filename={path}',
         '--rw=randread', '--bs=4k', '--direct=1', '--norandommap',
         '--ioengine=io_uring', f'--iodepth={depth}',
         f'--iodepth_batch={depth}', '--iodepth_batch_complete_min=1',
         f'--iodepth_batch_complete_max={depth}', '--gtod_reduce=1',
         '--time_based', f'--runtime={ms / 1000}', '--output-format=json'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if run.returncode:
        raise BenchError('fio: ' + run.stderr.decode().strip())
    text = run.stdout.decode()
    job = json.loads(text[text.index('{'):])['jobs'][0]
    us = job['job_runtime'] * 1e3 / job['read']['total_ios']
    return {'user_us': job['usr_cpu'] / 100 * us,
            'kernel_us': job['sys_cpu'] / 100 * us}


class IOThread:
    """The IOThread of a session, and what it spends."""

    def __init__(self, session):
        self.session = session
        self.tid, = session.qemu.iothreads().values()

    def _ticks(self):
        """Ticks of user and of kernel time until now."""
        task = f'/proc/{self.session.qemu.process.pid}/task/{self.tid}'
        with open(f'{task}/stat') as f:
            words = f.read().rpartition(')')[2].split()
        return int(words[11]), int(words[12])

    def measure(self, ms, poll_ns):
        """Returns the same figures of one read."""
        self.session.set_polling(poll_ns)
        before = self._ticks()
        us = self.session.measure(ms)['cpu_us']
        user, kernel = (b - a for a, b in zip(before, self._ticks()))
        share = user / max(user + kernel, 1)
        return {'user_us': us * share, 'kernel_us': us * (1 - share)}


def row_of(rounds):
    """Medians, and the medians of the rounds' ratios of user and kernel time
    together.  rounds: [{'fio': , 'ours': , 'polling': figures}, ...]"""
    row = {}
    for name in 'fio', 'ours', 'polling':
        for figure in 'user_us', 'kernel_us':
            row[f'{name}_{figure}'] = round(statistics.median(
                r[name][figure] for r in rounds), 2)
        row[name + '_to_fio'] = round(statistics.median(
            sum(r[name].values()) / sum(r['fio'].values())
            for r in rounds), 2)
    return row


def beside_fio(bench, arguments):
    """reads of a raw file: the CPU time of an IOThread beside that of fio"""
    text = 'CPU time of a 4 KiB random read of a raw file, us: user, kernel'
    print(f'\n{text}\n' + '-' * len(text))
    print(f'{"":24}{"fio":^16}{"ours":^16}{"polling":^16}'
          f'{"ours":>8}{"polling":>9}  of fio', flush=True)
    ms, nb = (WINDOW_MS // 5, 3) if arguments.quick else (WINDOW_MS, ROUNDS)
    rows = []
    for tmpfs in True, False:
        for depth in DEPTHS:
            s = Scenario(BACKEND, depth=depth, tmpfs=tmpfs)
            path = bench.image(s)
            with Session(bench, arguments.ours, s) as session:
                thread = IOThread(session)
                rounds = [{'fio': fio(path, depth, ms),
                           'ours': thread.measure(ms, 0),
                           'polling': thread.measure(ms, POLL_NS)}
                          for _ in range(nb)]
            row = {'where': 'tmpfs' if tmpfs else 'disk', 'depth': depth,
                   **row_of(rounds)}
            rows.append(row)
            print_row(row)
    return rows


def print_row(row):
    text = f"{row['where']}, {row['depth']} outstanding"
    text = f'{text:24}'
    for name in 'fio', 'ours', 'polling':
        text += f"{row[name + '_user_us']:8.2f}{row[name + '_kernel_us']:8.2f}"
    print(text + f"{row['ours_to_fio']:8.2f}{row['polling_to_fio']:9.2f}",
          flush=True)
