# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of the benchmark about disks of several kinds: formats, limits, chains.

All programs and numbers of queues take turns in windows of one round, so that
each may be compared with each.
"""

import contextlib
import dataclasses
import statistics

import disks
from scenario import Scenario, Session

WINDOW_MS = 60


@dataclasses.dataclass(frozen=True)
class Kind:
    """A disk, and reads or writes."""
    title: str
    backend: str
    write: bool = False
    ours_only: bool = False

    def scenario(self, queues, tmpfs=True, depth=256):
        return Scenario(self.backend, self.write, depth, queues,
                        tmpfs=tmpfs and self.backend not in disks.NO_IMAGE)


KINDS = (
    Kind('qcow2, write in place', 'qcow2', True),
    Kind('qcow2, write that allocates', 'qcow2-empty', True),
    Kind('null-co below its limits, read', 'throttle'),
    Kind('null-co with a bitmap, write', 'bitmap', True),
    Kind('null-co below limits of the device, read', 'limits'),
    # In QEMU 10.0 writes of several threads break the job's lists.
    Kind('null-co, write-blocking mirror, write', 'mirror', True, True),
    Kind('raw, write', 'raw-io_uring', True),
    Kind('qcow2, read', 'qcow2'),
    Kind('qcow2, tables twice the cache, read', 'qcow2-cold'),
    Kind('qcow2, chain of 8, read', 'chain'),
    Kind('qcow2, copy-on-read, read', 'copy-on-read'),
    Kind('qcow2, detect-zeroes, write', 'detect-zeroes', True),
    Kind('luks, read', 'luks'),
    Kind('luks, write', 'luks', True),
    Kind('null-co, read', 'null-co'),
)
QUICK = KINDS[:4]


def chosen(arguments):
    """The kinds that --kinds names, or all."""
    if arguments.kinds:
        return [k for k in KINDS if k.backend in arguments.kinds]
    return QUICK if arguments.quick else KINDS


def programs(arguments):
    """Paths by title."""
    return {title: path for title, path in (
        ('stock', arguments.stock), ('ours', arguments.ours),
        ('peer', arguments.peer)) if path}


def measure(bench, cells, sessions, rounds):
    """cells: {key: (program, Scenario)}.  Returns {key: [figures of a round,
    ...]}, of all sessions, in the order of the rounds."""
    results = {key: [] for key in cells}
    for _ in range(sessions):
        with contextlib.ExitStack() as stack:
            running = [(key, stack.enter_context(Session(bench, *cell)))
                       for key, cell in cells.items()]
            for i in range(rounds):
                for key, session in running[::-1 if i % 2 else 1]:
                    results[key].append(session.measure(WINDOW_MS))
    return results


def quotient(results, key, other, figure):
    """The median of the rounds' ratios."""
    return statistics.median(a[figure] / b[figure] for a, b in
                             zip(results[key], results[other]))


def row_of(kind, where, key, results):
    """The figures of one program with one number of queues."""
    title, queues = key
    row = {'kind': kind.title, 'where': where, 'program': title,
           'queues': queues}
    for figure in ('iops', 'cpu_us'):
        row[figure] = round(statistics.median(
            r[figure] for r in results[key]), 3)
        row[figure + '_to_one'] = round(
            quotient(results, key, (title, 1), figure), 3)
        if ('stock', queues) in results:
            row[figure + '_to_stock'] = round(
                quotient(results, key, ('stock', queues), figure), 3)
    return row


def print_heading(titles):
    print('\nDisks of several kinds: 4 KiB, random, 256 outstanding in each '
          'queue\n')
    wide = 8 * len(titles)
    print(f'{"":44}{"1000 IOPS":^{wide}}{"IOThread CPU, us":^{wide}}'
          f'{"ours: CPU, of":^16}{"IOPS, of":^9}')
    print(f'{"":44}' + ''.join(f'{t:>8}' for t in titles) * 2
          + f'{"stock":>8}{"1 queue":>8}{"1 queue":>9}', flush=True)


def print_rows(rows, titles):
    """One line: all programs with the same number of queues."""
    by_title = {row['program']: row for row in rows}
    row, ours = rows[0], by_title['ours']
    name = f"{row['kind']}{row['where']}, {row['queues']}"
    text = f'{name:44}'
    for figure, unit, digits in ('iops', 1e3, 1), ('cpu_us', 1, 2):
        for title in titles:
            text += (f'{by_title[title][figure] / unit:8.{digits}f}'
                     if title in by_title else f'{"-":>8}')
    text += (f"{ours['cpu_us_to_stock']:8.2f}" if 'cpu_us_to_stock' in ours
             else f'{"-":>8}')
    print(text + f"{ours['cpu_us_to_one']:8.2f}{ours['iops_to_one']:9.2f}",
          flush=True)


def places(kind, quick):
    """(tmpfs, words for it): where the image of a kind lies."""
    if kind.backend in disks.NO_IMAGE:
        return [(False, '')]
    return [(True, ', tmpfs')] + ([] if quick else [(False, ', disk')])


def kinds(bench, arguments):
    """rates of more kinds of disks with 1, 2 and 4 queues, and of --peer"""
    paths = programs(arguments)
    counts = (1, 2) if arguments.quick else (1, 2, 4)
    rows = []
    print_heading(paths)
    for kind in chosen(arguments):
        runs = {title: path for title, path in paths.items()
                if title == 'ours' or not kind.ours_only}
        for tmpfs, where in places(kind, arguments.quick):
            results = measure(bench, {
                (title, queues): (path, kind.scenario(queues, tmpfs))
                for title, path in runs.items() for queues in counts},
                1 if arguments.quick else 2, 5)
            for queues in counts:
                rows += [row_of(kind, where, (title, queues), results)
                         for title in runs]
                print_rows(rows[-len(runs):], paths)
    return rows
