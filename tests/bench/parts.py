# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the benchmark; each prints its table and returns its figures.

To add one: write a function that takes the Bench and the arguments of 'run',
and name it in PARTS.
"""

from scenario import Scenario


def heading(text):
    print(f'\n{text}\n' + '-' * len(text), flush=True)


def counts(bench, arguments):
    """instructions and atomics per request, by callgrind"""
    scenarios = [Scenario(), Scenario(queues=2)]
    if not arguments.quick:
        scenarios += [Scenario(write=True),
                      Scenario(backend='raw-io_uring', depth=32),
                      Scenario(backend='qcow2', depth=32)]
    heading('Per request, IOThreads only (callgrind)')
    print(f'{"":36}{"instructions":^24}{"atomics":^21}')
    print(f'{"":36}{"stock":>8}{"ours":>8}{"ratio":>8}'
          f'{"stock":>8}{"ours":>7}{"ratio":>7}', flush=True)
    rows = []
    for s in scenarios:
        stock = bench.count(arguments.stock, s)
        ours = bench.count(arguments.ours, s)
        print(f'{s.name:36}{stock.instructions:8.0f}{ours.instructions:8.0f}'
              f'{ours.instructions / stock.instructions:8.3f}'
              f'{stock.atomics:8.1f}{ours.atomics:7.1f}'
              f'{ours.atomics / stock.atomics:7.3f}', flush=True)
        if arguments.functions:
            for title, cost in (('stock', stock), ('ours', ours)):
                print(f'\n{title}: self cost, atomics, function')
                print('\n'.join(cost.table(arguments.functions)))
            print()
        rows.append({'scenario': s.name, 'stock': stock.as_json(),
                     'ours': ours.as_json()})
    return rows


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
    return result


PARTS = {
    'counts': counts,
    'memory': memory,
}
