/*
 * Xen PV disk: disks that a toolstack asks for
 *
 * The test does what libxl does: it writes the same keys, waits for the same
 * states, and removes the same keys.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "qobject/qdict.h"
#include "xen-disk-util.h"

#define BACKENDS "/local/domain/0/backend/qdisk/1"

static const BlkOptions other_ring = { .protocol = BLK_X86_32, .order = 2 };

/* The settings of "xl block-attach"; NULL for a setting that is not given */
typedef struct Wanted {
    const char *params;
    const char *mode;
    const char *type;
    const char *dev;
} Wanted;

static Wanted wanted_disk(const char *params)
{
    return (Wanted) { params, "w", "disk", "xvdb" };
}

static void put_if(XenGuest *g, const char *dir, const char *key,
                   const char *value)
{
    if (value) {
        xs_put(g, dir, key, "%s", value);
    }
}

/* Write state and online last, because QEMU then reads the other keys. */
static void attach(Blkfront *f, const Wanted *w)
{
    XenGuest *g = f->g;

    xs_put(g, f->fe, "backend", "%s", f->be);
    xs_put(g, f->fe, "backend-id", "0");
    xs_put(g, f->fe, "virtual-device", "%u", BLK_VDEV_XVDB);
    put_if(g, f->fe, "device-type", w->type);
    xs_put(g, f->fe, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "frontend", "%s", f->fe);
    xs_put(g, f->be, "frontend-id", "%d", XEN_GUEST_DOMID);
    put_if(g, f->be, "params", w->params);
    xs_put(g, f->be, "type", "qdisk");
    put_if(g, f->be, "dev", w->dev);
    put_if(g, f->be, "device-type", w->type);
    put_if(g, f->be, "mode", w->mode);
    xs_put(g, f->be, "removable", "0");
    xs_put(g, f->be, "bootable", "1");
    xs_put(g, f->be, "discard-enable", "1");
    xs_put(g, f->be, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "online", "1");
}

static void attach_image(Blkfront *f, const char *image)
{
    g_autofree char *params = g_strdup_printf("aio:%s", image);
    Wanted w = wanted_disk(params);

    attach(f, &w);
}

/* Of a disk that has a frontend. */
static void detach(Blkfront *f)
{
    xs_put(f->g, f->be, "online", "0");
    xs_put(f->g, f->be, "state", "%d", XB_CLOSING);
    blkfront_state(f, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    xs_wait_gone(f->g, f->be, "state");
    blkfront_teardown(f);
}

/* libxl removes both sides once the backend is closed, or when it gives up. */
static void remove_nodes(Blkfront *f)
{
    g_free(xen_guest_ask(f->g, "xs_rm %s", f->fe));
    g_free(xen_guest_ask(f->g, "xs_rm %s", f->be));
}

/* Detach a disk that could not be attached.  This must not take a timeout. */
static void detach_failed(Blkfront *f)
{
    xs_put(f->g, f->be, "online", "0");
    if (blkfront_backend_state(f) != XB_CLOSED) {
        xs_put(f->g, f->be, "state", "%d", XB_CLOSING);
    }
    blkfront_expect(f, XB_CLOSED);
    remove_nodes(f);
}

/* There is a disk, and it works. */
static void check_good(Blkfront *f, const char *image)
{
    attach_image(f, image);
    blkfront_connect(f, &xen_disk_plain);
    blk_ring_check(&f->ring[0], 8);
    detach(f);
}

static void check_error(Blkfront *f, const char *message)
{
    g_autofree char *error = NULL, *hotplug = NULL, *status = NULL;

    blkfront_expect(f, XB_CLOSING);
    error = xs_get(f->g, f->be, "error");
    hotplug = xs_get(f->g, f->be, "hotplug-error");
    status = xs_get(f->g, f->be, "hotplug-status");
    g_assert_nonnull(strstr(error, message));
    g_assert_cmpstr(hotplug, ==, error);
    g_assert_cmpstr(status, ==, "error");
}

/*
 * Valid disks
 */

static void test_disk(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    for (int i = 0; i < 3; i++) {
        attach_image(f, image);
        blkfront_connect(f, &other_ring);
        blk_ring_check(&f->ring[0], 8 * i);
        g_assert_cmpint(xs_get_number(g, f->be, "feature-discard", 0), ==, 1);
        detach(f);
    }
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* A host that has io_uring and lets this process use it. */
static bool host_has_io_uring(void)
{
    /* No ring has that many entries and no parameters. */
    return syscall(__NR_io_uring_setup, 0, NULL) < 0 &&
           errno != ENOSYS && errno != EPERM;
}

/* Forbid io_uring for all child processes, as kernel.io_uring_disabled=2. */
static void forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { ARRAY_SIZE(filter), filter };

    g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0),
                    ==, 0);
    g_assert_false(host_has_io_uring());
}

