/*
 * What both loads need: patterns, reports, threads that can be held
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char failed[256];
static int report_fd = STDERR_FILENO;
static unsigned long report_port;

static struct {
    enum { CREW_HELD, CREW_RUNNING } wanted;
    int at_work;
    Crew *crew;
} hands;

void fail(const char *format, ...)
{
    va_list values;

    pthread_mutex_lock(&lock);
    if (!failed[0]) {
        va_start(values, format);
        vsnprintf(failed, sizeof(failed), format, values);
        va_end(values);
    }
    pthread_mutex_unlock(&lock);
}

const char *failure(void)
{
    const char *text;

    pthread_mutex_lock(&lock);
    text = failed[0] ? failed : NULL;
    pthread_mutex_unlock(&lock);
    return text;
}

void report_open(unsigned long port)
{
    if (!port) {
        return;
    }
    report_fd = open("/dev/port", O_WRONLY);
    if (report_fd < 0) {
        perror("/dev/port");
        exit(1);
    }
    report_port = port;
}

void report(const char *format, ...)
{
    static pthread_mutex_t whole_line = PTHREAD_MUTEX_INITIALIZER;
    char text[64];
    va_list values;
    int length, i;

    va_start(values, format);
    length = vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    pthread_mutex_lock(&whole_line);
    for (i = 0; i < length; i++) {
        /* /dev/port goes on to the next port with the next byte. */
        if (report_port ? pwrite(report_fd, text + i, 1, report_port) != 1
                        : write(report_fd, text + i, 1) != 1) {
            fail("a report cannot be written");
        }
    }
    pthread_mutex_unlock(&whole_line);
}

uint64_t mix(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = a * 0x9e3779b97f4a7c15 + b;

    x = (x ^ x >> 29) * 0xff51afd7ed558ccd + c;
    x = (x ^ x >> 32) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 31;
}

static uint64_t pattern_next(uint64_t x)
{
    return x * 0x5851f42d4c957f2d + 0x14057b7ef767814f;
}

void pattern_fill(void *buffer, size_t size, uint64_t key)
{
    uint64_t *words = buffer;
    size_t i;

    for (i = 0; i < size / 8; i++) {
        words[i] = key;
        key = pattern_next(key);
    }
}

bool pattern_is(const void *buffer, size_t size, uint64_t key)
{
    const uint64_t *words = buffer;
    size_t i;

    for (i = 0; i < size / 8; i++) {
        if (words[i] != key) {
            return false;
        }
        key = pattern_next(key);
    }
    return true;
}

void on_cpu(int cpu)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu % (cpus > 0 ? cpus : 1), &set);
    /* If we may not use that CPU, any other will do. */
    sched_setaffinity(0, sizeof(set), &set);
}

static void *hand(void *number)
{
    int writer = (intptr_t)number;

    on_cpu(writer);
    for (;;) {
        pthread_mutex_lock(&lock);
        hands.at_work--;
        pthread_cond_broadcast(&changed);
        /* A thread that finds something wrong stops and can be examined. */
        while (hands.wanted == CREW_HELD || failed[0]) {
            pthread_cond_wait(&changed, &lock);
        }
        hands.at_work++;
        pthread_mutex_unlock(&lock);
        hands.crew->operate(writer);
        /* "go" answers with the numbers while they grow. */
        __atomic_store_n(&hands.crew->done[writer],
                         hands.crew->done[writer] + 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

void crew_start(Crew *crew)
{
    pthread_t thread;
    int i;

    hands.crew = crew;
    hands.at_work = WRITERS;
    for (i = 0; i < WRITERS; i++) {
        if (pthread_create(&thread, NULL, hand, (void *)(intptr_t)i)) {
            perror("pthread_create");
            exit(1);
        }
    }
    crew_hold();
}

void crew_hold(void)
{
    pthread_mutex_lock(&lock);
    hands.wanted = CREW_HELD;
    while (hands.at_work) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

void crew_go(void)
{
    pthread_mutex_lock(&lock);
    hands.wanted = CREW_RUNNING;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}
