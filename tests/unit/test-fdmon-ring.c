/*
 * An event loop that waits in its disk's ring
 *
 *     main thread                 loop's thread
 *     test -------- calls ------> epoll set, bottom halves, timers
 *     pipe -------- bytes ------> requests of the ring
 *
 * A request that reads from an empty pipe is in flight until the test writes
 * to the pipe.  Meanwhile everything else has to wake the thread as well, and
 * with nothing in flight the thread must not sleep in the ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "block/aio-wait.h"
#include "block/fdmon-ring.h"
#include "block/raw-aio.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "thread-syscall.h"

typedef struct Loop {
    AioContext *ctx;
    GMainContext *glib;         /* runs in place of aio_poll(), or NULL */
    QemuThread thread;
    pid_t tid;
    bool stop;
    bool in_glib;
} Loop;

typedef struct Pipe {
    int fds[2];
} Pipe;

typedef struct Request {
    int fd;
    uint8_t buf;
    int ret;
} Request;

static bool host_has_io_uring(void)
{
    return syscall(__NR_io_uring_setup, 0, NULL) < 0 && errno != ENOSYS &&
           errno != EPERM;
}

static void *loop_run(void *opaque)
{
    Loop *loop = opaque;

    rcu_register_thread();
    loop->tid = syscall(__NR_gettid);
    qemu_set_current_aio_context(loop->ctx);
    while (!qatomic_read(&loop->stop)) {
        if (qatomic_read(&loop->in_glib)) {
            g_main_context_iteration(loop->glib, true);
        } else {
            aio_poll(loop->ctx, true);
        }
    }
    rcu_unregister_thread();
    return NULL;
}

static void set_up_ring(void *opaque)
{
    aio_setup_linux_io_uring(opaque, &error_abort);
}

static void loop_call(Loop *loop, QEMUBHFunc *func, void *opaque)
{
    aio_wait_bh_oneshot(loop->ctx, func, opaque);
}

/* Make a loop as an IOThread does: first a GLib source, then the thread. */
static Loop *loop_new(void)
{
    Loop *loop = g_new0(Loop, 1);
    GSource *source;

    loop->ctx = aio_context_new(&error_abort);
    loop->glib = g_main_context_new();
    source = aio_get_g_source(loop->ctx);
    g_source_attach(source, loop->glib);
    g_source_unref(source);
    qemu_thread_create(&loop->thread, "loop", loop_run, loop,
                       QEMU_THREAD_JOINABLE);
    loop_call(loop, set_up_ring, loop->ctx);
    g_assert_true(fdmon_ring_defers(loop->ctx));
    return loop;
}

static void loop_free(Loop *loop)
{
    qatomic_set(&loop->stop, true);
    aio_notify(loop->ctx);
    g_main_context_wakeup(loop->glib);
    qemu_thread_join(&loop->thread);
    g_main_context_unref(loop->glib);
    aio_context_unref(loop->ctx);
    g_free(loop);
}

static void wait_for(const bool *happened)
{
    AIO_WAIT_WHILE_UNLOCKED(NULL, !qatomic_load_acquire(happened));
}

static void happens(void *opaque)
{
    qatomic_store_release((bool *)opaque, true);
    aio_wait_kick();
}

/* Requests */

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, &r->buf, 1);
    int ret = luring_co_submit(NULL, r->fd, 0, &qiov, QEMU_AIO_READ, 0);

    qatomic_store_release(&r->ret, ret);
    aio_wait_kick();
}

static Request *request_new(Loop *loop, int fd)
{
    Request *r = g_new0(Request, 1);

    r->fd = fd;
    r->ret = -EINPROGRESS;
    aio_co_enter(loop->ctx, qemu_coroutine_create(request_entry, r));
    return r;
}

static void request_finish(Request *r, uint8_t value)
{
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_load_acquire(&r->ret) ==
                                  -EINPROGRESS);
    g_assert_cmpint(r->ret, ==, 0);
    g_assert_cmpint(r->buf, ==, value);
    g_free(r);
}

static Pipe pipe_new(void)
{
    Pipe p;

    g_assert_true(g_unix_open_pipe(p.fds, FD_CLOEXEC, NULL));
    return p;
}

static void pipe_put(Pipe *p, uint8_t value)
{
    g_assert_cmpint(write(p->fds[1], &value, 1), ==, 1);
}

static void pipe_close(Pipe *p)
{
    close(p->fds[0]);
    close(p->fds[1]);
}

/* Events that wake the thread */

typedef struct Watched {
    EventNotifier e;
    bool happened;
} Watched;

static void watched_read(EventNotifier *e)
{
    Watched *w = container_of(e, Watched, e);

    event_notifier_test_and_clear(e);
    happens(&w->happened);
}

static void check_notifier(Loop *loop)
{
    Watched w = { .happened = false };

    g_assert_cmpint(event_notifier_init(&w.e, 0), ==, 0);
    aio_set_event_notifier(loop->ctx, &w.e, watched_read, NULL, NULL);
    for (unsigned i = 0; i < 20; i++) {
        qatomic_set(&w.happened, false);
        event_notifier_set(&w.e);
        wait_for(&w.happened);
    }
    aio_set_event_notifier(loop->ctx, &w.e, NULL, NULL, NULL);
    event_notifier_cleanup(&w.e);
}

static void check_bottom_half(Loop *loop)
{
    for (unsigned i = 0; i < 20; i++) {
        bool happened = false;

        aio_bh_schedule_oneshot(loop->ctx, happens, &happened);
        wait_for(&happened);
    }
}

