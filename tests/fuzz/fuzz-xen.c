/*
 * Fuzzing the Xen PV disk: a frontend and a toolstack that do anything
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/memfd.h"
#include "qemu/timer.h"
#include "tests/qtest/fuzz/fuzz.h"
#include "../../hw/xen/xen-standin.h"
#include "fuzz-machine.h"
#include "fuzz-xen.h"

/* How often queues give back what they do not need. */
#define TICK_NS (10 * NANOSECONDS_PER_SECOND)

/* The disk of a toolstack. */
#define OTHER_FRONTEND  "/local/domain/1/device/vbd/51728"
#define OTHER_BACKEND   "/local/domain/0/backend/qdisk/1/51728"

typedef struct XenFuzz {
    XenFrontend frontend;       /* first: operations take it */
    bool plugged;
    bool attached;              /* the toolstack's disk */
    int image;                  /* its file */
} XenFuzz;

static const char *const devices[] = {
#define DEVICE(more) "{'driver': 'xen-disk', 'vdev': 'xvda'" more "}"
    DEVICE(", 'num-queues': 4"),
    DEVICE(", 'num-queues': 4, 'max-persistent-grants': 5"),
    DEVICE(", 'num-queues': 4, 'batch-copies': false,"
           " 'max-indirect-segments': 20"),
    DEVICE(", 'num-queues': 2, 'persistent-grants': 'off',"
           " 'logical_block_size': 4096, 'physical_block_size': 4096"),
    DEVICE(", 'num-queues': 1, 'max-indirect-segments': 0,"
           " 'write-barriers': false, 'max-ring-page-order': 1"),
    "{'driver': 'xen-cdrom', 'vdev': 'xvda', 'num-queues': 4}",
};

/*
 * Frontend
 */

static void op_connect(void *opaque, FuzzInput *in)
{
    xen_connect(opaque, fuzz_byte(in));
}

static void op_disconnect(void *opaque, FuzzInput *in)
{
    xen_disconnect(opaque);
}

static void op_state(void *opaque, FuzzInput *in)
{
    XenFrontend *f = opaque;
    unsigned how = fuzz_byte(in);

    xen_store(f, how & 0x80 ? XEN_BACKEND : XEN_FRONTEND, "state", "%u",
              how & 7);
    if (how & 0x40) {
        fuzz_settle();
    }
}

static void op_store(void *opaque, FuzzInput *in)
{
    static const char *keys[] = {
        "ring-ref", "ring-ref0", "ring-ref1", "event-channel", "protocol",
        "ring-page-order", "multi-queue-num-queues", "queue-0/ring-ref",
        "queue-1/event-channel", "queue-1/ring-ref0", "feature-persistent",
        "feature-large-sector-size", "online", "mode", "params", "sectors",
        "feature-max-indirect-segments", "max-ring-page-order", "queue-2",
        "multi-queue-max-queues", "sector-size", "",
    };
    static const char *values[] = {
        "", "0", "1", "2", "4", "-1", "99999999999999999999", "x86_32-abi",
        "native", "w", "r", "16", "17", "4294967295", "%n", "1 2",
    };
    const char *key = keys[fuzz_below(in, ARRAY_SIZE(keys))];
    unsigned how = fuzz_byte(in);
    const char *dir = how & 0x80 ? XEN_BACKEND : XEN_FRONTEND;

    if (how & 0x40) {
        xen_forget(opaque, dir, key);
    } else if (*key) {
        xen_store(opaque, dir, key, "%s",
                  values[(how & 0x3f) % ARRAY_SIZE(values)]);
    }
}

static void op_conflict(void *opaque, FuzzInput *in)
{
    xen_standin_xenstore_set_conflicts(fuzz_below(in, 3));
}

static void op_limit(void *opaque, FuzzInput *in)
{
    unsigned limit = fuzz_byte(in);

    xen_standin_gnttab_set_limit(limit ?: UINT64_MAX);
}

