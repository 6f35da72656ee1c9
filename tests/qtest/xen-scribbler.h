/*
 * A guest that writes to what it shares with QEMU all the time, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_SCRIBBLER_H
#define TESTS_QTEST_XEN_SCRIBBLER_H

/** XenScribbler: a thread that writes bytes of chance to random places. */
typedef struct XenScribbler {
    uint8_t *start;
    size_t len;
    bool (*spares)(size_t offset);
    bool stop;
    GThread *thread;
} XenScribbler;

/**
 * xen_scribbler_start: write to @len bytes from @start on.
 *
 * @spares tells which are to be left alone; NULL: none.
 */
void xen_scribbler_start(XenScribbler *s, uint8_t *start, size_t len,
                         bool (*spares)(size_t offset));

/** xen_scribbler_stop: write no more, from the return on. */
void xen_scribbler_stop(XenScribbler *s);

#endif /* TESTS_QTEST_XEN_SCRIBBLER_H */