/* The disk works, and QEMU submits its requests with io_uring or a thread. */
static void check_engine(bool io_uring)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);
    g_autofree char *log = g_strconcat(image, ".log", NULL);
    g_autofree char *said = NULL;
    XenGuest *g = xen_guest_start("-S -trace luring_co_submit "
                                  "-trace thread_pool_submit_aio -D %s",
                                  log);
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);

    check_good(f, image);
    blkfront_free(f);
    xen_guest_quit(g);
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    g_assert_cmpint(!!strstr(said, "luring_co_submit"), ==, io_uring);
    g_assert_true(io_uring || strstr(said, "thread_pool_submit_aio"));
    unlink(log);
    xen_disk_image_drop(image);
}

static void test_engine(void)
{
    check_engine(host_has_io_uring());
}

static void test_engine_forbidden(void)
{
    if (g_test_subprocess()) {
        forbid_io_uring();
        check_engine(false);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr_unmatched("*Unable to use*");
}

/* Return whether the file system of @image supports O_DIRECT. */
static bool can_be_direct(const char *image)
{
    int fd = open(image, O_RDWR | O_DIRECT);

    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

/* Return whether a node for a file of the host uses O_DIRECT. */
static bool some_file_is_direct(XenGuest *g)
{
    QDict *reply = qtest_qmp(g->qts,
                             "{'execute': 'query-named-block-nodes'}");
    QListEntry *e;
    bool direct = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), e) {
        QDict *node = qobject_to(QDict, qlist_entry_obj(e));

        if (!strcmp(qdict_get_str(node, "drv"), "file")) {
            direct |= qdict_get_bool(qdict_get_qdict(node, "cache"), "direct");
        }
    }
    qobject_unref(reply);
    return direct;
}

/* Check a disk.  @safe is the toolstack's value of direct-io-safe. */
static void check_direct(const char *safe, bool direct)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);
    g_autofree char *params = g_strdup_printf("aio:%s", image);
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    Wanted w = wanted_disk(params);

    put_if(g, f->be, "direct-io-safe", safe);
    if (direct && !can_be_direct(image)) {
        attach(f, &w);
        check_error(f, "O_DIRECT");
        detach_failed(f);
    } else {
        attach(f, &w);
        blkfront_connect(f, &xen_disk_plain);
        g_assert_cmpint(some_file_is_direct(g), ==, direct);
        blk_ring_check(&f->ring[0], 8);
        detach(f);
    }
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

static void test_direct(void)
{
    check_direct("1", true);
    check_direct("0", false);
    check_direct(NULL, false);
}

/* Check that the disk has the data written before, and refuses writes. */
static void check_read_only(Blkfront *f, const Wanted *w, int info,
                            const uint8_t *data)
{
    uint8_t buf[XEN_GUEST_PAGE_SIZE];
    BlkRing *r = &f->ring[0];
    g_autofree char *mode = NULL;

    attach(f, w);
    blkfront_connect(f, &xen_disk_plain);
    mode = xs_get(f->g, f->be, "mode");
    g_assert_cmpstr(mode, ==, "r");
    g_assert_cmpint(xs_get_number(f->g, f->be, "info", 0), ==, info);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(blk_ring_read(r, 8, buf, sizeof(buf)), ==, BLK_OKAY);
        g_assert_cmpmem(buf, sizeof(buf), data, sizeof(buf));
        memset(buf, 0, sizeof(buf));
        g_assert_cmpint(blk_ring_write(r, 8, buf, sizeof(buf)), ==, BLK_ERROR);
    }
    detach(f);
}

