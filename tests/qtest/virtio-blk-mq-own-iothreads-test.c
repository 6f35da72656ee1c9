/*
 * IOThreads that a disk makes for itself, with the property iothreads
 *
 *     device id=x, or without id on drive y
 *        |  iothreads=2
 *        +-- x-iothread0, x-iothread1, or y-iothread0, y-iothread1
 *
 * They have names that a user can predict, are the device's alone and go with
 * it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-iothreads.h"
#include "vblk-request.h"

#define DISK "-blockdev null-co,node-name=disk,read-zeroes=on,size=1048576 "
#define TWO_OWN "'drive': 'disk', 'num-queues': 2, 'iothreads': '2'"

/* The names of all IOThreads, sorted, one after the other. */
static void check_names(VblkMachine *m, const char *expected)
{
    g_auto(GStrv) list = vblk_iothread_names(m->qts);
    g_autofree char *names = g_strjoinv(" ", list);

    g_assert_cmpstr(names, ==, expected);
}

/* Check the list for management software, which has only IOThread objects. */
static void check_users(VblkMachine *m, const char *expected)
{
    g_auto(GStrv) list = vblk_iothread_users(m->qts);
    g_autofree char *names = g_strjoinv(" ", list);

    g_assert_cmpstr(names, ==, expected);
}

static bool thread_runs(VblkMachine *m, int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d",
                                            qtest_pid(m->qts), tid);

    return access(path, F_OK) == 0;
}

static void check_error(VblkMachine *m, const char *command, const char *text)
{
    QDict *rsp = qtest_qmp(m->qts, "%p",
                           qobject_from_json(command, &error_abort));

    g_assert_true(qdict_haskey(rsp, "error"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"), ==,
                    text);
    qobject_unref(rsp);
}

static void object_del(VblkMachine *m, const char *id)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': %s}}", id);
}

/* All queues answer. */
static void check_works(VblkMachine *m)
{
    VblkDevice *d = vblk_device_open(m, 0);

    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < d->max_queues; i++) {
        g_assert_cmphex(vblk_request_run(d->queues[i], VIRTIO_BLK_T_IN, i, NULL,
                                         VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
    }
    vblk_device_close(d);
}

/* An object has the second name that the disk needs, so the disk gets none. */
static void test_name_taken(const VblkVariant *v)
{
    VblkMachine *m = vblk_machine_start(v, DISK
                                        "-object iothread,id=disk0-iothread1");

    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *error = vblk_device_add(m, 0, TWO_OWN);

        g_assert_cmpstr(error, ==, "cannot create IOThread 'disk0-iothread1': "
                        "there is an object of that name");
        check_names(m, "disk0-iothread1");
    }
    object_del(m, "disk0-iothread1");
    g_assert_cmpstr(vblk_device_add(m, 0, TWO_OWN), ==, NULL);
    check_names(m, "disk0-iothread0 disk0-iothread1");

    /* An object cannot have the name of such an IOThread. */
    check_error(m, "{'execute': 'object-add', 'arguments':"
                " {'qom-type': 'iothread', 'id': 'disk0-iothread0'}}",
                "attempt to add duplicate property 'disk0-iothread0' to object"
                " (type 'container')");
    check_works(m);
    vblk_machine_stop(m);
}

/* On the command line QEMU ends with one line, and a hint. */
static void test_name_taken_at_start(const VblkVariant *v)
{
    g_autofree char *command = g_strdup_printf(
        "%s -accel qtest -display none -nodefaults -machine %s " DISK
        "-object iothread,id=x-iothread0 "
        "-device virtio-blk-pci,id=x,drive=disk,iothreads=auto",
        getenv("QTEST_QEMU_BINARY"), v->machine);
    g_autofree char *said = NULL;
    int status;

    g_assert_true(g_spawn_command_line_sync(command, NULL, &said, &status,
                                            NULL));
    g_assert_nonnull(strstr(said, "cannot create IOThread 'x-iothread0': "
                            "there is an object of that name\n"));
    g_assert_nonnull(strstr(said, "another id.\n"));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

/* The node below "disk", that QEMU has given a name. */
static char *unnamed_node(VblkMachine *m)
{
    QDict *rsp = qtest_qmp(m->qts,
                           "{'execute': 'query-named-block-nodes'}");
    const QListEntry *entry;
    char *name = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_str(info, "node-name")[0] == '#') {
            g_assert_null(name);
            name = g_strdup(qdict_get_str(info, "node-name"));
        }
    }
    qobject_unref(rsp);
    g_assert_nonnull(name);
    return name;
}