static void arm_timer(void *opaque)
{
    QEMUTimer *timer = opaque;

    timer_mod(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + SCALE_MS);
}

static void check_timer(Loop *loop)
{
    bool happened = false;
    QEMUTimer *timer = aio_timer_new(loop->ctx, QEMU_CLOCK_REALTIME, SCALE_NS,
                                     happens, &happened);

    for (unsigned i = 0; i < 3; i++) {
        qatomic_set(&happened, false);
        loop_call(loop, arm_timer, timer);
        wait_for(&happened);
    }
    timer_free(timer);
}

static void check_request(Loop *loop)
{
    Pipe p = pipe_new();

    /* There at once, and after a while */
    pipe_put(&p, 1);
    request_finish(request_new(loop, p.fds[0]), 1);
    for (unsigned i = 0; i < 20; i++) {
        Request *r = request_new(loop, p.fds[0]);

        check_bottom_half(loop);
        pipe_put(&p, i);
        request_finish(r, i);
    }
    pipe_close(&p);
}

static void check_all(Loop *loop)
{
    check_notifier(loop);
    check_bottom_half(loop);
    check_timer(loop);
    check_request(loop);
}

static void wait_idle(Loop *loop)
{
#ifdef SYS_epoll_wait
    thread_syscall_wait(loop->tid, SYS_epoll_wait, SYS_epoll_pwait);
#else
    thread_syscall_wait(loop->tid, SYS_epoll_pwait, SYS_epoll_pwait);
#endif
}

static void test_idle(void)
{
    Loop *loop = loop_new();

    wait_idle(loop);
    check_all(loop);
    wait_idle(loop);
    loop_free(loop);
}

static void test_in_flight(void)
{
    Loop *loop = loop_new();
    Pipe p = pipe_new();
    Request *r = request_new(loop, p.fds[0]);

    thread_syscall_wait(loop->tid, __NR_io_uring_enter, __NR_io_uring_enter);
    check_all(loop);
    thread_syscall_wait(loop->tid, __NR_io_uring_enter, __NR_io_uring_enter);
    pipe_put(&p, 42);
    request_finish(r, 42);
    wait_idle(loop);
    check_all(loop);
    pipe_close(&p);
    loop_free(loop);
}

/* More than the submission queue has room for, with results in reverse. */
static void test_many(void)
{
    enum { MANY = 300 };
    Loop *loop = loop_new();
    g_autofree Pipe *pipes = g_new(Pipe, MANY);
    g_autofree Request **r = g_new(Request *, MANY);

    for (unsigned i = 0; i < MANY; i++) {
        pipes[i] = pipe_new();
        r[i] = request_new(loop, pipes[i].fds[0]);
    }
    check_all(loop);
    for (unsigned i = MANY; i-- > 0; ) {
        pipe_put(&pipes[i], i);
        request_finish(r[i], i);
        pipe_close(&pipes[i]);
    }
    check_all(loop);
    loop_free(loop);
}

static void poll_for(void *opaque)
{
    aio_context_set_poll_params(opaque, 2 * SCALE_MS, 0, 0, &error_abort);
}

static void test_polling(void)
{
    Loop *loop = loop_new();
    Pipe p = pipe_new();
    Request *r;

    poll_for(loop->ctx);
    check_all(loop);
    r = request_new(loop, p.fds[0]);
    check_all(loop);
    pipe_put(&p, 7);
    request_finish(r, 7);
    pipe_close(&p);
    loop_free(loop);
}

/* GLib's loop takes the thread over with requests on their way, and back. */
static void test_glib(void)
{
    Loop *loop = loop_new();
    Pipe p = pipe_new();
    Request *r = request_new(loop, p.fds[0]);

    for (unsigned i = 0; i < 6; i++) {
        qatomic_set(&loop->in_glib, !(i & 1));
        aio_notify(loop->ctx);
        g_main_context_wakeup(loop->glib);
        check_all(loop);
        pipe_put(&p, i);
        request_finish(r, i);
        r = request_new(loop, p.fds[0]);
    }
    pipe_put(&p, 99);
    request_finish(r, 99);
    pipe_close(&p);
    loop_free(loop);
}

static void no_event(void *opaque)
{
}

/* An ordinary file can be watched by poll(2) but not by epoll. */
static void test_no_epoll(void)
{
    Loop *loop = loop_new();
    Pipe p = pipe_new();
    Request *r = request_new(loop, p.fds[0]);
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("fdmon-ring-XXXXXX", &name, NULL);

    check_bottom_half(loop);
    aio_set_fd_handler(loop->ctx, fd, no_event, NULL, NULL, NULL, NULL);
    g_assert_false(fdmon_ring_defers(loop->ctx));
    check_all(loop);
    aio_set_fd_handler(loop->ctx, fd, NULL, NULL, NULL, NULL, NULL);
    check_all(loop);
    pipe_put(&p, 3);
    request_finish(r, 3);
    close(fd);
    unlink(name);
    pipe_close(&p);
    loop_free(loop);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    if (!host_has_io_uring()) {
        g_test_message("this host does not let programs use io_uring");
        return g_test_run();
    }
    g_test_add_func("/fdmon-ring/idle", test_idle);
    g_test_add_func("/fdmon-ring/in-flight", test_in_flight);
    g_test_add_func("/fdmon-ring/many", test_many);
    g_test_add_func("/fdmon-ring/polling", test_polling);
    g_test_add_func("/fdmon-ring/glib", test_glib);
    g_test_add_func("/fdmon-ring/no-epoll", test_no_epoll);
    return g_test_run();
}
