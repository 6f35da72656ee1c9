/*
 * Loads of the matrix's scenarios, and the record of their answers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

/* A play waits so long for an event, and then takes it for lost. */
#define PATIENCE_US (10 * G_USEC_PER_SEC)

/* Sectors of an ordinary write */
#define WRITE_SECTORS 8

/* Where vblk_note_works() writes: the disk's last part */
#define WORKS_SECTOR (VBLK_PLAY_SECTORS - 64)

static VblkLoad *load_new(const char *name)
{
    VblkLoad *load = g_new(VblkLoad, 1);

    load->name = name;
    load->seed = g_str_hash(name);
    load->requests = g_ptr_array_new();
    return load;
}

void vblk_load_free(VblkLoad *load)
{
    g_ptr_array_free(load->requests, true);
    g_free(load);
}

/* A gap between any two, so that none are merged. */
VblkLoad *vblk_load_new(VblkPlay *p, const char *name, uint32_t type,
                        uint64_t sector, unsigned num)
{
    VblkLoad *load = load_new(name);

    for (unsigned i = 0; i < num * VBLK_MATRIX_QUEUES; i++) {
        VblkQueue *q = p->d->queues[i % VBLK_MATRIX_QUEUES];
        uint64_t at = sector + i * 2 * WRITE_SECTORS;
        size_t len = WRITE_SECTORS * VBLK_SECTOR;
        VblkRequest *r = type == VIRTIO_BLK_T_OUT
                         ? vblk_write_new(q, at, len, load->seed + i)
                         : vblk_read_new(q, at, len);

        g_ptr_array_add(load->requests, r);
        vblk_request_add(r);
    }
    return load;
}

static void add_scattered(VblkRequest *r, unsigned segs)
{
    g_autofree VblkSegment *s = g_new(VblkSegment, segs + 2);
    unsigned n = 0;

    s[n++] = (VblkSegment) { r->header, 16, false };
    for (unsigned i = 0; i < segs; i++) {
        s[n++] = (VblkSegment) { r->data + i * VBLK_SECTOR, VBLK_SECTOR,
                                 false };
    }
    s[n++] = (VblkSegment) { r->status, 1, true };
    vblk_request_add_segs(r, s, n, true);
}

VblkLoad *vblk_load_scattered(VblkPlay *p, const char *name, unsigned num,
                              unsigned segs)
{
    VblkLoad *load = load_new(name);

    g_assert_cmpuint(num * (segs + 1), <, WORKS_SECTOR);
    for (unsigned i = 0; i < num; i++) {
        VblkRequest *r = vblk_write_new(p->d->queues[0], i * (segs + 1),
                                        segs * VBLK_SECTOR, load->seed + i);

        g_ptr_array_add(load->requests, r);
        add_scattered(r, segs);
    }
    return load;
}

void vblk_play_expose(VblkPlay *p)
{
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_queue_expose(p->d->queues[q]);
    }
}

void vblk_play_notify(VblkPlay *p)
{
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_device_notify(p->d, q);
    }
}

void vblk_play_kick(VblkPlay *p)
{
    vblk_play_expose(p);
    vblk_play_notify(p);
}

VblkLoad *vblk_play_start_loaded(VblkPlay *p, VblkLoad **writes)
{
    VblkLoad *first, *reads;

    vblk_play_start(p, (VblkPlayDisk) { .iops = VBLK_PLAY_SLOW });
    first = vblk_load_new(p, "writes", VIRTIO_BLK_T_OUT, 0, 4);
    reads = vblk_load_new(p, "reads", VIRTIO_BLK_T_IN, 4096, 4);
    vblk_play_kick(p);
    vblk_play_wait_taken(p);
    if (writes) {
        *writes = first;
    }
    return reads;
}

VblkLoad *vblk_play_start_scattered(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .iops = VBLK_PLAY_SLOW });
    load = vblk_load_scattered(p, "writes", 150, 40);
    vblk_play_kick(p);
    return load;
}

VblkLoad *vblk_play_start_held(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .errors = VBLK_ONE_ERROR,
                                        .props = ", 'werror': 'stop'" });
    load = vblk_load_new(p, "writes", VIRTIO_BLK_T_OUT, 0, 1);
    vblk_play_kick(p);
    qtest_qmp_eventwait(p->m->qts, "STOP");
    vblk_note_state(p);
    return load;
}

void vblk_play_wait_taken(VblkPlay *p)
{
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_queue_wait_taken(p->d->queues[q]);
    }
}

static void reap(VblkPlay *p)
{
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        if (p->d->queues[q]) {
            vblk_queue_reap(p->d->queues[q]);
        }
    }
}

static unsigned answered(VblkLoad *load)
{
    unsigned n = 0;

    for (unsigned i = 0; i < load->requests->len; i++) {
        n += ((VblkRequest *)load->requests->pdata[i])->done;
    }
    return n;
}