static void add_without_id(VblkMachine *m, const char *drive)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'device_add', 'arguments':"
                             " {'driver': 'virtio-blk-pci', 'drive': %s,"
                             "  'share-rw': true, 'num-queues': 1,"
                             "  'iothreads': '1'}}", drive);
}

/* Without an ID, the names begin with the drive or with the type. */
static void test_names_without_id(const VblkVariant *v)
{
    VblkMachine *m = vblk_machine_start(v,
                                        "-object iothread,id=mine-2-iothread0 "
                                        "-drive if=none,id=old,driver=null-co "
                                        "-blockdev raw,node-name=mine,"
                                        "file.driver=null-co");
    g_autofree char *unnamed = NULL;

    add_without_id(m, "old");
    check_names(m, "mine-2-iothread0 old-iothread0");
    add_without_id(m, "mine");
    check_names(m, "mine-2-iothread0 mine-iothread0 old-iothread0");
    add_without_id(m, "mine");
    check_names(m, "mine-2-iothread0 mine-3-iothread0 mine-iothread0 "
                "old-iothread0");
    vblk_machine_stop(m);

    m = vblk_machine_start(v, "-blockdev raw,node-name=mine,"
                           "file.driver=null-co");
    unnamed = unnamed_node(m);
    add_without_id(m, unnamed);
    add_without_id(m, unnamed);
    check_names(m, "virtio-blk-2-iothread0 virtio-blk-iothread0");
    vblk_machine_stop(m);
}

/* The device deletes the IOThreads that it has made, and only those. */
static void test_deleted(const VblkVariant *v)
{
    VblkMachine *m = vblk_machine_start(v, DISK "-object iothread,id=io0");
    int tid[2];

    for (unsigned round = 0; round < 2; round++) {
        g_assert_cmpstr(vblk_device_add(m, 0, TWO_OWN), ==, NULL);
        check_names(m, "disk0-iothread0 disk0-iothread1 io0");
        check_users(m, "io0");
        tid[0] = vblk_iothread_tid(m->qts, "disk0-iothread0");
        tid[1] = vblk_iothread_tid(m->qts, "disk0-iothread1");
        check_error(m, "{'execute': 'object-del',"
                    " 'arguments': {'id': 'disk0-iothread0'}}",
                    "object 'disk0-iothread0' is in use, can not be deleted");
        check_error(m, "{'execute': 'object-del',"
                    " 'arguments': {'id': 'disk0-iothread1'}}",
                    "object 'disk0-iothread1' is in use, can not be deleted");
        check_works(m);
        vblk_device_del(m, 0);
        check_names(m, "io0");
        g_assert_false(thread_runs(m, tid[0]));
        g_assert_false(thread_runs(m, tid[1]));
    }
    /* A user's own is not held back, as ever. */
    object_del(m, "io0");
    vblk_machine_stop(m);
}

/* JSON may give the number as a number or as a string. */
static void test_json(const VblkVariant *v)
{
    static const struct {
        const char *value;
        const char *error;      /* or NULL: it makes two */
    } cases[] = {
        { "2" },
        { "'2'" },
        { "0", "invalid iothreads property '0'" },
        { "-1", "invalid iothreads property '-1'" },
        { "3", "iothreads property (3) must not be larger than the number of "
          "queues (2)" },
        { "1.5", "Invalid parameter type for 'iothreads', expected: integer" },
        { "18446744073709551615", "Invalid parameter type for 'iothreads', "
          "expected: integer" },
        { "true", "Invalid parameter type for 'iothreads', expected: number "
          "or string" },
        { "null", "Invalid parameter type for 'iothreads', expected: number "
          "or string" },
        { "[2]", "Invalid parameter type for 'iothreads', expected: number "
          "or string" },
        { "{'n': 2}", "Invalid parameter type for 'iothreads', expected: "
          "number or string" },
    };
    VblkMachine *m = vblk_machine_start(v, DISK);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *json =
            g_strdup_printf("'drive': 'disk', 'num-queues': 2,"
                            "'iothreads': %s", cases[i].value);
        g_autofree char *error = vblk_device_add(m, 0, json);

        g_test_message("iothreads: %s", cases[i].value);
        g_assert_cmpstr(error, ==, cases[i].error);
        check_names(m, error ? "" : "disk0-iothread0 disk0-iothread1");
        if (!error) {
            vblk_device_del(m, 0);
        }
    }
    vblk_machine_stop(m);
}

