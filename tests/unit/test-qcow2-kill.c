/*
 * A process that writes to a qcow2 image in a file ends at any moment
 *
 *      this program                    itself, started with --child
 *      ------------                    ----------------------------
 *      makes an image
 *      starts the child, waits         opens the image, writes to it; kills
 *                                      itself before some request, while others
 *                                      are in flight
 *      opens the image: no cluster is
 *      used too often, all is there
 *      that was flushed
 *
 * Both map one file that says what the sectors may have.  With '-m slow' the
 * test takes minutes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "qcow2-hammer.h"

#define KILLS           12
#define KILLS_SLOW      200
#define REQUESTS        100

static char *program;

/*
 * Both
 */

static BlockBackend *open_file(const char *path)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_int(options, "l2-cache-size", 16 * 512);
    qdict_put_int(options, "l2-cache-entry-size", 512);
    qdict_put_str(options, "file.driver", "file");
    qdict_put_str(options, "file.filename", path);
#ifdef CONFIG_LINUX_IO_URING
    qdict_put_str(options, "file.aio", "io_uring");
#endif
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                        &error_abort);
}

static TestSector *map_sectors(const char *path)
{
    int fd = open(path, O_RDWR);
    TestSector *sectors;

    g_assert(fd >= 0);
    sectors = mmap(NULL, DISK_SECTORS * sizeof(TestSector),
                   PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert(sectors != MAP_FAILED);
    close(fd);
    return sectors;
}

/*
 * The child
 */

static int left;        /* requests until the end */

static void child_request(TestImage *image)
{
    if (qatomic_fetch_dec(&left) == 1) {
        kill(getpid(), SIGKILL);
    }
}

/* --child IMAGE SECTORS SEED REQUESTS */
static int child(char **argv)
{
    TestImage image = {
        .sectors = map_sectors(argv[3]),
        .size = DISK_BYTES,
        .requests = REQUESTS,
        .request = child_request,
    };
    int seed;

    g_assert(qemu_strtoi(argv[4], NULL, 10, &seed) == 0);
    g_assert(qemu_strtoi(argv[5], NULL, 10, &left) == 0);
    image_use(&image, open_file(argv[2]));
    image_load(&image, seed, NULL);
    blk_unref(image.blk);
    return 0;
}

/*
 * The test
 */

/*
 * A process's requests in io_uring may outlive it.  They keep the image's lock,
 * as they keep the file.
 */
static void wait_for_requests(const char *path)
{
    struct flock whole_file = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd = open(path, O_RDWR);

    g_assert(fd >= 0);
    g_assert(fcntl(fd, F_OFD_SETLKW, &whole_file) == 0);
    close(fd);
}

/* Run the child.  Return whether it was killed and did not end by itself. */
static bool run_child(const char *path, const char *known, int seed,
                      int requests)
{
    g_autofree char *seed_arg = g_strdup_printf("%d", seed);
    g_autofree char *requests_arg = g_strdup_printf("%d", requests);
    const char *argv[] = {
        program, "--child", path, known, seed_arg, requests_arg, NULL,
    };
    int status;
    GPid pid;

    g_assert(g_spawn_async(NULL, (char **)argv, NULL,
                           G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL));
    g_assert(waitpid(pid, &status, 0) == pid);
    g_spawn_close_pid(pid);
    if (WIFSIGNALED(status)) {
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
        return true;
    }
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    return false;
}

static char *new_file(const char *name, int64_t size)
{
    char *path;
    int fd = g_file_open_tmp(name, &path, NULL);

    g_assert(fd >= 0);
    g_assert(ftruncate(fd, size) == 0);
    close(fd);
    return path;
}

/* The image after a failure, or after all requests of a child. */
static void image_survey(TestImage *image, bool killed)
{
    image_keep(image);
    if (!killed) {
        for (int i = 0; i < DISK_SECTORS; i++) {
            image->kept[i].flushed = image->kept[i].started;
        }
    }
    image_check(image, BDRV_FIX_LEAKS);
    image_recover(image);
    image_verify(image);
}

static void test_kill(gconstpointer options)
{
    g_autofree char *path = new_file("qcow2-kill-XXXXXX", 0);
    g_autofree char *known = new_file("qcow2-sectors-XXXXXX",
                                      DISK_SECTORS * sizeof(TestSector));
    g_autofree char *opts = g_strdup(options);
    GRand *rand = g_rand_new_with_seed(11);
    int kills = g_test_slow() ? KILLS_SLOW : KILLS;
    int killed = 0;
    TestImage image = {
        .sectors = map_sectors(known),
        .kept = g_new0(TestSector, DISK_SECTORS),
        .size = DISK_BYTES,
    };

    bdrv_img_create(path, "qcow2", NULL, NULL, opts, DISK_BYTES, 0, true,
                    &error_abort);
    for (int i = 0; i < kills; i++) {
        int requests = g_rand_int_range(rand, 1, REQUESTS * THREADS * DEPTH);
        bool end = run_child(path, known, 1000 * i, requests);

        killed += end;
        wait_for_requests(path);
        image_use(&image, open_file(path));
        image_survey(&image, end);
        image_thin(&image, rand);
        blk_unref(image.blk);
    }
    g_assert_cmpint(killed, >, kills / 2);
    g_rand_free(rand);
    munmap(image.sectors, DISK_SECTORS * sizeof(TestSector));
    g_free(image.kept);
    unlink(path);
    unlink(known);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    program = argv[0];
    if (argc == 6 && g_str_equal(argv[1], "--child")) {
        return child(argv);
    }

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2-kill/plain", "cluster_size=4096", test_kill);
    g_test_add_data_func("/qcow2-kill/subclusters",
                         "cluster_size=16384,extended_l2=on", test_kill);
    return g_test_run();
}
