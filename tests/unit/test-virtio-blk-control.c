/*
 * virtio-blk: control, interrupted by its own bottom halves
 *
 *    driver                  control                   queue's thread
 *    resets the queue ---->  quiesce
 *                            move the queue, wait <--- a kick for another ring
 *                            forget the ring
 *    sets a ring up,
 *    kicks ----------------------------------------->  it is another ring
 *    sets the old one up     check the rings <-------- please check
 *                            look at all rings ----->  take what is there
 *
 * Control waits for threads, and the main loop runs bottom halves meanwhile.
 * The test has its own functions in place of the layers below control.  There a
 * ring is only set up or not, and one function runs a bottom half at the worst
 * moment.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "block/aio-wait.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "../../hw/block/virtio-blk-control.h"

/* The IOThreads of unit tests have a function of the emulator's, too. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
#include "tests/unit/iothread.h"
#pragma GCC diagnostic pop

static VirtIOBlock dev;
static IOThread *iothread;

static bool ring_is_set;            /* the transport has addresses of a ring */
static bool call_control;           /* when the queue drops held requests */
static unsigned calls;              /* of control's bottom halves */
static unsigned looks;              /* atomic */

static EventNotifier notifier;
static RingViewSource source;

/* The layers below control */

bool virtio_blk_ring_is_set(VirtIOBlkQueue *q)
{
    return ring_is_set;
}

void virtio_blk_ring_start(VirtIOBlkQueue *q)
{
    if (block_queue_state(&q->common) == BLOCK_QUEUE_NO_RING && ring_is_set) {
        block_queue_event(&q->common, BLOCK_QUEUE_RING_UP);
    }
}

bool virtio_blk_ring_is_current(VirtIOBlkQueue *q)
{
    return true;
}

bool virtio_blk_ring_can_be_native(VirtIOBlkQueue *q, const RingView *view)
{
    return q->reader == VIRTIO_BLK_READER_NATIVE;
}

void virtio_blk_ring_attach(VirtIOBlkQueue *q)
{
}

void virtio_blk_ring_detach(VirtIOBlkQueue *q)
{
}

void virtio_blk_ring_hand_over(VirtIOBlkQueue *q)
{
}

void virtio_blk_queue_update_context(VirtIOBlkQueue *q)
{
    block_queue_move(&q->common, q->place == VIRTIO_BLK_PLACE_MAIN
                                 ? qemu_get_aio_context()
                                 : iothread_get_aio_context(iothread));
}

void virtio_blk_queue_drop_held(VirtIOBlkQueue *q)
{
    if (call_control) {
        q->control->look_at_queues(q);
    }
}

void virtio_blk_segments_init(VirtIOBlkQueue *q)
{
}

void virtio_blk_segments_set_max(VirtIOBlkQueue *q, bool all)
{
}

void virtio_blk_segments_cleanup(VirtIOBlkQueue *q)
{
}

uint64_t virtio_blk_capacity(const VirtIOBlock *s, int64_t length)
{
    return 0;
}

static void count_look(BlockQueue *queue)
{
    qatomic_set(&looks, looks + 1);
}

static void stop_listening(BlockQueue *queue)
{
}

const BlockQueueOps virtio_blk_queue_ops = {
    .start_listening = count_look,
    .stop_listening = stop_listening,
    .look = count_look,
};

/* The functions of both devices that control needs here */

bool block_queue_device_realize(BlockQueueDevice *device, DeviceState *ds,
                                BlockBackend *blk,
                                const BlockQueueDeviceOps *ops,
                                QueueIOThreadsConf *conf, unsigned num_queues,
                                const char *alias, char *name, Error **errp)
{
    device->name = name;
    return true;
}

void block_queue_device_unrealize(BlockQueueDevice *device)
{
    g_free(device->name);
}

void *block_queue_device_alloc(BlockQueueDevice *device, unsigned n,
                               size_t size)
{
    device->queues = block_queue_alloc(n, size);
    device->queue_size = size;
    return device->queues;
}

void block_queue_device_free(BlockQueueDevice *device,
                             void (*end)(BlockQueue *queue))
{
    end(block_queue_device_get(device, 0));
    block_queue_free(device->queues);
}

Object *block_queue_device_ref(BlockQueueDevice *device)
{
    calls++;
    return NULL;
}

void block_queue_device_unref(BlockQueueDevice *device, Object *parent)
{
}

void block_queue_device_set_state(BlockQueueDevice *device,
                                  BlockQueueDeviceState to)
{
    device->state = to;
}

void block_queue_device_quiesce(BlockQueueDevice *device)
{
    block_queue_quiesce_begin(block_queue_device_get(device, 0));
    block_queue_quiesce_wait(block_queue_device_get(device, 0));
}

void block_queue_device_quiesce_end(BlockQueueDevice *device)
{
    block_queue_quiesce_end(block_queue_device_get(device, 0));
}

AioContext *queue_iothreads_context(const QueueIOThreads *map, unsigned index)
{
    return iothread_get_aio_context(iothread);
}

const char *queue_iothreads_alias(BlockBackend *blk, const char *fallback)
{
    return fallback;
}

RingViewSource *ring_view_source_new(AddressSpace *as,
                                     RingViewChangedFn *changed, void *opaque)
{
    return &source;
}