/* Alike ones together: "16 with status 0 and length 1, ..." */
static char *answers_text(VblkLoad *load)
{
    GString *text = g_string_new("");
    unsigned seen[0x100] = {};
    unsigned bad_length = 0;

    for (unsigned i = 0; i < load->requests->len; i++) {
        VblkRequest *r = load->requests->pdata[i];
        size_t full = r->type & VIRTIO_BLK_T_OUT ? 1 : r->len + 1;

        if (r->done) {
            seen[vblk_request_status(r)]++;
            bad_length += r->written != full;
        }
    }
    g_string_printf(text, "%s: %u of %u answered", load->name, answered(load),
                    load->requests->len);
    for (unsigned s = 0; s < ARRAY_SIZE(seen); s++) {
        if (seen[s]) {
            g_string_append_printf(text, ", %u with status %u", seen[s], s);
        }
    }
    if (bad_length) {
        g_string_append_printf(text, ", %u of a wrong length", bad_length);
    }
    return g_string_free(text, false);
}

void vblk_note_answers(VblkPlay *p, VblkLoad *load)
{
    gint64 start = g_get_monotonic_time();
    g_autofree char *text = NULL;
    bool all;

    vblk_play_hurry(p);
    do {
        reap(p);
        all = answered(load) == load->requests->len;
        if (!all) {
            vblk_clock_advance(p->m, VBLK_STEP_MS);
        }
    } while (!all && g_get_monotonic_time() - start < PATIENCE_US);
    text = answers_text(load);
    vblk_note(p, "%s", text);
    if (!all) {
        vblk_play_stuck(p, "further answers");
    }
}

void vblk_note_so_far(VblkPlay *p, VblkLoad *load)
{
    g_autofree char *text = NULL;

    reap(p);
    text = answers_text(load);
    vblk_note(p, "%s", text);
}

void vblk_note_written(VblkPlay *p, VblkLoad *load)
{
    g_autofree char *image = NULL;
    unsigned good = 0;
    gsize len;

    g_assert(g_file_get_contents(p->image, &image, &len, NULL));
    for (unsigned i = 0; i < load->requests->len; i++) {
        VblkRequest *r = load->requests->pdata[i];
        g_autofree void *data = g_malloc(r->len);
        uint64_t sector = qtest_readq(p->m->qts, r->header + 8);

        vblk_pattern(data, r->len, load->seed + i);
        good += sector * VBLK_SECTOR + r->len <= len &&
                !memcmp(image + sector * VBLK_SECTOR, data, r->len);
    }
    vblk_note(p, "%s: %u of %u on the disk", load->name, good,
              load->requests->len);
}

/* Wait for the end of @r.  Return false if it does not end in time. */
static bool wait_done(VblkPlay *p, VblkRequest *r)
{
    gint64 start = g_get_monotonic_time();

    vblk_queue_reap(r->queue);
    while (!r->done && g_get_monotonic_time() - start < PATIENCE_US) {
        vblk_clock_advance(p->m, VBLK_STEP_MS);
        vblk_queue_reap(r->queue);
    }
    return r->done;
}

void vblk_note_run(VblkPlay *p, const char *name, unsigned queue, uint32_t type,
                   uint64_t sector)
{
    VblkRequest *r = vblk_request_new(p->d->queues[queue], type, sector,
                                      VBLK_SECTOR);

    vblk_request_submit(r);
    if (!wait_done(p, r)) {
        vblk_play_stuck(p, name);
    }
    vblk_note(p, "%s: status %u", name, vblk_request_status(r));
    vblk_request_free(r);
}

static void works_one(VblkPlay *p, const char *name, unsigned queue)
{
    VblkQueue *q = p->d->queues[queue];
    uint32_t seed = g_str_hash(name) + queue;
    uint64_t sector = WORKS_SECTOR + queue;
    VblkRequest *w = vblk_write_new(q, sector, VBLK_SECTOR, seed);
    VblkRequest *r = vblk_read_new(q, sector, VBLK_SECTOR);
    g_autofree char *stuck = g_strdup_printf("answer on queue %u %s", queue,
                                             name);

    vblk_request_submit(w);
    if (!wait_done(p, w)) {
        vblk_play_stuck(p, stuck);
    }
    vblk_request_submit(r);
    if (!wait_done(p, r)) {
        vblk_play_stuck(p, stuck);
    }
    if (vblk_request_status(w) || vblk_request_status(r) || w->written != 1 ||
        r->written != VBLK_SECTOR + 1) {
        vblk_note(p, "queue %u %s: statuses %u, %u, lengths %u, %u", queue,
                  name, vblk_request_status(w), vblk_request_status(r),
                  w->written, r->written);
    } else {
        vblk_read_check(r, seed);
    }
    vblk_request_free(w);
    vblk_request_free(r);
}

void vblk_note_works(VblkPlay *p, const char *name)
{
    vblk_play_hurry(p);
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        works_one(p, name, q);
    }
    vblk_note(p, "every queue works %s", name);
}

void vblk_note_capacity(VblkPlay *p, const char *name)
{
    uint64_t sectors =
        vblk_config_readq(p->d, offsetof(struct virtio_blk_config, capacity));

    vblk_note(p, "capacity %s: %" PRIu64, name, sectors);
}