/* A frontend whose backend has closed, or is new, connects first. */
static void op_request(void *opaque, FuzzInput *in)
{
    XenFrontend *f = opaque;
    unsigned how = fuzz_byte(in);
    int ring;

    if (!f->ports[0] ||
        xen_number(f, XEN_BACKEND, "state") != XB_CONNECTED) {
        xen_connect(f, how & 0x23);
    }
    ring = how % f->rings;
    if (!xen_some_request(f, ring, in) || how & 0x80) {
        xen_ring_push(f, ring, f->producer[ring]);
    }
}

static void op_scribble(void *opaque, FuzzInput *in)
{
    uint8_t *page = xen_page(XEN_RING_FRAME(fuzz_below(in, XEN_RINGS)) +
                             (fuzz_byte(in) & 3));
    unsigned offset = fuzz_below(in, XEN_PAGE_SIZE - 4);

    stl_he_p(page + offset, fuzz_take(in, 4));
}

static void op_producer(void *opaque, FuzzInput *in)
{
    XenFrontend *f = opaque;
    int ring = fuzz_below(in, XEN_RINGS);

    xen_ring_push(f, ring, f->producer[ring] + (int8_t)fuzz_byte(in));
}

static void op_push(void *opaque, FuzzInput *in)
{
    XenFrontend *f = opaque;

    for (int i = 0; i < XEN_RINGS; i++) {
        xen_ring_push(f, i, f->producer[i]);
    }
    fuzz_settle();
}

static void op_event(void *opaque, FuzzInput *in)
{
    XenFrontend *f = opaque;
    unsigned how = fuzz_byte(in);
    int ring = how % XEN_RINGS;

    if (how & 0x80 && f->ports[ring]) {
        xen_standin_evtchn_close(f->ports[ring]);
        f->ports[ring] = 0;
    } else {
        xen_port_send(f, ring);
    }
}

/*
 * The administrator
 */

static void unplug(XenFuzz *x)
{
    XenFrontend *f = &x->frontend;

    fuzz_ask_unplug();
    xen_state(f, XB_CLOSED);
    xen_store(f, XEN_BACKEND, "online", "0");
    xen_state(f, XB_CLOSED);
    /* A toolstack that has lost its patience */
    qemu_xen_xs_destroy(f->xs, XBT_NULL, XEN_BACKEND);
    fuzz_wait_unplugged();
    x->plugged = false;
}

static void op_plug(void *opaque, FuzzInput *in)
{
    XenFuzz *x = opaque;

    if (x->plugged) {
        unplug(x);
    } else {
        unsigned how = fuzz_byte(in);

        x->plugged = fuzz_plug(devices[how % ARRAY_SIZE(devices)],
                               how / ARRAY_SIZE(devices));
    }
}

static void attach(XenFuzz *x, unsigned how)
{
    static const char *formats[] = { "aio:", "", "raw:", "vhd:", "none:" };
    static const char *types[] = { "disk", "disk", "cdrom", "floppy" };
    XenFrontend *f = &x->frontend;

    xen_store(f, OTHER_FRONTEND, "backend", OTHER_BACKEND);
    xen_store(f, OTHER_FRONTEND, "backend-id", "0");
    xen_store(f, OTHER_FRONTEND, "state", "1");
    xen_store(f, OTHER_BACKEND, "frontend", OTHER_FRONTEND);
    xen_store(f, OTHER_BACKEND, "frontend-id", "1");
    xen_store(f, OTHER_BACKEND, "params", "%s/proc/self/fd/%d",
              formats[how % ARRAY_SIZE(formats)], x->image);
    xen_store(f, OTHER_BACKEND, "dev", how & 0x10 ? "xvdz9z" : "xvdb");
    xen_store(f, OTHER_BACKEND, "device-type", "%s", types[how >> 5 & 3]);
    xen_store(f, OTHER_BACKEND, "mode", how & 0x80 ? "r" : "w");
    xen_store(f, OTHER_BACKEND, "discard-enable", "1");
    xen_store(f, OTHER_BACKEND, "state", "1");
    xen_store(f, OTHER_BACKEND, "online", "1");
    fuzz_settle();
    x->attached = true;
}

