# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures as one SVG picture.

    counts       pairs of bars, stock over ours; shorter is better
    rates        ratio of ours to stock, a dot on a line from lowest to
                 highest; left of 1 is better
    kinds        bars of CPU per request for each number of queues
    scaling      ratios, of N queues to one
"""

from xml.sax.saxutils import escape

WIDTH, LABEL, ROW = 900, 300, 22
STOCK, OURS, INK, GRID = '#9aa3ad', '#1f6fb2', '#22272e', '#d5dae0'
COLOURS = {'stock': STOCK, 'ours': OURS, 'peer': '#b5722b'}


class Picture:
    """SVG elements piled up from top to bottom."""

    def __init__(self):
        self.parts = []
        self.y = 16

    def text(self, x, text, dy=0, anchor='start', weight='normal', size=12):
        self.parts.append(
            f'<text x="{x:.1f}" y="{self.y + dy:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(text)}'
            '</text>')

    def bar(self, x, width, dy, height, colour):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{self.y + dy:.1f}" width="{width:.1f}" '
            f'height="{height}" fill="{colour}"/>')

    def line(self, x1, y1, x2, y2, colour, width=1):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>')

    def heading(self, text):
        self.y += 22
        self.text(12, text, weight='bold', size=14)
        self.y += 12

    def svg(self):
        height = self.y + 16
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
                f'height="{height:.0f}" font-family="sans-serif" '
                f'fill="{INK}">\n<rect width="100%" height="100%" '
                'fill="white"/>\n' + '\n'.join(self.parts) + '\n</svg>\n')


def draw_counts(picture, rows, key, title):
    """A pair of bars for each scenario."""
    picture.heading(title)
    longest = max(row[who][key] for row in rows for who in ('stock', 'ours'))
    scale = (WIDTH - LABEL - 90) / longest
    for row in rows:
        picture.text(12, row['scenario'], 17)
        for who, dy, colour in (('stock', 4, STOCK), ('ours', 14, OURS)):
            width = row[who][key] * scale
            picture.bar(LABEL, width, dy, 9, colour)
            picture.text(LABEL + width + 6, f'{who} {row[who][key]:,.4g}'
                         if row[who][key] < 1000
                         else f'{who} {row[who][key]:,.0f}', dy + 8, size=9)
        picture.y += ROW + 4


def draw_ratios(picture, rows, title):
    """rows: [(label, figures of a stats.Ratio), ...]"""
    if not rows:
        return
    picture.heading(title)
    highest = max(1.2, *(min(r['high'], 2 * r['median']) for _, r in rows))
    scale = (WIDTH - LABEL - 60) / highest
    top = picture.y + 4

    def place(value):
        return LABEL + min(value, highest) * scale

    ticks = [t / 4 for t in range(int(highest * 4) + 1)]
    if highest > 4:
        ticks = range(int(highest) + 1)
    bottom = top + ROW * len(rows)
    for tick in ticks:
        picture.line(place(tick), top, place(tick), bottom,
                     INK if tick == 1 else GRID)
        picture.text(place(tick), f'{tick:g}', bottom - picture.y + 12,
                     'middle', size=9)
    for label, r in rows:
        middle = picture.y + 4 + ROW / 2
        picture.text(12, label, 4 + ROW / 2 + 4)
        picture.line(place(r['low']), middle, place(r['high']), middle,
                     OURS, 2)
        picture.parts.append(f'<circle cx="{place(r["median"]):.1f}" '
                             f'cy="{middle:.1f}" r="4" fill="{OURS}"/>')
        picture.text(WIDTH - 12, f'{r["median"]:.2f}', 4 + ROW / 2 + 4, 'end')
        picture.y += ROW
    picture.y += 20


def draw_queues(picture, rows):
    """CPU per request by queues: bars of each program for each number."""
    if not rows:
        return
    picture.heading('IOThread CPU per request, us, by number of queues')
    longest = max(row['cpu_us'] for row in rows)
    scale = (WIDTH - LABEL - 110) / longest
    last = None
    for row in rows:
        group = row['kind'] + row['where'], row['queues']
        if group != last:
            picture.y += 6
            if not last or group[0] != last[0]:
                picture.text(12, group[0], 10)
            picture.text(LABEL - 8, str(row['queues']), 10, 'end')
            last = group
        width = row['cpu_us'] * scale
        picture.bar(LABEL, width, 2, 9, COLOURS[row['program']])
        picture.text(LABEL + width + 6,
                     f"{row['program']} {row['cpu_us']:.2f}", 10, size=9)
        picture.y += 11
    picture.y += 10


def draw(results):
    """The picture, as text."""
    picture = Picture()
    picture.text(12, f'virtio-blk, ours and stock, {results["date"]}, '
                 f'{results["cpus"]} processors', size=11)
    if 'counts' in results:
        draw_counts(picture, results['counts'], 'instructions',
                    'Instructions per request')
        draw_counts(picture, results['counts'], 'atomics',
                    'Atomic instructions per request')
    rates = results.get('throughput', [])
    for key, title in (
            ('cpu_us', 'IOThread CPU per request, ours to stock'),
            ('iops', 'IOPS, ours to stock (right is better)'),
            ('latency_us', 'Latency at depth 1, ours to stock')):
        draw_ratios(picture, [(row['scenario'], row[key]) for row in rates
                              if key in row], title)
    draw_queues(picture, results.get('kinds', []))
    draw_ratios(picture, [
        (f'{row["program"]}, {row["queues"]} IOThreads, '
         + ('CPUs of their own' if row['pin'] == 'spread' else 'one CPU'),
         row) for row in results.get('scaling', [])],
                'IOThread CPU per request, N queues to one')
    if 'xen' in results:
        draw_counts(picture, results['xen']['counts'], 'instructions',
                    'Xen disk: instructions per request')
        draw_counts(picture, results['xen']['counts'], 'atomics',
                    'Xen disk: atomic instructions per request')
        draw_ratios(picture, [(row['scenario'], row['cpu_us'])
                              for row in results['xen']['rates']],
                    'Xen disk: IOThread CPU per request, ours to stock')
    return picture.svg()
