/*
 * io_uring when the kernel does a part of a request
 *
 * The test replaces the functions of the library that submit requests.  They
 * shorten a request before it is submitted, so that the kernel does only a part
 * of it, or nothing.  The errors come from a limit on the size of files: the
 * kernel writes up to the limit, and a second attempt fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <dlfcn.h>
#include <liburing.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "block/block.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

#define PIECE   4096
#define PIECES  4
#define BYTES   (PIECE * PIECES)

/* The way in which the next requests are shortened */
typedef enum Cut {
    CUT_NOT,
    CUT_TO_A_PIECE,     /* one buffer of a list, or PIECE bytes of a buffer */
    CUT_TO_NOTHING,
} Cut;

static int cut;
static unsigned cuts;           /* requests that were made shorter */
static char *image;

static bool is_read_or_write(const struct io_uring_sqe *sqe)
{
    return sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV ||
           sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE;
}

static void cut_sqe(struct io_uring_sqe *sqe)
{
    bool list = sqe->opcode == IORING_OP_READV ||
                sqe->opcode == IORING_OP_WRITEV;
    uint32_t len = qatomic_read(&cut) == CUT_TO_NOTHING ? 0 : list ? 1 : PIECE;

    if (!is_read_or_write(sqe) || qatomic_read(&cut) == CUT_NOT ||
        sqe->len <= len) {
        return;
    }
    sqe->len = len;
    qatomic_inc(&cuts);
}

static void cut_sqes(struct io_uring *ring)
{
    unsigned mask = *ring->sq.kring_mask;

    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        cut_sqe(&ring->sq.sqes[i & mask]);
    }
}

static void *library(const char *function)
{
    void *address = dlsym(RTLD_NEXT, function);

    g_assert_nonnull(address);
    return address;
}

/* These functions replace those of the library. */

int io_uring_submit(struct io_uring *ring)
{
    int (*next)(struct io_uring *ring) = library(__func__);

    cut_sqes(ring);
    return next(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    int (*next)(struct io_uring *ring, unsigned wait_nr) = library(__func__);

    cut_sqes(ring);
    return next(ring, wait_nr);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring,
                                     struct io_uring_cqe **cqe,
                                     unsigned wait_nr,
                                     struct __kernel_timespec *ts,
                                     sigset_t *sigmask)
{
    int (*next)(struct io_uring *ring, struct io_uring_cqe **cqe,
                unsigned wait_nr, struct __kernel_timespec *ts,
                sigset_t *sigmask) = library(__func__);

    cut_sqes(ring);
    return next(ring, cqe, wait_nr, ts, sigmask);
}

static bool host_has_io_uring(void)
{
    return syscall(__NR_io_uring_setup, 0, NULL) < 0 && errno != ENOSYS &&
           errno != EPERM;
}

/* The buffers of a request: @n of equal length, all from @buf. */
static void buffers_init(QEMUIOVector *qiov, uint8_t *buf, unsigned n)
{
    qemu_iovec_init(qiov, n);
    for (unsigned i = 0; i < n; i++) {
        qemu_iovec_add(qiov, buf + i * (BYTES / n), BYTES / n);
    }
}

typedef struct Request {
    BlockBackend *blk;
    QEMUIOVector qiov;
    bool write;
    BdrvRequestFlags flags;
    int ret;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;
    int ret = r->write ? blk_co_pwritev(r->blk, 0, BYTES, &r->qiov, r->flags)
                       : blk_co_preadv(r->blk, 0, BYTES, &r->qiov, r->flags);

    qatomic_store_release(&r->ret, ret);
    aio_wait_kick();
}

/* Run a request in the thread of @ctx, and return its result. */
static int run(BlockBackend *blk, AioContext *ctx, bool write, uint8_t *buf,
               unsigned buffers, BdrvRequestFlags flags)
{
    Request r = {
        .blk = blk, .write = write, .flags = flags, .ret = -EINPROGRESS,
    };

    buffers_init(&r.qiov, buf, buffers);
    aio_co_enter(ctx, qemu_coroutine_create(request_entry, &r));
    AIO_WAIT_WHILE_UNLOCKED(NULL,
                            qatomic_load_acquire(&r.ret) == -EINPROGRESS);
    qemu_iovec_destroy(&r.qiov);
    return r.ret;
}

static BlockBackend *image_open(AioContext *ctx)
{
    QDict *options = qdict_new();
    BlockBackend *blk;
    int fd = g_file_open_tmp("uring-short-XXXXXX", &image, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, BYTES), ==, 0);
    close(fd);
    qdict_put_str(options, "driver", "file");
    qdict_put_str(options, "filename", image);
    qdict_put_str(options, "aio", "io_uring");
    blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_abort);
    blk_set_aio_context(blk, ctx, &error_abort);
    return blk;
}

