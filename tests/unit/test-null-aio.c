/*
 * Requests of null-aio end without the node's home thread
 *
 * The home thread is the main loop here.  It only waits for the requests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

typedef struct Reader {
    BlockBackend *blk;
    QemuSemaphore done;
    int ret;
} Reader;

static void coroutine_fn reader_entry(void *opaque)
{
    Reader *reader = opaque;
    uint8_t buf[512];

    reader->ret = 0;
    for (int i = 0; i < 100 && reader->ret == 0; i++) {
        reader->ret = blk_co_pread(reader->blk, 0, sizeof(buf), buf, 0);
    }
    qemu_sem_post(&reader->done);
}

static void check(const char *latency_ns)
{
    QDict *options = qdict_new();
    IOThread *iothread = iothread_new();
    Reader reader = {};

    qdict_put_str(options, "driver", "null-aio");
    qdict_put_str(options, "latency-ns", latency_ns);
    reader.blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_abort);
    qemu_sem_init(&reader.done, 0);

    aio_co_enter(iothread_get_aio_context(iothread),
                 qemu_coroutine_create(reader_entry, &reader));
    g_assert_cmpint(qemu_sem_timedwait(&reader.done, 20000), ==, 0);
    g_assert_cmpint(reader.ret, ==, 0);

    iothread_join(iothread);
    blk_unref(reader.blk);
    qemu_sem_destroy(&reader.done);
}

static void test_at_once(void)
{
    check("0");
}

static void test_later(void)
{
    check("1000");
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/null-aio/at-once", test_at_once);
    g_test_add_func("/null-aio/later", test_later);
    return g_test_run();
}
