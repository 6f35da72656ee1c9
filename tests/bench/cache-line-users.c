/*
 * Which threads touch which cache lines, and from where
 *
 *   valgrind --tool=lackey --trace-mem=yes --trace-sched=yes
 *       |  "SCHED[3]:  acquired lock"    thread 3 runs from here on
 *       |  "I  0012ab40,5"               an instruction,
 *       |  " S 04c3de50,8"               what it stored,
 *       |  " M ..." " L ..."             modified, loaded
 *       v
 *   this program  --- one line for each (line, thread, code, kind) --->
 *
 * valgrind runs one thread at a time, so the trace is in order and names the
 * thread at every change.  Only accesses between two marks count.  A mark is a
 * store to an address that stdin names once QEMU is up.
 *
 *   usage: cache-line-users TRACE-FD < MARKER-ADDRESS
 *
 * The output is "LINE THREAD PC KIND COUNT", hexadecimal but for THREAD and
 * COUNT; KIND is 'w' for stores and 'r' for loads.  Lines that nobody wrote
 * are left out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_SHIFT = 6,
    READ_SIZE = 1 << 18,
    MAX_TEXT = 256,
};

/* A thread, at one place in the code, used a cache line */
typedef struct {
    uint64_t line, pc, count;
    uint32_t thread;
    bool write;
} Use;

/* Open addressing; count == 0 marks a free place */
typedef struct {
    Use *uses;
    size_t size, n;             /* size is a power of two */
} UseTable;

typedef struct {
    uint64_t marker;            /* 0 until stdin has told it */
    unsigned marks;             /* seen so far: the second one ends it */
    uint32_t thread;
    uint64_t pc;
    UseTable table;
} Trace;

static void __attribute__((noreturn)) die(const char *message)
{
    fprintf(stderr, "cache-line-users: %s\n", message);
    exit(1);
}

static Use *table_place(UseTable *t, const Use *key)
{
    uint64_t hash = (key->line * 31 + key->pc * 2 + key->write) * 31 +
        key->thread;
    size_t i = (hash * UINT64_C(0x9E3779B97F4A7C15)) >> 20;

    for (;; i++) {
        Use *use = &t->uses[i & (t->size - 1)];

        if (!use->count ||
            (use->line == key->line && use->pc == key->pc &&
             use->thread == key->thread && use->write == key->write)) {
            return use;
        }
    }
}

static void table_resize(UseTable *t, size_t size)
{
    UseTable bigger = { calloc(size, sizeof(Use)), size, t->n };

    if (!bigger.uses) {
        die("out of memory");
    }
    for (size_t i = 0; i < t->size; i++) {
        if (t->uses[i].count) {
            *table_place(&bigger, &t->uses[i]) = t->uses[i];
        }
    }
    free(t->uses);
    *t = bigger;
}

static void table_add(UseTable *t, const Use *key)
{
    Use *use;

    if (t->n * 2 >= t->size) {
        table_resize(t, t->size ? t->size * 2 : 1 << 16);
    }
    use = table_place(t, key);
    if (!use->count) {
        *use = *key;
        t->n++;
    }
    use->count++;
}

static int compare_uses(const void *a, const void *b)
{
    const Use *x = a, *y = b;

    return x->line != y->line ? (x->line > y->line ? 1 : -1) : 0;
}

static void table_print(UseTable *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->size; i++) {
        if (t->uses[i].count) {
            t->uses[n++] = t->uses[i];
        }
    }
    qsort(t->uses, n, sizeof(*t->uses), compare_uses);
    for (size_t first = 0, end; first < n; first = end) {
        bool written = false;

        for (end = first; end < n &&
             t->uses[end].line == t->uses[first].line; end++) {
            written |= t->uses[end].write;
        }
        for (size_t i = first; written && i < end; i++) {
            Use *use = &t->uses[i];

            printf("%" PRIx64 " %" PRIu32 " %" PRIx64 " %c %" PRIu64 "\n",
                   use->line, use->thread, use->pc, use->write ? 'w' : 'r',
                   use->count);
        }
    }
}

/* The trace is long: this is most of the work */
static uint64_t parse_hex(const char **text)
{
    uint64_t n = 0;

    for (;; (*text)++) {
        char c = **text;

        if (c >= '0' && c <= '9') {
            n = n << 4 | (c - '0');
        } else if (c >= 'a' && c <= 'f') {
            n = n << 4 | (c - 'a' + 10);
        } else {
            return n;
        }
    }
}

/* @text: "ADDRESS,SIZE"; one access may reach into a second line */
static void trace_access(Trace *trace, const char *text, bool write)
{
    uint64_t addr = parse_hex(&text);
    int size = *text == ',' ? atoi(text + 1) : 1;
    Use use = { .pc = trace->pc, .thread = trace->thread, .write = write };

    if (write && addr == trace->marker) {
        trace->marks++;
        return;
    }
    if (trace->marks != 1 || size <= 0) {
        return;
    }
    for (use.line = addr >> LINE_SHIFT;
         use.line <= (addr + size - 1) >> LINE_SHIFT; use.line++) {
        table_add(&trace->table, &use);
    }
}

static void trace_line(Trace *trace, const char *line)
{
    const char *sched;

    if (line[0] == 'I' && line[1] == ' ') {
        if (trace->marks == 1) {
            line += 3;
            trace->pc = parse_hex(&line);
        }
    } else if (line[0] == ' ' && line[2] == ' ') {
        if (trace->marker) {
            trace_access(trace, line + 3, line[1] != 'L');
        }
    } else {
        sched = strstr(line, "SCHED[");
        if (sched && strstr(sched, "acquired lock")) {
            trace->thread = atoi(sched + 6);
        }
    }
}

/* stdin gets its one line late, when the trace has long begun */
static void trace_poll_marker(Trace *trace)
{
    char text[32];
    const char *p = text;
    ssize_t n;

    if (!trace->marker) {
        n = read(STDIN_FILENO, text, sizeof(text) - 1);
        if (n > 0) {
            text[n] = '\0';
            trace->marker = parse_hex(&p);
        }
    }
}

int main(int argc, char **argv)
{
    static Trace trace;
    static char buffer[READ_SIZE + MAX_TEXT];
    size_t kept = 0;
    ssize_t n;

    if (argc != 2) {
        die("usage: cache-line-users TRACE-FD < MARKER-ADDRESS");
    }
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    while ((n = read(atoi(argv[1]), buffer + kept, READ_SIZE)) > 0) {
        char *line = buffer, *end = buffer + kept + n, *newline;

        trace_poll_marker(&trace);
        while ((newline = memchr(line, '\n', end - line))) {
            *newline = '\0';
            trace_line(&trace, line);
            line = newline + 1;
        }
        kept = end - line < MAX_TEXT ? end - line : 0;
        memmove(buffer, line, kept);
    }
    if (trace.marks < 2) {
        die("the trace ended before the second mark");
    }
    table_print(&trace.table);
    return 0;
}
