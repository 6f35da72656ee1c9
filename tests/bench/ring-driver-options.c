/*
 * ring-driver: the command line, written by a program, read by this one
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>

#include "ring-driver.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static Options options = { .memory_fd = UINT64_MAX, .qtest_fd = UINT64_MAX };

static const struct {
    const char *name;
    uint64_t *number;           /* --name=number, if it is one */
    uint64_t max;
} number_options[] = {
    { "memory-fd", &options.memory_fd, INT32_MAX },
    { "qtest-fd", &options.qtest_fd, INT32_MAX },
    { "blocks", &options.blocks, UINT64_MAX / SECTORS_PER_BLOCK },
    { "ring-size", &options.ring_size, 32768 },
    { "depth", &options.depth, 32768 },
    { "requests", &options.requests, UINT64_MAX },
    { "ms", &options.ms, 3600 * 1000 },
    { "warmup-requests", &options.warmup_requests, UINT64_MAX },
    { "warmup-ms", &options.warmup_ms, 3600 * 1000 },
    { "pause-ns", &options.pause_ns, 999999999 },
    { "seed", &options.seed, UINT32_MAX },
};

static const struct {
    const char *name;
    bool *flag;
} flag_options[] = {
    { "xen", &options.xen },
    { "batch", &options.batch },
    { "write", &options.write },
    { "interrupts", &options.interrupts },
    { "indirect", &options.indirect },
    { "latencies", &options.latencies },
};

static const struct {
    const char *name;
    const char **texts;
    unsigned *n_texts, max;
} list_options[] = {
    /* Where its parts lie; each transport has a format of its own for this */
    { "queue", options.queues, &options.n_queues, MAX_QUEUES },
    /* A thread's schedstat file: its time on a processor is reported */
    { "thread-stat", options.thread_stats, &options.n_threads, MAX_THREADS },
};

static uint64_t parse_number(const char *name, const char *text, uint64_t max)
{
    uint64_t n;
    int length = 0;

    if (strlen(text) > 19 || *text == '-' ||
        sscanf(text, "%" SCNu64 "%n", &n, &length) != 1 || text[length] ||
        n > max) {
        die("--%s=%s: expected a number, at most %" PRIu64, name, text, max);
    }
    return n;
}

static bool parse_option(const char *name, const char *value)
{
    for (unsigned i = 0; i < N_ELEMENTS(number_options); i++) {
        if (value && !strcmp(name, number_options[i].name)) {
            *number_options[i].number =
                parse_number(name, value, number_options[i].max);
            return true;
        }
    }
    for (unsigned i = 0; i < N_ELEMENTS(flag_options); i++) {
        if (!value && !strcmp(name, flag_options[i].name)) {
            *flag_options[i].flag = true;
            return true;
        }
    }
    for (unsigned i = 0; i < N_ELEMENTS(list_options); i++) {
        if (value && !strcmp(name, list_options[i].name)) {
            if (*list_options[i].n_texts == list_options[i].max) {
                die("--%s: more than %u", name, list_options[i].max);
            }
            list_options[i].texts[(*list_options[i].n_texts)++] = value;
            return true;
        }
    }
    return false;
}

void options_parse(Options *result, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *name = argv[i] + 2, *equals = strchr(argv[i], '=');

        if (equals) {
            *equals = '\0';
        }
        if (strncmp(argv[i], "--", 2) ||
            !parse_option(name, equals ? equals + 1 : NULL)) {
            die("do not know the option '%s'", argv[i]);
        }
    }
    if (options.memory_fd > INT32_MAX ||
        (options.qtest_fd > INT32_MAX && !options.xen) ||
        !options.blocks || !options.ring_size || !options.depth ||
        !options.n_queues || !options.requests == !options.ms) {
        die("options are missing; the program 'run' knows them");
    }
    if (options.depth * (options.indirect || options.xen ? 1 : 3) >
        options.ring_size) {
        die("%" PRIu64 " requests do not fit a ring of %" PRIu64,
            options.depth, options.ring_size);
    }
    *result = options;
}