static void check_read_only_image(const char *image, const char *format)
{
    g_autofree char *params = g_strdup_printf("%s:%s", format, image);
    uint8_t data[XEN_GUEST_PAGE_SIZE];
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    Wanted w = wanted_disk(params);

    blk_pattern(data, sizeof(data), 5);
    attach(f, &w);
    blkfront_connect(f, &xen_disk_plain);
    g_assert_cmpint(blk_ring_write(&f->ring[0], 8, data, sizeof(data)), ==,
                    BLK_OKAY);
    detach(f);
    g_assert_cmpint(chmod(image, 0444), ==, 0);
    w.mode = "r";
    check_read_only(f, &w, 4, data);
    w.type = "cdrom";
    check_read_only(f, &w, 5, data);
    blkfront_free(f);
    xen_guest_quit(g);
}

static void test_read_only(void)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);

    check_read_only_image(image, "aio");
    xen_disk_image_drop(image);
}

static void test_read_only_qcow2(void)
{
    char *image = xen_disk_image(0);

    if (!mkimg(image, "qcow2", XEN_DISK_SIZE / MiB)) {
        g_test_skip("there is no qemu-img");
    } else {
        check_read_only_image(image, "qcow2");
    }
    xen_disk_image_drop(image);
}

/*
 * Invalid disks
 */

typedef struct Failure {
    const char *name;
    Wanted wanted;              /* %s in params is for the image */
    const char *message;
} Failure;

static const Failure failures[] = {
    { "format", { "qcow2:%s", "w", "disk", "xvdb" },
      "Image is not in qcow2 format" },
    { "format-read-only", { "qcow2:%s", "r", "disk", "xvdb" },
      "Image is not in qcow2 format" },
    { "unknown-format", { "pcow2:%s", "w", "disk", "xvdb" }, "pcow2" },
    { "path", { "aio:%s.mistyped", "w", "disk", "xvdb" },
      "No such file or directory" },
    { "folder", { "aio:/", "w", "disk", "xvdb" }, "failed to create drive" },
    { "empty", { "aio:", "r", "cdrom", "xvdb" }, "the drive is empty" },
    { "nothing", { "", "r", "cdrom", "xvdb" }, "the drive is empty" },
    { "no-params", { NULL, "w", "disk", "xvdb" }, "no params" },
    { "no-dev", { "aio:%s", "w", "disk", NULL }, "no dev parameter" },
    { "dev", { "aio:%s", "w", "disk", "nvme0" }, "failed to set 'vdev'" },
    { "no-type", { "aio:%s", "w", NULL, "xvdb" }, "no device-type" },
    { "type", { "aio:%s", "w", "floppy", "xvdb" }, "'floppy'" },
};

static void attach_failure(Blkfront *f, const Failure *failure,
                           const char *image)
{
    g_auto(GStrv) parts = g_strsplit(failure->wanted.params ?: "", "%s", 2);
    g_autofree char *params = g_strjoinv(image, parts);
    Wanted w = failure->wanted;

    w.params = w.params ? params : NULL;
    attach(f, &w);
    check_error(f, failure->message);
}