void ring_view_source_free(RingViewSource *src)
{
}

RingView *ring_view_source_acquire(RingViewSource *src)
{
    return NULL;
}

void ring_view_unref(RingView *view)
{
}

void vring_cleanup(VRing *ring)
{
}

/* QEMU's parts */

RunState runstate_get(void)
{
    return RUN_STATE_RUNNING;
}

bool virtio_device_ioeventfd_enabled(VirtIODevice *vdev)
{
    return true;
}

VirtQueue *virtio_get_queue(VirtIODevice *vdev, int n)
{
    return NULL;
}

EventNotifier *virtio_queue_get_guest_notifier(VirtQueue *vq)
{
    return &notifier;
}

EventNotifier *virtio_queue_get_host_notifier(VirtQueue *vq)
{
    return &notifier;
}

void virtio_notify_config(VirtIODevice *vdev)
{
}

void virtio_error(VirtIODevice *vdev, const char *fmt, ...)
{
}

BusState *qdev_get_parent_bus(const DeviceState *ds)
{
    return NULL;
}

/* The tests */

static VirtIOBlkQueue *set_up(void)
{
    iothread = iothread_new();
    ring_is_set = true;
    call_control = false;
    object_initialize(&dev, sizeof(dev), TYPE_VIRTIO_BLK);
    dev.blk = blk_new(qemu_get_aio_context(), 0, BLK_PERM_ALL);
    dev.conf.num_queues = 1;
    dev.warned_of_main_loop = true;
    g_assert_true(virtio_blk_queues_init(&dev, &error_abort));
    dev.common.state = BLOCK_QUEUE_DEVICE_NOTIFIERS;
    virtio_blk_start_queues(&dev);
    return virtio_blk_get_queue(&dev, 0);
}

static void tear_down(void)
{
    virtio_blk_stop_queues(&dev);
    virtio_blk_queues_cleanup(&dev);
    blk_unref(dev.blk);
    object_unref(OBJECT(&dev));
    iothread_join(iothread);
}

static void check_serves(VirtIOBlkQueue *q)
{
    g_assert_true(block_queue_running(&q->common));
    g_assert_true(q->common.ctx == iothread_get_aio_context(iothread));
}

static void move_to_main_loop(VirtIOBlkQueue *q)
{
    q->place = VIRTIO_BLK_PLACE_WANTS_MAIN;
    q->control->look_at_queues(q);
    AIO_WAIT_WHILE_UNLOCKED(NULL, q->common.ctx != qemu_get_aio_context());
}

/* The transport forgets the ring only after the device has. */
static void reset_queue(VirtIOBlkQueue *q)
{
    unsigned before = calls;

    call_control = true;
    virtio_blk_queue_reset(VIRTIO_DEVICE(&dev), 0);
    ring_is_set = false;
    call_control = false;
    g_assert_cmpuint(calls, >, before);
}

/* A queue leaves the main loop for the reset, so that bottom halves run. */
static void test_reset(void)
{
    VirtIOBlkQueue *q = set_up();

    check_serves(q);
    move_to_main_loop(q);
    g_assert_true(block_queue_running(&q->common));
    reset_queue(q);
    g_assert_cmpint(block_queue_state(&q->common), ==, BLOCK_QUEUE_NO_RING);
    while (aio_poll(qemu_get_aio_context(), false)) {
        g_assert_cmpint(block_queue_state(&q->common), ==, BLOCK_QUEUE_NO_RING);
    }
    ring_is_set = true;
    virtio_blk_queue_enable(VIRTIO_DEVICE(&dev), 0);
    check_serves(q);
    tear_down();
}

static void nothing(void *opaque)
{
}

/*
 * Bottom halves that were scheduled together run in no certain order.  Those
 * scheduled before the first one here have run when the second one has.
 */
static void wait_for_thread(void)
{
    for (unsigned i = 0; i < 2; i++) {
        aio_wait_bh_oneshot(iothread_get_aio_context(iothread), nothing, NULL);
    }
}

static void find_another_ring(void *opaque)
{
    VirtIOBlkQueue *q = opaque;

    q->control->look_at_rings(q);
}

/* By the time of the check the ring is the old one again. */
static void test_kick(void)
{
    VirtIOBlkQueue *q = set_up();
    unsigned before;

    q->reader = VIRTIO_BLK_READER_NATIVE;
    wait_for_thread();
    before = qatomic_read(&looks);
    aio_wait_bh_oneshot(q->common.ctx, find_another_ring, q);
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* the check */
    }
    wait_for_thread();
    g_assert_cmpuint(qatomic_read(&looks), ==, before + 1);
    tear_down();
}

static const TypeInfo types[] = {
    {
        .name = TYPE_DEVICE,
        .parent = TYPE_OBJECT,
    }, {
        .name = TYPE_VIRTIO_DEVICE,
        .parent = TYPE_DEVICE,
    }, {
        .name = TYPE_VIRTIO_BLK,
        .parent = TYPE_VIRTIO_DEVICE,
        .instance_size = sizeof(VirtIOBlock),
    },
};

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);
    type_register_static_array(types, ARRAY_SIZE(types));
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-blk/control/reset", test_reset);
    g_test_add_func("/virtio-blk/control/kick", test_kick);
    return g_test_run();
}
