/*
 * Files of a filesystem, each with one writer, and replaced as a whole
 *
 * A new version is written beside the old one, by way of the page cache, and
 * takes its place when it is on the disk.  So whenever the machine is cut off,
 * one of the two is there, and it is whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define FILES       4           /* by writer; operation n writes n % FILES */
#define LARGEST     (96u << 10)

typedef struct Head {
    uint64_t epoch, writer, number, size;
} Head;

static struct {
    int folder;
    uint64_t epoch;
    uint8_t *buffers[WRITERS];
} tree;

static uint64_t size_of(int writer, uint64_t number)
{
    return (1 + mix(tree.epoch, number, writer) % LARGEST) / 8 * 8 +
        sizeof(Head);
}

static uint64_t key_of(const Head *head)
{
    return mix(head->epoch ^ 0xf17e, head->writer, head->number);
}

static void write_version(int fd, uint8_t *buffer, const Head *head)
{
    memcpy(buffer, head, sizeof(*head));
    pattern_fill(buffer + sizeof(*head), head->size - sizeof(*head),
                 key_of(head));
    if (write(fd, buffer, head->size) != (ssize_t)head->size || fsync(fd)) {
        fail("file %" PRIu64 " of writer %" PRIu64 ": %s", head->number,
             head->writer, strerror(errno));
    }
}

static void operate(int writer)
{
    uint64_t number = crew_files.done[writer] + 1;
    Head head = { tree.epoch, writer, number, size_of(writer, number) };
    char name[32], fresh[32];
    int fd;

    snprintf(name, sizeof(name), "%d.%d", writer, (int)(number % FILES));
    snprintf(fresh, sizeof(fresh), "%d.new", writer);
    fd = openat(tree.folder, fresh, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC,
                0644);
    if (fd < 0) {
        fail("%s: %s", fresh, strerror(errno));
        return;
    }
    write_version(fd, tree.buffers[writer], &head);
    close(fd);
    if (renameat(tree.folder, fresh, tree.folder, name) ||
        fsync(tree.folder)) {
        fail("%s: %s", name, strerror(errno));
    }
    if (!failure()) {
        report("f %d %" PRIu64 "\n", writer, number);
    }
}

Crew crew_files = { .operate = operate };

/* The version of a file that is there; 0 if none has been written yet. */
static uint64_t check_file(int writer, int file, uint64_t oldest,
                           uint64_t newest)
{
    uint8_t *buffer = tree.buffers[writer];
    char name[32];
    Head head;
    ssize_t size;
    int fd;

    snprintf(name, sizeof(name), "%d.%d", writer, file);
    fd = openat(tree.folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (oldest) {
            fail("%s: %s", name, strerror(errno));
        }
        return 0;
    }
    size = read(fd, buffer, LARGEST + sizeof(head) + 8);
    close(fd);
    if (size < (ssize_t)sizeof(head)) {
        fail("%s: %zd bytes", name, size);
        return 0;
    }
    memcpy(&head, buffer, sizeof(head));
    if (head.epoch != tree.epoch || head.writer != (uint64_t)writer ||
        head.number < oldest || head.number > newest ||
        head.size != (uint64_t)size || size_of(writer, head.number) != head.size
        || !pattern_is(buffer + sizeof(head), size - sizeof(head),
                       key_of(&head))) {
        fail("%s: must be of operation %" PRIu64 " to %" PRIu64
             ", claims %" PRIu64 ", %zd bytes", name, oldest, newest,
             head.number, size);
    }
    return size;
}

static uint64_t check_all(const uint64_t *done, unsigned slack)
{
    uint64_t bytes = 0, file, oldest, newest;
    int writer;

    for (writer = 0; writer < WRITERS && !failure(); writer++) {
        for (file = 0; file < FILES; file++) {
            /* The last operations with these remainders. */
            oldest = done[writer] - (done[writer] - file) % FILES;
            newest = done[writer] + slack;
            newest -= (newest - file) % FILES;
            if (done[writer] < FILES && file > done[writer] % FILES) {
                oldest = 0;
            }
            bytes += check_file(writer, file, oldest, newest);
        }
    }
    return bytes;
}

static void forget(void)
{
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

    syncfs(tree.folder);
    if (fd >= 0) {
        if (write(fd, "3", 1) != 1) {
            fail("the page cache cannot be dropped");
        }
        close(fd);
    }
}

static void tree_open(const char *folder, uint64_t epoch)
{
    int i;

    tree.epoch = epoch;
    tree.folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree.folder < 0) {
        perror(folder);
        exit(1);
    }
    for (i = 0; i < WRITERS; i++) {
        tree.buffers[i] = malloc(LARGEST + sizeof(Head) + 8);
        if (!tree.buffers[i]) {
            perror("malloc");
            exit(1);
        }
    }
}

void files_start(const char *folder, uint64_t epoch)
{
    tree_open(folder, epoch);
    report("F %" PRIu64 "\n", epoch);
    crew_start(&crew_files);
}

uint64_t files_check(void)
{
    forget();
    return check_all(crew_files.done, 0);
}

uint64_t files_verify(const char *folder, uint64_t epoch,
                      const uint64_t *done, unsigned slack)
{
    tree_open(folder, epoch);
    forget();
    return check_all(done, slack);
}