static void test_failure(const void *opaque)
{
    const Failure *failure = opaque;
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    for (int i = 0; i < 2; i++) {
        attach_failure(f, failure, image);
        detach_failed(f);
        attach_failure(f, failure, image);
        detach_failed(f);
        check_good(f, image);
    }
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* If the device itself fails, both directories are removed. */
static void test_late_failure(void)
{
    XenGuest *g = xen_guest_start("-S -global xen-disk.num-queues=257");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);
    g_autofree char *params = g_strdup_printf("aio:%s", image);
    Wanted cdrom = { params, "r", "cdrom", "xvdb" };
    uint8_t buf[BLK_SECTOR];

    for (int i = 0; i < 2; i++) {
        g_autofree char *error = NULL;

        attach_image(f, image);
        blkfront_expect(f, XB_CLOSED);
        error = xs_get(g, f->be, "error");
        g_assert_nonnull(strstr(error, "num-queues property (257)"));
        detach_failed(f);
        attach(f, &cdrom);
        blkfront_connect(f, &xen_disk_plain);
        g_assert_cmpint(blk_ring_read(&f->ring[0], 0, buf, sizeof(buf)), ==,
                        BLK_OKAY);
        detach(f);
    }
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* As with any backend in state Closing, the frontend closes and sees Closed. */
static void test_frontend_closes(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    attach_failure(f, &failures[0], image);
    blkfront_state(f, XB_CLOSING);
    g_assert_cmpint(blkfront_backend_state(f), ==, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    detach_failed(f);
    check_good(f, image);
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* "xl block-detach --force", or a domain that is destroyed. */
static void test_taken_away(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    attach_failure(f, &failures[0], image);
    remove_nodes(f);
    check_good(f, image);
    attach_failure(f, &failures[0], image);
    remove_nodes(f);
    xen_guest_sync(g);
    g_assert_null(xs_get(g, BACKENDS, "51728"));
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* libxl does this to a disk of a domain that is paused. */
static void test_closed_by_toolstack(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    attach_failure(f, &failures[0], image);
    xs_put(g, f->be, "state", "%d", XB_CLOSED);
    remove_nodes(f);
    check_good(f, image);
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* All of it arrives at once: QEMU sees a directory that was never away. */
static void test_replaced(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    attach_failure(f, &failures[0], image);
    xen_guest_burst(g, "xs_write %s/online 0\n"
                    "xs_rm %s\n"
                    "xs_write %s/frontend %s\n"
                    "xs_write %s/params aio:%s\n"
                    "xs_write %s/dev xvdb\n"
                    "xs_write %s/device-type disk\n"
                    "xs_write %s/state 1\n"
                    "xs_write %s/online 1\n", f->be, f->be, f->be, f->fe,
                    f->be, image, f->be, f->be, f->be, f->be);
    blkfront_connect(f, &xen_disk_plain);
    blk_ring_check(&f->ring[0], 8);
    detach(f);
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* A failed disk is not tried again, and does not affect other disks. */
static void test_other_disk(void)
{
    XenDisk d;
    Blkfront *f;
    char *image = xen_disk_image(XEN_DISK_SIZE);
    g_autofree char *missing = g_strconcat(image, ".mistyped", NULL);

    xen_disk_open(&d, "", &xen_disk_plain);
    f = blkfront_new(d.g, BLK_VDEV_XVDB);
    attach_failure(f, &failures[3], image);
    g_assert_cmpint(link(image, missing), ==, 0);
    xs_put(d.g, f->be, "removable", "1");
    g_assert_cmpint(blkfront_backend_state(f), ==, XB_CLOSING);
    unlink(missing);
    blk_ring_check(d.r, 0);
    detach_failed(f);
    blk_ring_check(d.r, 0);
    blkfront_free(f);
    xen_disk_image_drop(image);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/toolstack/disk", test_disk);
    qtest_add_func("/xen-disk/toolstack/direct", test_direct);
    qtest_add_func("/xen-disk/toolstack/engine", test_engine);
    qtest_add_func("/xen-disk/toolstack/engine-forbidden",
                   test_engine_forbidden);
    qtest_add_func("/xen-disk/toolstack/read-only", test_read_only);
    qtest_add_func("/xen-disk/toolstack/read-only-qcow2",
                   test_read_only_qcow2);
    for (int i = 0; i < ARRAY_SIZE(failures); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/toolstack/failure/",
                                            failures[i].name, NULL);

        qtest_add_data_func(path, &failures[i], test_failure);
    }
    qtest_add_func("/xen-disk/toolstack/late-failure", test_late_failure);
    qtest_add_func("/xen-disk/toolstack/frontend-closes",
                   test_frontend_closes);
    qtest_add_func("/xen-disk/toolstack/taken-away", test_taken_away);
    qtest_add_func("/xen-disk/toolstack/closed-by-toolstack",
                   test_closed_by_toolstack);
    qtest_add_func("/xen-disk/toolstack/replaced", test_replaced);
    qtest_add_func("/xen-disk/toolstack/other-disk", test_other_disk);
    return g_test_run();
}
