/*
 * What an administrator can do to the machine that is fuzzed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/block.h"
#include "block/qdict.h"
#include "exec/memory.h"
#include "monitor/qdev.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block.h"
#include "qapi/qapi-commands-block-queue.h"
#include "qapi/qapi-commands-qdev.h"
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "system/iothread.h"
#include "system/runstate.h"
#include "fuzz-machine.h"

/* Enough for a watch of xenstore, its bottom half, and what that begins. */
#define TURNS 6

/*
 * The thread that runs RCU's callbacks sleeps several times for 10 ms to
 * collect more of them.  Here it does not sleep: a device is gone sooner, and
 * with it the memory that somebody may still use.
 */
void g_usleep(gulong microseconds)
{
    sched_yield();
}

void fuzz_main_loop(void)
{
    int turns = 0;

    do {
        main_loop_wait(true);
    } while (++turns < TURNS && g_main_context_pending(NULL));
}

static void turned(void *opaque)
{
    unsigned *left = opaque;

    qatomic_dec(left);
    aio_wait_kick();
}

/* A thread that has run two bottom halves has looked for events in between. */
static void iothreads_turn(void)
{
    static AioContext *contexts[2];

    if (!contexts[0]) {
        contexts[0] = iothread_get_aio_context(iothread_by_id("io0"));
        contexts[1] = iothread_get_aio_context(iothread_by_id("io1"));
    }
    for (int turn = 0; turn < 2; turn++) {
        unsigned left = ARRAY_SIZE(contexts);

        for (int i = 0; i < ARRAY_SIZE(contexts); i++) {
            aio_bh_schedule_oneshot(contexts[i], turned, &left);
        }
        AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&left));
    }
}

void fuzz_settle(void)
{
    iothreads_turn();
    fuzz_main_loop();
    bdrv_drain_all();
    fuzz_main_loop();
}

bool fuzz_plug(const char *properties, unsigned threads)
{
    static const char *mappings[FUZZ_THREADS] = {
        "{'iothread-vq-mapping': [{'iothread': 'io0'}, {'iothread': 'io1'}]}",
        [FUZZ_MAIN_LOOP] = "{}",
        "{'iothread': 'io0'}",
    };
    g_autoptr(QDict) device = qobject_to(QDict, qobject_from_json(
        properties, &error_abort));
    g_autoptr(QDict) mapping = qobject_to(QDict, qobject_from_json(
        mappings[threads % ARRAY_SIZE(mappings)], &error_abort));
    Error *err = NULL;

    qdict_join(device, mapping, true);
    qdict_put_str(device, "id", FUZZ_DEVICE);
    qdict_put_str(device, "drive", "disk");
    qmp_device_add(device, NULL, &err);
    if (err) {
        error_free(err);
        return false;
    }
    return true;
}

void fuzz_ask_unplug(void)
{
    Error *err = NULL;

    qmp_device_del(FUZZ_DEVICE, &err);
    error_free(err);
}

/*
 * A device gives its disk back when it is freed.  The callback that frees it
 * runs in the RCU thread and may be the first of several.
 */
void fuzz_wait_unplugged(void)
{
    for (int i = 0; i < 3; i++) {
        fuzz_settle();
        drain_call_rcu();
    }
}

void fuzz_op_settle(void *target, FuzzInput *in)
{
    fuzz_settle();
}

void fuzz_op_stop(void *target, FuzzInput *in)
{
    vm_stop(RUN_STATE_PAUSED);
}

/* A failed request may have asked for one more stop than there was. */
void fuzz_op_continue(void *target, FuzzInput *in)
{
    vm_stop(RUN_STATE_PAUSED);
    for (int i = 0; i < 2 && !runstate_is_running(); i++) {
        vm_start();
    }
}

void fuzz_op_move(void *target, FuzzInput *in)
{
    static const char *iothreads[] = { NULL, "io0", "io1", "none" };
    int queue = fuzz_below(in, 5);
    const char *iothread = iothreads[fuzz_below(in, ARRAY_SIZE(iothreads))];
    Error *err = NULL;

    qmp___org_qemu_mq_block_queue_set_iothread(FUZZ_DEVICE, queue, iothread,
                                               &err);
    error_free(err);
}

void fuzz_throttle(unsigned iops)
{
    /* With virtio, the device that has the disk is behind its proxy. */
    static const char *ids[] = {
        FUZZ_DEVICE, "/machine/peripheral/" FUZZ_DEVICE "/virtio-backend",
    };

    for (int i = 0; i < ARRAY_SIZE(ids); i++) {
        BlockIOThrottle limits = { .id = (char *)ids[i], .iops = iops };
        Error *err = NULL;

        qmp_block_set_io_throttle(&limits, &err);
        error_free(err);
    }
}

void fuzz_op_throttle(void *target, FuzzInput *in)
{
    fuzz_throttle(fuzz_byte(in) & 0x3f);
}

void fuzz_op_query(void *target, FuzzInput *in)
{
    qapi_free_BlockQueueInfoList(
        qmp___org_qemu_mq_query_block_queues(NULL, NULL));
    qapi_free_BlockStatsList(qmp_query_blockstats(false, false, NULL));
}

static bool logging;

void fuzz_stop_log(void)
{
    if (logging) {
        memory_global_dirty_log_sync(false);
        memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION);
        logging = false;
    }
}

void fuzz_op_log(void *target, FuzzInput *in)
{
    if (logging) {
        fuzz_stop_log();
    } else {
        logging = memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION,
                                                &error_abort);
    }
}
