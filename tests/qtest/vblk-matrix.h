/*
 * One scenario in many settings, on this QEMU and on another
 *
 *     scenario  x  ring  x  threads  x  ioeventfd  =  cell = one test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_MATRIX_H
#define VBLK_MATRIX_H

#include "vblk-disk.h"

/* Queues of every disk in the matrix */
#define VBLK_MATRIX_QUEUES 4

typedef struct VblkCell VblkCell;

/**
 * VblkPlay: a scenario at work in one cell, in a process of its own.
 * @stock: on the other QEMU, which has only what QEMU 10.0 has
 * @record: file descriptor that takes what is noted
 * @image: file name of the disk's image
 * @iops: the limit of the node "disk", or 0
 */
typedef struct VblkPlay {
    const VblkCell *cell;
    bool stock;
    int record;
    char *image;
    unsigned iops;
    VblkMachine *m;
    VblkDevice *d;
} VblkPlay;

/* Settings, for VblkCase's @where and @stock_differs_in */
enum {
    VBLK_IN_MAIN = 1 << 0,
    VBLK_IN_IOTHREAD = 1 << 1,
    VBLK_IN_MAPPING = 1 << 2,
    VBLK_IN_AUTO = 1 << 3,
    VBLK_IN_NO_IOEVENTFD = 1 << 4,
    VBLK_IN_THREADS = VBLK_IN_IOTHREAD | VBLK_IN_MAPPING | VBLK_IN_AUTO,
    VBLK_IN_IOEVENTFD = VBLK_IN_MAIN | VBLK_IN_THREADS,
    VBLK_IN_ALL = VBLK_IN_IOEVENTFD | VBLK_IN_NO_IOEVENTFD,
};

/**
 * VblkCase: a scenario and what has to come of it.
 * @name: a part of the test's path, "group/name"
 * @play: do it, with vblk_note() for each outcome
 * @want: all that has to be noted; a line that begins with "ours: " only where
 *        vblk_cell_has_ours() is true
 * @want_polled: the same where ioeventfd is off, if that makes a difference
 * @where: settings that it makes sense in; 0 for all
 * @not_in_order: it makes no sense with in-order rings
 * @stock_differs_in: settings in which the other QEMU is known to differ
 * @ours_only: do not play it on the other QEMU at all, which fails
 * @why: what is wrong with the other QEMU, in a sentence
 * @quick: part of the short selection
 */
typedef struct VblkCase {
    const char *name;
    void (*play)(VblkPlay *p);
    const char *want;
    const char *want_polled;
    unsigned where;
    bool not_in_order;
    unsigned stock_differs_in;
    bool ours_only;
    const char *why;
    bool quick;
} VblkCase;

#define VBLK_STOCK_SERVES_STOPPED \
    .stock_differs_in = VBLK_IN_ALL, \
    .why = "QEMU 10.0 serves what is kicked while the VM is stopped"

/**
 * VblkCell: a case in its setting.
 * @variant: machine and interface
 * @features: which of VBLK_RING_FEATURES to negotiate
 */
struct VblkCell {
    const VblkCase *what;
    const VblkVariant *variant;
    uint64_t features;
    const struct VblkMatrixRing *ring;
    const struct VblkMatrixThreads *threads;
};

/**
 * vblk_matrix_add: register a test for every cell of @cases, as
 * /ARCH/virtio-blk-mq/matrix/CASE/RING/THREADS.
 *
 * Each test plays the case in a child process and compares its record with
 * what is wanted.  If $QTEST_QEMU_BINARY_DST names another QEMU, it plays the
 * case, too, and its record has to be the same.  Unless the tests are asked to
 * be slow (-m slow), only the quick cases are registered, in fewer settings.
 */
void vblk_matrix_add(const VblkCase *cases, unsigned num);

/**
 * vblk_cell_props: device properties that make a device fit its cell, as
 * members of a JSON object.
 *
 * Returns: to be freed.
 */
char *vblk_cell_props(const VblkPlay *p);

/** vblk_cell_polled: whether ioeventfd is off there. */
bool vblk_cell_polled(const VblkPlay *p);

/**
 * vblk_cell_home: the IOThread that is to serve a queue there, by what its
 * properties say; NULL for the main loop.
 *
 * Returns: to be freed.
 */
char *vblk_cell_home(const VblkPlay *p, unsigned queue);

/** vblk_note: add a line to the record. */
void vblk_note(VblkPlay *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * vblk_cell_has_ours: whether queues are where only ours can put them: not in
 * QEMU 10.0, and not with in-order rings, which the main loop serves.
 */
bool vblk_cell_has_ours(const VblkPlay *p);

/** vblk_note_ours: add a line where vblk_cell_has_ours() is true. */
void vblk_note_ours(VblkPlay *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** vblk_play_stuck: note that @what never came, and end the play. */
void vblk_play_stuck(VblkPlay *p, const char *what) G_NORETURN;

#endif