static void image_close(BlockBackend *blk)
{
    blk_set_aio_context(blk, qemu_get_aio_context(), &error_abort);
    blk_unref(blk);
    unlink(image);
    g_free(image);
}

static void fill(uint8_t *buf, uint8_t seed)
{
    for (unsigned i = 0; i < BYTES; i++) {
        buf[i] = seed + i % 251;
    }
}

static void check_file(const uint8_t *want)
{
    g_autofree char *got = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(image, &got, &len, NULL));
    g_assert_cmpmem(got, len, want, BYTES);
}

/* Written and read in pieces, and all of it is right. */
static void check_pieces(BlockBackend *blk, AioContext *ctx, unsigned buffers,
                         BdrvRequestFlags flags)
{
    g_autofree uint8_t *buf = g_malloc0(BYTES);
    g_autofree uint8_t *want = g_malloc(BYTES);

    fill(want, buffers + flags);
    memcpy(buf, want, BYTES);
    qatomic_set(&cuts, 0);
    qatomic_set(&cut, CUT_TO_A_PIECE);
    g_assert_cmpint(run(blk, ctx, true, buf, buffers, flags), ==, 0);
    qatomic_set(&cut, CUT_NOT);
    check_file(want);

    memset(buf, 0, BYTES);
    qatomic_set(&cut, CUT_TO_A_PIECE);
    g_assert_cmpint(run(blk, ctx, false, buf, buffers, 0), ==, 0);
    qatomic_set(&cut, CUT_NOT);
    g_assert_cmpmem(buf, BYTES, want, BYTES);
    if (buffers > 1) {
        g_assert_cmpuint(qatomic_read(&cuts), ==, 2 * (buffers - 1));
    }
}

/* A disk that has no room says so at once, and after a part. */
static void check_no_room(BlockBackend *blk, AioContext *ctx)
{
    g_autofree uint8_t *buf = g_malloc0(BYTES);

    qatomic_set(&cut, CUT_TO_NOTHING);
    g_assert_cmpint(run(blk, ctx, true, buf, 2, 0), ==, -ENOSPC);
    qatomic_set(&cut, CUT_NOT);
}

/* The error of the part that was not done is the request's. */
static void check_error(BlockBackend *blk, AioContext *ctx, unsigned buffers)
{
    g_autofree uint8_t *buf = g_malloc0(BYTES);
    struct rlimit old, part = {};

    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
    part = (struct rlimit) { .rlim_cur = PIECE, .rlim_max = old.rlim_max };
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &part), ==, 0);
    g_assert_cmpint(run(blk, ctx, true, buf, buffers, 0), ==, -EFBIG);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
    g_assert_cmpint(run(blk, ctx, true, buf, buffers, 0), ==, 0);
}

static void check(AioContext *ctx)
{
    BlockBackend *blk = image_open(ctx);

    for (unsigned buffers = 1; buffers <= PIECES; buffers *= 2) {
        check_pieces(blk, ctx, buffers, 0);
        check_pieces(blk, ctx, buffers, BDRV_REQ_FUA);
        check_error(blk, ctx, buffers);
    }
    check_no_room(blk, ctx);
    image_close(blk);
}

static void test_main_loop(void)
{
    if (!host_has_io_uring()) {
        g_test_skip("this host does not let programs use io_uring");
        return;
    }
    check(qemu_get_aio_context());
}

static void test_iothread(void)
{
    IOThread *iothread;

    if (!host_has_io_uring()) {
        g_test_skip("this host does not let programs use io_uring");
        return;
    }
    iothread = iothread_new();
    check(iothread_get_aio_context(iothread));
    iothread_join(iothread);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/io_uring/short/main-loop", test_main_loop);
    g_test_add_func("/io_uring/short/iothread", test_iothread);
    return g_test_run();
}
