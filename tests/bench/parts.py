# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the benchmark; each prints its table and returns its figures.

To add one: write a function that takes the Bench and the arguments of 'run',
and name it in PARTS.
"""

import dataclasses
import os
import sys

import beside_fio
import kernel
import kinds
import stats
import xen_host
import xen_stock
from disks import BACKENDS
from scenario import Scenario, Session
from sharing import shared_lines


def heading(text):
    print(f'\n{text}\n' + '-' * len(text), flush=True)


def count_rows(bench, arguments, programs, pairs):
    """Print and return a row for each pair of scenarios, one for each of the
    two programs.  A first scenario that comes again is not counted again."""
    print(f'{"":44}{"instructions":^24}{"atomics":^21}')
    print(f'{"":44}{"stock":>8}{"ours":>8}{"ratio":>8}'
          f'{"stock":>8}{"ours":>7}{"ratio":>7}', flush=True)
    rows, known = [], {}
    for first, second in pairs:
        if first not in known:
            known[first] = bench.count(programs[0], first)
        stock, ours = known[first], bench.count(programs[1], second)
        print(f'{second.name:44}{stock.instructions:8.0f}'
              f'{ours.instructions:8.0f}'
              f'{ours.instructions / stock.instructions:8.3f}'
              f'{stock.atomics:8.1f}{ours.atomics:7.1f}'
              f'{ours.atomics / stock.atomics:7.3f}', flush=True)
        if arguments.functions:
            for title, cost in (('stock', stock), ('ours', ours)):
                print(f'\n{title}: self cost, atomics, function')
                print('\n'.join(cost.table(arguments.functions)))
            print()
        rows.append({'scenario': second.name, 'stock': stock.as_json(),
                     'ours': ours.as_json()})
    return rows


def counts(bench, arguments):
    """instructions and atomics per request, by callgrind"""
    scenarios = [Scenario(), Scenario(queues=2)]
    if not arguments.quick:
        scenarios += [Scenario(write=True),
                      Scenario(backend='raw-io_uring', depth=32),
                      Scenario(backend='qcow2', depth=32)]
    heading('Per request, IOThreads only (callgrind)')
    return count_rows(bench, arguments, (arguments.stock, arguments.ours),
                      [(s, s) for s in scenarios])


def kind_counts(bench, arguments):
    """the same of more kinds of disks, with one queue and two"""
    heading('Kinds of disks, per request (callgrind)')
    scenarios = [kind.scenario(queues) for kind in kinds.chosen(arguments)
                 for queues in (1, 2)]
    return count_rows(bench, arguments, (arguments.stock, arguments.ours),
                      [(s, s) for s in scenarios])


def compare(bench, programs, scenarios, sessions, pairs=7, ms=60):
    """A Ratio for each figure of the second program and scenario to the
    first's.  There are several sessions, because no two processes lie in memory
    alike, and several short pairs in each, because the machine has other things
    to do."""
    results = []
    for _ in range(sessions):
        with Session(bench, programs[0], scenarios[0]) as first, \
             Session(bench, programs[1], scenarios[1]) as second:
            results += stats.alternate(pairs, lambda: first.measure(ms),
                                       lambda: second.measure(ms))
    return stats.ratios(results)


def print_rate_heading():
    print(f'{"":44}{"1000 IOPS":^34}{"IOThread CPU, us/request":^33}')
    print(f'{"":44}{"stock":>7}{"ours":>8}{"ratio":>8}{"":11}'
          f'{"stock":>7}{"ours":>7}{"ratio":>8}', flush=True)


def print_rate(s, row):
    iops, cpu = row['iops'], row['cpu_us']
    print(f'{s.name:44}{iops.stock / 1e3:7.1f}{iops.ours / 1e3:8.1f}  '
          f'{str(iops):17}{cpu.stock:7.2f}{cpu.ours:7.2f}  {cpu}',
          flush=True)


def throughput(bench, arguments):
    """IOPS, IOThread CPU, kicks, interrupts and latency, stock and ours"""
    scenarios = [Scenario(), Scenario(queues=2), Scenario(depth=1),
                 Scenario(backend='raw-io_uring', depth=32)]
    if not arguments.quick:
        scenarios += [s for s in (
            Scenario(backend, write, depth, queues)
            for backend in BACKENDS for write in (False, True)
            for depth in (1, 32, 256) for queues in (1, 2, 4))
            if s not in scenarios]
    heading('Rates, ratios of ours to stock: median (lowest..highest)')
    print_rate_heading()
    rows = []
    for i, s in enumerate(scenarios):
        row = measure_row(bench, arguments, s, 3 if i < 4 else 2)
        print_rate(s, row)
        rows.append((s, row))
    print_events(rows)
    print_latencies(rows)
    return [{'scenario': s.name,
             **{key: value.as_json() for key, value in row.items() if value}}
            for s, row in rows]


def measure_row(bench, arguments, s, sessions):
    """Measure with kicks and interrupts, as a guest has them; then, if there
    are enough processors, with IOThreads that poll."""
    programs = arguments.stock, arguments.ours
    row = compare(bench, programs, (s, s), sessions)
    row.pop('latency_us', None)
    if s.queues <= os.cpu_count():
        polling = dataclasses.replace(s, poll=True)
        polling = compare(bench, programs, (polling, polling), sessions)
        row['polling_iops'] = polling['iops']
        row['polling_cpu_us'] = polling['cpu_us']
        if s.queues == 1 and 'latency_us' in polling:
            row['latency_us'] = polling['latency_us']
    return row


def print_events(rows):
    heading('A request\'s share of kicks and interrupts; IOPS if polling')
    print(f'{"":44}{"kicks":^16}{"interrupts":^16}{"1000 IOPS, polling":^34}')
    print(f'{"":44}' + f'{"stock":>8}{"ours":>8}' * 3 + f'{"ratio":>8}')
    for s, row in rows:
        text = f'{s.name:44}'
        for key in ('kicks', 'interrupts'):
            if row[key]:
                text += f'{row[key].stock:8.3f}{row[key].ours:8.3f}'
            else:
                text += f'{"0":>8}{"":8}'
        if 'polling_iops' in row:
            iops = row['polling_iops']
            text += f'{iops.stock / 1e3:8.1f}{iops.ours / 1e3:8.1f}  {iops}'
        print(text, flush=True)


def print_latencies(rows):
    """The median of a window: of all windows, and of the best, which is the
    one to look at on a machine that has other things to do."""
    heading('Latency at depth 1, IOThread polling, us')
    print(f'{"":44}{"all windows":^35}{"best window":^24}')
    print(f'{"":44}{"stock":>8}{"ours":>8}{"ratio":>8}{"":13}'
          f'{"stock":>7}{"ours":>7}{"ratio":>7}')
    for s, row in rows:
        if 'latency_us' in row:
            r = row['latency_us']
            print(f'{s.name:44}{r.stock:8.1f}{r.ours:8.1f}  {str(r):19}'
                  f'{r.stock_least:7.2f}{r.ours_least:7.2f}'
                  f'{r.ours_least / r.stock_least:7.2f}', flush=True)


def scaling(bench, arguments):
    """CPU per request with several queues over one queue"""
    heading('IOThread CPU per request, N queues over 1, null-co read, '
            'full rings')
    print(f'{"":44}{"1 queue":>9}{"N":>7}{"ratio":>8}')
    kinds = [('stock', arguments.stock, False), ('ours', arguments.ours, False),
             ('ours, Xen', arguments.ours, True)]
    return [scaling_row(bench, title, program, xen, queues, pin)
            for title, program, xen in kinds
            for queues in ((2,) if arguments.quick else (2, 4))
            for pin in ('spread', 'same')]


def scaling_row(bench, title, program, xen, queues, pin):
    one, many = (Scenario(queues=n, pin=pin, xen=xen) for n in (1, queues))
    result = compare(bench, (program, program), (one, many), 3)['cpu_us']
    where = 'CPUs of their own' if pin == 'spread' else 'one CPU'
    print(f'{f"{title}, {queues} IOThreads on {where}":44}'
          f'{result.stock:9.2f}{result.ours:7.2f}  {result}', flush=True)
    return {'program': title, 'queues': queues, 'pin': pin,
            **result.as_json()}


def sharing(bench, arguments):
    """cache lines that several IOThreads write, and the code that does"""
    null = Scenario(queues=2)
    both, ours = [null], [dataclasses.replace(null, xen=True)]
    if arguments.kinds:
        both, ours = [kind.scenario(2, depth=32)
                      for kind in kinds.chosen(arguments)], []
    elif not arguments.quick:
        both += [Scenario('raw-io_uring', depth=32, queues=2),
                 Scenario('qcow2', depth=32, queues=2),
                 Scenario('qcow2', depth=32, queues=2, write=True)]
        ours += [Scenario(queues=4), Scenario(queues=2, write=True)]
    heading('Cache lines that IOThreads share')
    print(f'{"":44}{"written by several":^26}'
          f'{"by one, read by others":^28}')
    print(f'{"":44}{"lines":>8}{"writes/request":>18}'
          f'{"lines":>10}{"writes/request":>18}')
    rows = {}
    for title, program, scenarios in (('stock', arguments.stock, both),
                                      ('ours', arguments.ours, both + ours)):
        for s in scenarios:
            name = f'{title}, {s.name}'
            rows[name] = shared_lines(bench, program, s)
            print_line_counts(name, rows[name])
    for title, lines in rows.items():
        print_lines(title, lines)
    return {title: [line.as_json() for line in lines]
            for title, lines in rows.items()}


def print_line_counts(title, lines):
    text = f'{title:44}'
    for several in (True, False):
        chosen = [line for line in lines if (line.writers > 1) == several]
        text += (f'{len(chosen):{8 if several else 10}}'
                 f'{sum(line.writes for line in chosen):18.2f}')
    print(text, flush=True)


def print_lines(title, lines):
    print(f'\n{title}: writes per request, the code that writes')
    for line in lines:
        print(f'  line {line.address:#x}: {line.writers} write, '
              f'{line.readers} more read')
        for code, writes in line.writes_by_code.items():
            print(f'{writes:12.2f}  {code}')


def memory(bench, arguments):
    """what 64 queues of 256 entries cost more than one"""
    heading('QEMU\'s own memory, MiB: 64 queues of 256 entries over 1 queue')
    print(f'{"":8}{"DRIVER_OK":>12}{"after full rings":>20}')
    result = {}
    for title in ('stock', 'ours'):
        program = getattr(arguments, title)
        one, many = (bench.memory_kib(program, n) for n in (1, 64))
        ready, used = ((b - a) / 1024 for a, b in zip(one, many))
        print(f'{title:8}{ready:+12.1f}{used:+20.1f}', flush=True)
        result[title] = {'ready_mib': round(ready, 2),
                         'used_mib': round(used, 2)}
    result['xen'] = xen_memory(bench, arguments)
    return result


def xen_memory(bench, arguments):
    """A Xen disk of 16 rings beside stock's of one."""
    programs = (xen_stock.build(arguments.stock, bench.output),
                arguments.ours)
    print(f'\n{"Xen disk, MiB of the process":32}{"after full rings":>18}'
          f'{"idle for 2 minutes":>20}')
    result = {}
    for title, program, rings in zip(('stock', 'ours'), programs, (1, 16)):
        used, idle = (kib / 1024 for kib in bench.xen_memory_kib(
            program, rings, 120))
        print(f'{f"{title}, rings: {rings}":32}{used:18.1f}'
              f'{idle:20.1f}', flush=True)
        result[title] = {'rings': rings, 'used_mib': round(used, 2),
                         'idle_mib': round(idle, 2)}
    return result


