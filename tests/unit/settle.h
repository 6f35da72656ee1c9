/*
 * Running the main loop of a unit test that has no machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_UNIT_SETTLE_H
#define TESTS_UNIT_SETTLE_H

#include "qemu/main-loop.h"

/**
 * settle: run the main loop's context until every request in it has ended or
 * waits for something that the test has to do.
 */
static inline void settle(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* just loop */
    }
}

#endif /* TESTS_UNIT_SETTLE_H */
