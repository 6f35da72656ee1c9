# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the benchmark that runs without QEMU: threads write to a file.

If the host's kernel does not scale, no queue can.
"""

import json
import os
import statistics
import subprocess

from qemu import BenchError
from scenario import TMPFS

JOBS = {'write': '4 KiB, random',
        'allocate': '64 KiB cleared, 4 KiB written'}
THREADS = (1, 2, 4)
ROUNDS = 7
WINDOW_MS = 100


def measure(program, folder, job, threads, ms):
    """Returns {'kiops': of all threads, 'cpu_us': of one write}."""
    path = os.path.join(folder, f'file-writers.{os.getpid()}')
    run = subprocess.run([program, path, job, str(threads), str(ms)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         check=False)
    if run.returncode:
        raise BenchError(run.stderr.decode().strip())
    report = json.loads(run.stdout)
    return {'kiops': report['ops'] * 1e6 / report['elapsed_ns'],
            'cpu_us': report['cpu_ns'] / report['ops'] / 1e3}


def row_of(rounds, threads):
    """The medians of @threads, and of their ratios to one thread."""
    row = {'threads': threads}
    for figure in ('kiops', 'cpu_us'):
        row[figure] = round(statistics.median(
            r[threads][figure] for r in rounds), 2)
        row[figure + '_to_one'] = round(statistics.median(
            r[threads][figure] / r[1][figure] for r in rounds), 3)
    return row


def file_writes(bench, arguments):
    """what the kernel alone makes of several threads that write to a file"""
    program = bench.program('file-writers')
    places = [('tmpfs', TMPFS)]
    if not arguments.quick:
        places.append(('disk', bench.output))
    text = 'Threads that write to one file with O_DIRECT, without QEMU'
    print(f'\n{text}\n' + '-' * len(text))
    print(f'{"":44}{"1000 IOPS":>10}{"of 1":>7}{"CPU, us":>9}{"of 1":>7}',
          flush=True)
    rows = []
    for job, title in JOBS.items():
        for where, folder in places:
            rounds = [{n: measure(program, folder, job, n, WINDOW_MS)
                       for n in THREADS} for _ in range(ROUNDS)]
            for n in THREADS:
                row = {'job': job, 'where': where, **row_of(rounds, n)}
                rows.append(row)
                print(f'{f"{title}, {where}, {n}":44}{row["kiops"]:10.1f}'
                      f'{row["kiops_to_one"]:7.2f}{row["cpu_us"]:9.2f}'
                      f'{row["cpu_us_to_one"]:7.2f}', flush=True)
    return rows