def xen(bench, arguments):
    """the Xen disk: counts, rates and calls, several rings over stock's one"""
    programs = (xen_stock.build(arguments.stock, bench.output),
                arguments.ours)
    stock = Scenario(xen=True, persistent=False)
    scenarios = [Scenario(xen=True), Scenario(xen=True, queues=2)]
    if not arguments.quick:
        scenarios += [Scenario(xen=True, queues=4), stock,
                      Scenario(xen=True, indirect=True)]
    heading('Xen disk, per request (callgrind); stock has one ring, plain '
            'grants')
    counted = count_rows(bench, arguments, programs,
                         [(stock, s) for s in scenarios])
    if not arguments.quick:
        scenarios += [Scenario(xen=True, backend=backend, queues=queues)
                      for backend in BACKENDS[1:] for queues in (1, 2)]
    heading('Xen disk, ratios to stock\'s one ring: median (lowest..highest)')
    print_rate_heading()
    rows = []
    for s in scenarios:
        base = dataclasses.replace(stock, backend=s.backend)
        rows.append((s, compare(bench, programs, (base, s), 2)))
        print_rate(*rows[-1])
    heading('A request\'s share of calls to Xen')
    print(f'{"":44}{"grants":^16}{"events sent":^16}')
    print(f'{"":44}' + f'{"stock":>8}{"ours":>8}' * 2)
    for s, row in rows:
        grants, events = row['grant_calls'], row['interrupts']
        print(f'{s.name:44}{grants.stock:8.3f}{grants.ours:8.3f}'
              f'{events.stock:8.3f}{events.ours:8.3f}', flush=True)
    return {'counts': counted, 'rates': [
        {'scenario': s.name,
         **{key: value.as_json() for key, value in row.items() if value}}
        for s, row in rows]}


