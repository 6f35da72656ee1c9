/*
 * A Xen guest domain and its toolstack, played by a test
 *
 *     test                                    QEMU
 *     .--------------------.   socketpair   .-------------------.
 *     | control words      |<-------------->| -device           |
 *     |                    |   memfd        |   xen-standin     |
 *     | guest memory (mmap)|<-------------->| machine RAM       |
 *     | ports              |<-------------->| event channels    |
 *     '--------------------'   eventfds     '-------------------'
 *
 * The sockets, the memory and the eventfds are inherited or passed, so that
 * nothing of a test has a name in the file system.
 *
 *     frame 0        never used, so that a zeroed reference hits nothing
 *     frames 1..4    the grant table
 *     frames 5..     for the test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "xen-guest.h"

#define GUEST_FRAMES 8192
#define GRANT_FRAME 1
#define GRANT_FRAMES 8
#define FIRST_FRAME (GRANT_FRAME + GRANT_FRAMES)
#define NR_REFS (GRANT_FRAMES * XEN_GUEST_PAGE_SIZE / sizeof(GrantEntry))
/* The first references belong to the console and to xenstore. */
#define FIRST_REF 8

#define GRANT_PERMIT    0x0001
#define GRANT_READONLY  0x0004
#define GRANT_USED      0x0018  /* reading or writing */

typedef struct GrantEntry {
    uint16_t flags;
    uint16_t domid;
    uint32_t frame;
} GrantEntry;

/*
 * Control words
 */

static void ctl_send(XenGuest *g, const char *line, const int *fds, int nr)
{
    struct iovec iov = { (void *)line, strlen(line) };
    union {
        char buf[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {};
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (nr) {
        struct cmsghdr *cmsg;

        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
    }
    g_assert_cmpint(sendmsg(g->ctl, &msg, MSG_NOSIGNAL), ==, iov.iov_len);
}

static char *ctl_receive(XenGuest *g)
{
    struct pollfd pfd = { .fd = g->ctl, .events = POLLIN };
    char buf[4096];
    char *end, *line;
    ssize_t n;

    while (!(end = strchr(g->ctl_in->str, '\n'))) {
        if (poll(&pfd, 1, XEN_GUEST_PATIENCE * 1000) != 1) {
            g_error("xen-standin does not answer");
        }
        n = recv(g->ctl, buf, sizeof(buf), 0);
        if (n <= 0) {
            g_error("xen-standin is gone");
        }
        g_string_append_len(g->ctl_in, buf, n);
    }
    line = g_strndup(g->ctl_in->str, end - g->ctl_in->str);
    g_string_erase(g->ctl_in, 0, strlen(line) + 1);
    return line;
}

static char *ctl_answer(XenGuest *g)
{
    g_autofree char *line = ctl_receive(g);
    const char *code;

    if (g_str_equal(line, "OK")) {
        return g_strdup("");
    }
    if (g_str_has_prefix(line, "OK ")) {
        return g_strdup(line + 3);
    }
    g_assert_true(strstart(line, "FAIL ", &code));
    errno = atoi(code);
    return NULL;
}

static char *G_GNUC_PRINTF(2, 0)
ctl_ask_va(XenGuest *g, const char *fmt, va_list ap)
{
    g_autofree char *word = g_strdup_vprintf(fmt, ap);
    g_autofree char *line = g_strconcat(word, "\n", NULL);

    ctl_send(g, line, NULL, 0);
    return ctl_answer(g);
}

char *xen_guest_ask(XenGuest *g, const char *fmt, ...)
{
    va_list ap;
    char *answer;

    va_start(ap, fmt);
    answer = ctl_ask_va(g, fmt, ap);
    va_end(ap);
    return answer;
}

void xen_guest_say(XenGuest *g, const char *fmt, ...)
{
    g_autofree char *answer = NULL;
    va_list ap;

    va_start(ap, fmt);
    answer = ctl_ask_va(g, fmt, ap);
    va_end(ap);
    g_assert_cmpstr(answer, ==, "");
}

void xen_guest_burst(XenGuest *g, const char *fmt, ...)
{
    g_autofree char *words = NULL;
    va_list ap;

    va_start(ap, fmt);
    words = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    ctl_send(g, words, NULL, 0);
    for (const char *p = words; (p = strchr(p, '\n')); p++) {
        g_autofree char *answer = ctl_answer(g);

        g_assert_cmpstr(answer, ==, "");
    }
}

int64_t xen_guest_count(XenGuest *g, const char *fmt, ...)
{
    g_autofree char *answer = NULL;
    va_list ap;

    va_start(ap, fmt);
    answer = ctl_ask_va(g, fmt, ap);
    va_end(ap);
    return answer ? g_ascii_strtoll(answer, NULL, 10) : -1;
}

void xen_guest_sync(XenGuest *g)
{
    xen_guest_say(g, "xs_sync");
}

void xen_guest_grant_stats(XenGuest *g, XenGrantStats *s)
{
    g_autofree char *answer = xen_guest_ask(g, "gnttab_stats");

    g_assert_cmpint(sscanf(answer, "%" SCNu64 " %" SCNu64 " %" SCNu64
                           " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                           &s->maps, &s->mapped, &s->copies, &s->segments,
                           &s->areas, &s->refused, &s->unmaps), ==, 7);
}

/*
 * Start and end
 */

static uint8_t *guest_map_memory(int fd)
{
    size_t size = (size_t)GUEST_FRAMES * XEN_GUEST_PAGE_SIZE;
    uint8_t *ram;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(ram != MAP_FAILED);
    return ram;
}

XenGuest *xen_guest_start(const char *fmt, ...)
{
    XenGuest *g = g_new0(XenGuest, 1);
    int memfd = memfd_create("xen-guest", 0);
    g_autofree char *args = NULL;
    int ctl[2];
    va_list ap;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ctl), ==, 0);
    g_unix_set_fd_nonblocking(ctl[1], true, NULL);
    qemu_set_cloexec(ctl[0]);

    g->owned = g_ptr_array_new_with_free_func(g_free);
    g->ctl = ctl[0];
    g->ctl_in = g_string_new(NULL);
    g->ram = guest_map_memory(memfd);
    g->nr_frames = GUEST_FRAMES;
    g->next_frame = FIRST_FRAME;
    g->free_frames = g_new(uint32_t, GUEST_FRAMES);
    g->next_ref = FIRST_REF;
    g->free_refs = g_new(uint32_t, NR_REFS);

    g->qts = qtest_initf("-object memory-backend-file,id=ram,share=on,"
                         "size=%u,mem-path=/proc/self/fd/%d "
                         "-machine %smemory-backend=ram -m %uk "
                         "-nic none -chardev socket,id=xen,fd=%d "
                         "-device xen-standin,chardev=xen,domid=%d %s",
                         GUEST_FRAMES * XEN_GUEST_PAGE_SIZE, memfd,
                         strstr(args, "-machine") ? "" : "none,",
                         GUEST_FRAMES * XEN_GUEST_PAGE_SIZE / 1024, ctl[1],
                         XEN_GUEST_DOMID, args);
    close(ctl[1]);
    close(memfd);
    xen_guest_say(g, "gnttab_setup %d %d", GRANT_FRAME, GRANT_FRAMES);
    return g;
}