static void detach(XenFuzz *x)
{
    XenFrontend *f = &x->frontend;

    xen_store(f, OTHER_BACKEND, "online", "0");
    xen_store(f, OTHER_BACKEND, "state", "5");
    xen_store(f, OTHER_FRONTEND, "state", "6");
    fuzz_settle();
    qemu_xen_xs_destroy(f->xs, XBT_NULL, OTHER_BACKEND);
    qemu_xen_xs_destroy(f->xs, XBT_NULL, OTHER_FRONTEND);
    fuzz_settle();
    x->attached = false;
}

static void op_attach(void *opaque, FuzzInput *in)
{
    XenFuzz *x = opaque;

    if (x->attached) {
        detach(x);
    } else {
        attach(x, fuzz_byte(in));
    }
}

/* Let queues give back what they have not used for up to 80 s. */
static void op_tick(void *opaque, FuzzInput *in)
{
    unsigned ticks = 1 + fuzz_below(in, 8);

    /* A limit would let requests wait for the time of the host. */
    fuzz_throttle(0);
    while (ticks--) {
        qemu_clock_advance_virtual_time(
            qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + TICK_NS);
        fuzz_settle();
    }
}

static FuzzOp *const ops[] = {
    op_push, op_connect, fuzz_op_settle, op_tick, op_disconnect, op_state,
    op_store, op_conflict, xen_grant_change, op_limit, op_scribble,
    op_producer, op_event, op_plug, fuzz_op_stop, fuzz_op_continue,
    fuzz_op_move, fuzz_op_throttle, fuzz_op_query, op_attach,
};

static XenFuzz xen_fuzz;

/* Whatever was done to the last device, another one works. */
static void check(XenFuzz *x, unsigned device, unsigned threads)
{
    x->plugged = fuzz_plug(devices[device], threads);
    assert(x->plugged);
    xen_check_served(&x->frontend);
    unplug(x);
    xen_ports_close(&x->frontend);
    qemu_xen_xs_destroy(x->frontend.xs, XBT_NULL, XEN_FRONTEND);
    fuzz_settle();
    xen_grants_check();
}

static void fuzz(QTestState *s, const unsigned char *data, size_t size)
{
    FuzzInput in = { data, size };
    XenFuzz *x = &xen_fuzz;

    xen_grants_begin();
    op_plug(x, &in);
    fuzz_operations(&in, x, op_request, ops, ARRAY_SIZE(ops));
    xen_standin_xenstore_set_conflicts(0);
    fuzz_settle();
    fuzz_throttle(0);
    fuzz_op_continue(NULL, NULL);
    if (x->attached) {
        detach(x);
    }
    if (x->plugged) {
        unplug(x);
    }
    xen_ports_close(&x->frontend);
    qemu_xen_xs_destroy(x->frontend.xs, XBT_NULL, XEN_FRONTEND);
    fuzz_settle();
    xen_grants_check();
    if (size % 8 == 0) {
        check(x, size / 8 % ARRAY_SIZE(devices), size / 8 % FUZZ_THREADS);
    }
}

static void begin(QTestState *s)
{
    xen_fuzz.frontend.xs = qemu_xen_xs_open();
    xen_fuzz.image = qemu_memfd_create("image", MiB, false, 0, 0,
                                       &error_abort);
    xen_standin_gnttab_setup(XEN_TABLE_FRAME, XEN_TABLE_FRAMES);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        for (unsigned threads = 0; threads < FUZZ_THREADS; threads++) {
            check(&xen_fuzz, i, threads);
        }
    }
}

static GString *command_line(FuzzTarget *target)
{
    GString *line = g_string_new(TARGET_NAME);

    g_string_append(line, " -machine none,accel=qtest,memory-backend=ram -m 16"
                    " -object memory-backend-memfd,id=ram,size=16M,share=on"
                    " -nodefaults -nic none -display none"
                    " -device xen-standin,domid=1" FUZZ_DISK);
    return line;
}

static void register_targets(void)
{
    fuzz_add_target(&(FuzzTarget) {
        .name = "xen-disk",
        .description = "the Xen PV disk with 4 rings, xenstore, grants",
        .get_init_cmdline = command_line,
        .pre_fuzz = begin,
        .fuzz = fuzz,
    });
}

fuzz_target_init(register_targets);