def xen_kernel(bench, arguments):
    """a real Xen: the disk of QEMU beside that of Linux's xen-blkback"""
    heading('A RAM disk of dom0, IOPS: median of '
            f'{xen_host.ROUNDS}, and ratio to xen-blkback')
    print(f'{"":44}{"xen-blkback":>12}{"QEMU":>9}{"ratio":>8}')
    result = {}
    for title in ('ours',) if arguments.quick else ('ours', 'stock'):
        found = xen_host.run(
            os.path.abspath(getattr(arguments, title)), bench.output,
            lambda text: print(f'  {text}', file=sys.stderr, flush=True))
        for rings, jobs in found.items():
            for job, iops in jobs.items():
                kernel, ours = iops['xen-blkback'], iops['QEMU']
                print(f'{f"{title}, rings: {rings}, {job}":44}'
                      f'{kernel:12,.0f}{ours:9,.0f}{ours / kernel:8.2f}',
                      flush=True)
        result[title] = found
    return result


PARTS = {
    'counts': counts,
    'throughput': throughput,
    'kinds': kinds.kinds,
    'kind-counts': kind_counts,
    'file': kernel.file_writes,
    'fio': beside_fio.beside_fio,
    'scaling': scaling,
    'memory': memory,
    'xen': xen,
    'xen-kernel': xen_kernel,
    'sharing': sharing,
}