void xen_guest_fails(const char *args, const char *message)
{
    g_autofree char *command = g_strdup_printf(
        "%s -accel qtest -display none -nodefaults -machine none %s",
        getenv("QTEST_QEMU_BINARY"), args);
    g_autofree char *said = NULL;
    int status;

    g_assert_true(g_spawn_command_line_sync(command, NULL, &said, &status,
                                            NULL));
    if (!strstr(said, message)) {
        g_error("expected \"%s\" of %s, but it said: %s", message, command,
                said);
    }
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

void xen_guest_quit(XenGuest *g)
{
    qtest_quit(g->qts);
    close(g->ctl);
    munmap(g->ram, (size_t)GUEST_FRAMES * XEN_GUEST_PAGE_SIZE);
    g_string_free(g->ctl_in, true);
    g_free(g->free_frames);
    g_free(g->free_refs);
    g_ptr_array_free(g->owned, true);
    g_free(g);
}

/*
 * Xenstore
 */

void xs_put(XenGuest *g, const char *dir, const char *key,
            const char *fmt, ...)
{
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    xen_guest_say(g, "xs_write %s/%s %s", dir, key, value);
}

void xs_remove(XenGuest *g, const char *dir, const char *key)
{
    xen_guest_say(g, "xs_rm %s/%s", dir, key);
}

char *xs_get(XenGuest *g, const char *dir, const char *key)
{
    return xen_guest_ask(g, "xs_read %s/%s", dir, key);
}

int64_t xs_get_number(XenGuest *g, const char *dir, const char *key,
                      int64_t otherwise)
{
    g_autofree char *value = xs_get(g, dir, key);

    return value ? g_ascii_strtoll(value, NULL, 10) : otherwise;
}

int xs_wait_state(XenGuest *g, const char *dir, int a, int b)
{
    return xen_guest_count(g, "xs_wait %s/state %d %d", dir, a, b);
}

void xs_wait_value(XenGuest *g, const char *dir, const char *key,
                   const char *value)
{
    g_free(xen_guest_ask(g, "xs_wait %s/%s %s", dir, key, value));
}

void xs_wait_gone(XenGuest *g, const char *dir, const char *key)
{
    g_free(xen_guest_ask(g, "xs_wait %s/%s", dir, key));
}

/*
 * Memory and grants
 */

uint32_t xen_guest_alloc_frame(XenGuest *g)
{
    uint32_t frame;

    if (g->nr_free_frames) {
        frame = g->free_frames[--g->nr_free_frames];
    } else {
        g_assert_cmpint(g->next_frame, <, g->nr_frames);
        frame = g->next_frame++;
    }
    memset(xen_guest_frame(g, frame), 0, XEN_GUEST_PAGE_SIZE);
    return frame;
}

void xen_guest_free_frame(XenGuest *g, uint32_t frame)
{
    g->free_frames[g->nr_free_frames++] = frame;
}

void *xen_guest_frame(XenGuest *g, uint32_t frame)
{
    return g->ram + (size_t)frame * XEN_GUEST_PAGE_SIZE;
}

static GrantEntry *guest_grant_entry(XenGuest *g, uint32_t ref)
{
    g_assert_cmpint(ref, <, NR_REFS);
    return (GrantEntry *)xen_guest_frame(g, GRANT_FRAME) + ref;
}

uint32_t xen_guest_grant(XenGuest *g, uint32_t frame, bool readonly)
{
    uint32_t ref = g->nr_free_refs ? g->free_refs[--g->nr_free_refs]
                                   : g->next_ref++;
    GrantEntry *entry = guest_grant_entry(g, ref);

    entry->frame = frame;
    entry->domid = 0;
    qatomic_store_release(&entry->flags,
                          GRANT_PERMIT | (readonly ? GRANT_READONLY : 0));
    return ref;
}

bool xen_guest_grant_is_used(XenGuest *g, uint32_t ref)
{
    return qatomic_read(&guest_grant_entry(g, ref)->flags) & GRANT_USED;
}

void xen_guest_revoke(XenGuest *g, uint32_t ref)
{
    g_assert_false(xen_guest_grant_is_used(g, ref));
    xen_guest_forget(g, ref);
    g->free_refs[g->nr_free_refs++] = ref;
}

void xen_guest_forget(XenGuest *g, uint32_t ref)
{
    qatomic_and(&guest_grant_entry(g, ref)->flags, (uint16_t)GRANT_USED);
}

/*
 * Event channels
 */

void xen_port_open(XenGuest *g, XenPort *port)
{
    g_autofree char *answer = NULL;
    int fds[2];

    port->send_fd = fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    port->wait_fd = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert_cmpint(fds[0], >=, 0);
    g_assert_cmpint(fds[1], >=, 0);
    ctl_send(g, "evtchn_alloc\n", fds, 2);
    answer = ctl_answer(g);
    g_assert_nonnull(answer);
    port->number = atoi(answer);
    port->alive_fd = g->ctl;
}

void xen_port_close(XenGuest *g, XenPort *port)
{
    xen_guest_say(g, "evtchn_close %u", port->number);
    close(port->send_fd);
    close(port->wait_fd);
    port->number = 0;
}

void xen_port_send(XenPort *port)
{
    g_assert_cmpint(eventfd_write(port->send_fd, 1), ==, 0);
}

bool xen_port_is_bound(XenGuest *g, XenPort *port)
{
    int64_t bound = xen_guest_count(g, "evtchn_bound %u", port->number);

    g_assert_cmpint(bound, >=, 0);
    return bound;
}

uint64_t xen_port_take(XenPort *port)
{
    eventfd_t events;

    return eventfd_read(port->wait_fd, &events) == 0 ? events : 0;
}

uint64_t xen_port_wait(XenPort *port)
{
    struct pollfd pfds[] = {
        { .fd = port->wait_fd, .events = POLLIN },
        { .fd = port->alive_fd },
    };
    int ready = poll(pfds, ARRAY_SIZE(pfds), XEN_GUEST_PATIENCE * 1000);

    if (ready < 1 || !pfds[0].revents) {
        g_error("no event on port %u%s", port->number,
                ready == 1 ? ", QEMU is gone" : "");
    }
    return xen_port_take(port);
}
