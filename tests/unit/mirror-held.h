/*
 * A mirror job in a thread that is held while the main thread drains
 *
 *     main thread      mirror_hold() ............ qemu_event_set(&mirror_go_on)
 *     job's thread     | is held ................ | goes on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MIRROR_HELD_H
#define TESTS_UNIT_MIRROR_HELD_H

#include "qemu/main-loop.h"
#include "mirror-images.h"

static QemuEvent mirror_is_held, mirror_go_on;

static BlockDriver bdrv_image = {
    .format_name = "test-image",
    .bdrv_co_getlength = image_getlength,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = image_pwritev,
};

/* The node of the image is in @ctx. */
static inline BlockDriverState *image_open_in(const char *name, AioContext *ctx)
{
    BlockDriverState *bs = image_open(&bdrv_image, name);

    bdrv_try_change_aio_context(bs, ctx, NULL, &error_abort);
    return bs;
}

/* In the job's thread. */
static void mirror_held_bh(void *opaque)
{
    qemu_event_set(&mirror_is_held);
    qemu_event_wait(&mirror_go_on);
}

/* Hold the thread of @ctx until mirror_go_on is set. */
static inline void mirror_hold(AioContext *ctx)
{
    aio_bh_schedule_oneshot(ctx, mirror_held_bh, NULL);
    qemu_event_wait(&mirror_is_held);
}

static inline void mirror_held_init(void)
{
    qemu_event_init(&mirror_is_held, false);
    qemu_event_init(&mirror_go_on, false);
}

static inline void mirror_held_destroy(void)
{
    qemu_event_destroy(&mirror_is_held);
    qemu_event_destroy(&mirror_go_on);
}

#endif /* TESTS_UNIT_MIRROR_HELD_H */
