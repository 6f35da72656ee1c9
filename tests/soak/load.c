/*
 * soak-load: the program in the guest of 'make soak'
 *
 *   soak-load blocks DEVICE EPOCH BLOCK FOLDER PORT    load, until the end
 *   soak-load files FOLDER EPOCH FOLDER PORT
 *   soak-load verify-blocks DEVICE EPOCH BLOCK SLACK DONE...
 *   soak-load verify-files FOLDER EPOCH SLACK DONE...
 *
 * A load reads commands from the FIFO FOLDER/in and answers each with a line in
 * the FIFO FOLDER/out:
 *
 *   hold      operations that each writer has done, when none is at work
 *   check     hold, and compare all data; the number of bytes
 *   go        the writers go on
 *
 * An answer that begins with "bad" says what is wrong.  The exit status of the
 * other two is 1 then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static void fatal(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (end == text || *end) {
        fprintf(stderr, "soak-load: %s is no number\n", text);
        exit(2);
    }
    return value;
}

static void obey(const char *command, Crew *crew, uint64_t (*check)(void),
                 FILE *out)
{
    uint64_t bytes = 0;
    int i;

    if (!strcmp(command, "go\n")) {
        crew_go();
    } else {
        crew_hold();
        if (!strcmp(command, "check\n") && !failure()) {
            bytes = check();
        }
    }
    if (failure()) {
        fprintf(out, "bad: %s\n", failure());
        return;
    }
    fprintf(out, "%" PRIu64, bytes);
    for (i = 0; i < WRITERS; i++) {
        fprintf(out, " %" PRIu64,
                __atomic_load_n(&crew->done[i], __ATOMIC_RELAXED));
    }
    fprintf(out, "\n");
}

static int serve(const char *folder, Crew *crew, uint64_t (*check)(void))
{
    char command[64];
    FILE *in, *out;

    if (chdir(folder)) {
        fatal(folder);
    }
    /* Open for writing, too: then it does not end when a commander closes it */
    in = fopen("in", "r+");
    if (!in) {
        fatal("in");
    }
    while (fgets(command, sizeof(command), in)) {
        out = fopen("out", "w");
        if (!out) {
            fatal("out");
        }
        obey(command, crew, check, out);
        fclose(out);
    }
    return 1;
}

static int verdict(uint64_t bytes)
{
    if (failure()) {
        printf("bad: %s\n", failure());
        return 1;
    }
    printf("%" PRIu64 "\n", bytes);
    return 0;
}

static void read_done(char **words, uint64_t *done)
{
    int i;

    for (i = 0; i < WRITERS; i++) {
        done[i] = number(words[i]);
    }
}

int main(int argc, char **argv)
{
    uint64_t done[WRITERS];

    if (argc == 7 && !strcmp(argv[1], "blocks")) {
        report_open(number(argv[6]));
        blocks_start(argv[2], number(argv[3]), number(argv[4]));
        return serve(argv[5], &crew_blocks, blocks_check);
    }
    if (argc == 6 && !strcmp(argv[1], "files")) {
        report_open(number(argv[5]));
        files_start(argv[2], number(argv[3]));
        return serve(argv[4], &crew_files, files_check);
    }
    if (argc == 6 + WRITERS && !strcmp(argv[1], "verify-blocks")) {
        read_done(argv + 6, done);
        return verdict(blocks_verify(argv[2], number(argv[3]), number(argv[4]),
                                     done, number(argv[5])));
    }
    if (argc == 5 + WRITERS && !strcmp(argv[1], "verify-files")) {
        read_done(argv + 5, done);
        return verdict(files_verify(argv[2], number(argv[3]), done,
                                    number(argv[4])));
    }
    fprintf(stderr, "soak-load: wrong arguments, see tests/soak/load.c\n");
    return 2;
}