/* On the command line, as an option, in JSON and for all by -global. */
static void test_command_line(const VblkVariant *v)
{
    static const char *const args[] = {
        "-device virtio-blk-pci,id=x,drive=disk,num-queues=4,iothreads=2",
        "-device '{\"driver\": \"virtio-blk-pci\", \"id\": \"x\","
        " \"drive\": \"disk\", \"num-queues\": 4, \"iothreads\": 2}'",
        "-global virtio-blk-pci.iothreads=2 "
        "-device virtio-blk-pci,id=x,drive=disk,num-queues=4",
        "-global virtio-blk-device.iothreads=2 "
        "-device virtio-blk-pci,id=x,drive=disk,num-queues=4",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(args); i++) {
        VblkMachine *m = vblk_machine_start(v, DISK "%s", args[i]);
        QDict *rsp;

        g_test_message("%s", args[i]);
        check_names(m, "x-iothread0 x-iothread1");
        check_users(m, "");
        rsp = qtest_qmp(m->qts, "{'execute': 'qom-get', 'arguments':"
                        " {'path': 'x', 'property': 'iothreads'}}");
        g_assert_cmpstr(qdict_get_try_str(rsp, "return"), ==, "2");
        qobject_unref(rsp);
        vblk_machine_stop(m);
    }
}

/* A job runs where the node is, and comes to its end there. */
static void run_job(VblkMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-add',"
                             " 'arguments': {'driver': 'null-co',"
                             " 'node-name': 'copy', 'size': 1048576}}");
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-mirror',"
                             " 'arguments': {'device': 'disk', 'job-id': 'j',"
                             " 'target': 'copy', 'sync': 'full'}}");
    qtest_qmp_eventwait(m->qts, "BLOCK_JOB_READY");
    qtest_qmp_assert_success(m->qts, "{'execute': 'block-job-cancel',"
                             " 'arguments': {'device': 'j'}}");
    qtest_qmp_eventwait(m->qts, "BLOCK_JOB_COMPLETED");
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'copy'}}");
}

/* An export keeps the node, and so the IOThread, when the disk goes. */
static void test_kept_by_export(const VblkVariant *v)
{
    g_autofree char *dir = g_dir_make_tmp("mq-export-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    VblkMachine *m = vblk_machine_start(v, DISK
                                        "-blockdev null-co,node-name=other");
    gint64 start;
    int tid;

    g_assert_cmpstr(vblk_device_add(m, 0, TWO_OWN ", 'share-rw': true"), ==,
                    NULL);
    check_works(m);
    tid = vblk_iothread_tid(m->qts, "disk0-iothread0");
    qtest_qmp_assert_success(m->qts, "{'execute': 'nbd-server-start',"
                             " 'arguments': {'addr': {'type': 'unix', 'data':"
                             " {'path': %s}}}}", path);
    qtest_qmp_assert_success(m->qts, "{'execute': 'block-export-add',"
                             " 'arguments': {'type': 'nbd', 'id': 'export',"
                             " 'node-name': 'disk', 'fixed-iothread': true,"
                             " 'iothread': 'disk0-iothread0'}}");
    vblk_device_del(m, 0);
    check_names(m, "");
    g_assert_true(thread_runs(m, tid));
    run_job(m);

    /* The name is free for the next one. */
    g_assert_cmpstr(vblk_device_add(m, 0, "'drive': 'other', 'num-queues': 2,"
                                    "'iothreads': '2'"), ==, NULL);
    check_names(m, "disk0-iothread0 disk0-iothread1");
    g_assert_cmpint(vblk_iothread_tid(m->qts, "disk0-iothread0"), !=, tid);
    run_job(m);
    vblk_device_del(m, 0);

    qtest_qmp_assert_success(m->qts, "{'execute': 'block-export-del',"
                             " 'arguments': {'id': 'export'}}");
    qtest_qmp_eventwait(m->qts, "BLOCK_EXPORT_DELETED");
    start = g_get_monotonic_time();
    while (thread_runs(m, tid)) {
        qtest_readb(m->qts, 0);
        vblk_deadline(start, "an IOThread that nobody needs");
    }
    run_job(m);
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'disk'}}");
    vblk_machine_stop(m);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("own-iothreads/name-taken", test_name_taken, VBLK_BOTH);
    vblk_test_add("own-iothreads/name-taken-at-start", test_name_taken_at_start,
                  VBLK_BOTH);
    /* The bus of the other machine takes no device later. */
    vblk_test_add("own-iothreads/names-without-id", test_names_without_id,
                  VBLK_PC_LEGACY | VBLK_PC_MODERN);
    vblk_test_add("own-iothreads/deleted", test_deleted, VBLK_BOTH);
    vblk_test_add("own-iothreads/json", test_json, VBLK_BOTH);
    vblk_test_add("own-iothreads/command-line", test_command_line,
                  VBLK_PC_MODERN);
    vblk_test_add("own-iothreads/kept-by-export", test_kept_by_export,
                  VBLK_BOTH);
    return g_test_run();
}
