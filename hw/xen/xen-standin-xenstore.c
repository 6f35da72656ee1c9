/*
 * Xen stand-in: xenstore, its nodes and transactions
 *
 *     nodes:  path -> value              one table, the committed state
 *        |  copied at the start
 *        v
 *     transaction: nodes, changes        committed whole, or EAGAIN if there
 *        |                               was another commit meanwhile
 *        v
 *     watches fire (xen-standin-watch.c)
 *
 * Permissions are accepted and ignored.  Every handle belongs to domain 0, so
 * relative paths start at the home of domain 0.
 *
 * Everything here runs under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/interface/io/xs_wire.h"
#include "qemu/main-loop.h"
#include "trace/trace-qemu_mq_hw_xen.h"
#include "xen-standin.h"

struct qemu_xs_handle {
    XenStandinWatches watches;
};

/* A change at @path; or @path was removed because its parent was removed */
typedef struct XsChange {
    char *path;
    bool exact;
} XsChange;

typedef struct XsTransaction {
    struct qemu_xs_handle *owner;
    GHashTable *nodes;
    GPtrArray *changes;
    uint64_t generation;
} XsTransaction;

static struct {
    GHashTable *nodes;          /* char *path -> GBytes *value */
    uint64_t generation;        /* the number of commits */
    GHashTable *transactions;   /* id -> XsTransaction * */
    uint32_t next_transaction;
    unsigned int conflicts;     /* the number of commits that are to fail */
} store;

/*
 * Paths, nodes and transactions
 */

/* Return the absolute form of @path, or NULL with errno set. */
static char *xs_path_resolve(const char *path)
{
    g_autofree char *abs = path[0] == '/' ? g_strdup(path)
                                          : g_strconcat(XEN_STANDIN_HOME, path,
                                                      NULL);
    const char *c;

    if (strlen(abs) > XENSTORE_ABS_PATH_MAX) {
        errno = EINVAL;
        return NULL;
    }
    for (c = abs; *c; c++) {
        bool slash = *c == '/' && (c[1] == '/' || (!c[1] && c != abs));

        if (slash || !(g_ascii_isalnum(*c) || strchr("-/_@", *c))) {
            errno = EINVAL;
            return NULL;
        }
    }
    return g_steal_pointer(&abs);
}

static GHashTable *xs_nodes_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                 (GDestroyNotify)g_bytes_unref);
}

static GHashTable *xs_nodes_copy(GHashTable *from)
{
    GHashTable *to = xs_nodes_new();
    GHashTableIter iter;
    gpointer path, value;

    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &path, &value)) {
        g_hash_table_insert(to, g_strdup(path), g_bytes_ref(value));
    }
    return to;
}

static void xs_change_free(gpointer data)
{
    XsChange *change = data;

    g_free(change->path);
    g_free(change);
}

static void xs_transaction_free(gpointer data)
{
    XsTransaction *ta = data;

    g_hash_table_unref(ta->nodes);
    g_ptr_array_unref(ta->changes);
    g_free(ta);
}

static XsTransaction *xs_transaction_find(xs_transaction_t t)
{
    return g_hash_table_lookup(store.transactions, GUINT_TO_POINTER(t));
}

/* Return the nodes as transaction @t sees them, or NULL with errno set. */
static GHashTable *xs_nodes(xs_transaction_t t)
{
    XsTransaction *ta;

    GLOBAL_STATE_CODE();
    if (t == XBT_NULL) {
        return store.nodes;
    }
    ta = xs_transaction_find(t);
    if (!ta) {
        errno = ENOENT;
        return NULL;
    }
    return ta->nodes;
}

static void xs_changed(xs_transaction_t t, const char *path, bool exact)
{
    XsChange *change = g_new(XsChange, 1);

    change->path = g_strdup(path);
    change->exact = exact;
    if (t == XBT_NULL) {
        store.generation++;
        xen_standin_watches_fire(change->path, change->exact);
        xs_change_free(change);
    } else {
        g_ptr_array_add(xs_transaction_find(t)->changes, change);
    }
}

/* Set a node.  Make parents that do not exist, without an event for them. */
static void xs_node_set(GHashTable *nodes, const char *path, GBytes *value)
{
    char *parent = g_strdup(path);
    char *slash;

    g_hash_table_replace(nodes, g_strdup(path), value);
    while ((slash = strrchr(parent, '/')) && slash != parent) {
        *slash = '\0';
        if (!g_hash_table_contains(nodes, parent)) {
            g_hash_table_insert(nodes, g_strdup(parent),
                                g_bytes_new_static("", 0));
        }
    }
    g_free(parent);
}

void xen_standin_xenstore_init(unsigned int nested)
{
    store.nodes = xs_nodes_new();
    store.transactions = g_hash_table_new_full(g_direct_hash, g_direct_equal,
                                               NULL, xs_transaction_free);
    store.next_transaction = 1;
    xen_standin_watches_init(nested);
}

void xen_standin_xenstore_set_conflicts(unsigned int n)
{
    store.conflicts = n;
}

/*
 * The table of operations
 */

static struct qemu_xs_handle *xs_open_handle(void)
{
    struct qemu_xs_handle *h = g_new0(struct qemu_xs_handle, 1);

    xen_standin_watches_open(&h->watches);
    return h;
}

static gboolean xs_transaction_is_of(gpointer id, gpointer ta, gpointer h)
{
    return ((XsTransaction *)ta)->owner == h;
}

static void xs_close_handle(struct qemu_xs_handle *h)
{
    xen_standin_watches_close(&h->watches);
    g_hash_table_foreach_remove(store.transactions, xs_transaction_is_of, h);
    g_free(h);
}

/* The caller frees this with free(), as memory from libxenstore. */
static void *xs_malloc(size_t len)
{
    void *p = malloc(len);

    if (!p) {
        abort();
    }
    return p;
}

static char *xs_domain_path(struct qemu_xs_handle *h, unsigned int domid)
{
    g_autofree char *path = g_strdup_printf("/local/domain/%u", domid);

    return strcpy(xs_malloc(strlen(path) + 1), path);
}

/* Return the name of @path in @dir ("" for "/"), or NULL if it is no child. */
static const char *xs_child_name(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    if (!g_str_has_prefix(path, dir) || path[len] != '/' ||
        strchr(path + len + 1, '/')) {
        return NULL;
    }
    return path + len + 1;
}

static int xs_name_compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char **)a, *(const char **)b);
}

/* Return one block of memory with pointers and names, as xs_directory(). */
static char **xs_names_pack(GPtrArray *names, size_t len)
{
    char **list = xs_malloc(names->len * sizeof(char *) + len + 1);
    char *s = (char *)(list + names->len);
    unsigned int i;

    for (i = 0; i < names->len; i++) {
        list[i] = s;
        s = g_stpcpy(s, names->pdata[i]) + 1;
    }
    return list;
}

static char **xs_list(struct qemu_xs_handle *h, xs_transaction_t t,
                      const char *path, unsigned int *num)
{
    GHashTable *nodes = xs_nodes(t);
    g_autofree char *abs = xs_path_resolve(path);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    GHashTableIter iter;
    gpointer node;
    size_t len = 0;

    if (!nodes || !abs) {
        return NULL;
    }
    if (strcmp(abs, "/") && !g_hash_table_contains(nodes, abs)) {
        errno = ENOENT;
        return NULL;
    }
    g_hash_table_iter_init(&iter, nodes);
    while (g_hash_table_iter_next(&iter, &node, NULL)) {
        const char *name = xs_child_name(node, abs[1] ? abs : "");

        if (name) {
            g_ptr_array_add(names, (gpointer)name);
            len += strlen(name) + 1;
        }
    }
    g_ptr_array_sort(names, xs_name_compare);
    *num = names->len;
    return xs_names_pack(names, len);
}

static void *xs_read_node(struct qemu_xs_handle *h, xs_transaction_t t,
                          const char *path, unsigned int *len)
{
    GHashTable *nodes = xs_nodes(t);
    g_autofree char *abs = xs_path_resolve(path);
    GBytes *value;
    char *copy;
    gsize size;

    if (!nodes || !abs) {
        return NULL;
    }
    value = g_hash_table_lookup(nodes, abs);
    if (!value) {
        errno = ENOENT;
        return NULL;
    }
    size = g_bytes_get_size(value);
    copy = xs_malloc(size + 1);
    memcpy(copy, g_bytes_get_data(value, NULL) ?: "", size);
    copy[size] = '\0';
    if (len) {
        *len = size;
    }
    return copy;
}

static bool xs_write_node(struct qemu_xs_handle *h, xs_transaction_t t,
                          const char *path, const void *data, unsigned int len)
{
    GHashTable *nodes = xs_nodes(t);
    g_autofree char *abs = xs_path_resolve(path);

    if (!nodes || !abs) {
        return false;
    }
    if (len > XENSTORE_PAYLOAD_MAX) {
        errno = E2BIG;
        return false;
    }
    trace_xen_standin_xs_write(t, abs, len, data);
    xs_node_set(nodes, abs, g_bytes_new(data, len));
    xs_changed(t, abs, false);
    return true;
}

static bool xs_make_node(struct qemu_xs_handle *h, xs_transaction_t t,
                         unsigned int owner, unsigned int domid,
                         unsigned int perms, const char *path)
{
    GHashTable *nodes = xs_nodes(t);
    g_autofree char *abs = xs_path_resolve(path);

    if (!nodes || !abs) {
        return false;
    }
    if (!g_hash_table_contains(nodes, abs)) {
        xs_node_set(nodes, abs, g_bytes_new_static("", 0));
    }
    /* To set permissions causes an event, also if the node is not new. */
    xs_changed(t, abs, false);
    return true;
}

static bool xs_remove_node(struct qemu_xs_handle *h, xs_transaction_t t,
                           const char *path)
{
    GHashTable *nodes = xs_nodes(t);
    g_autofree char *abs = xs_path_resolve(path);
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer node;
    guint i;

    if (!nodes || !abs) {
        return false;
    }
    if (!g_hash_table_remove(nodes, abs)) {
        errno = ENOENT;
        return false;
    }
    trace_xen_standin_xs_remove(t, abs);
    g_hash_table_iter_init(&iter, nodes);
    while (g_hash_table_iter_next(&iter, &node, NULL)) {
        if (xen_standin_path_is_below(node, abs)) {
            g_ptr_array_add(gone, g_strdup(node));
            g_hash_table_iter_remove(&iter);
        }
    }
    xs_changed(t, abs, false);
    for (i = 0; i < gone->len; i++) {
        xs_changed(t, gone->pdata[i], true);
    }
    return true;
}

static struct qemu_xs_watch *xs_add_watch(struct qemu_xs_handle *h,
                                          const char *path, xs_watch_fn fn,
                                          void *opaque)
{
    g_autofree char *abs = xs_path_resolve(path);

    if (!abs) {
        return NULL;
    }
    return xen_standin_watch_add(&h->watches, abs, path[0] != '/', fn, opaque);
}

static void xs_drop_watch(struct qemu_xs_handle *h, struct qemu_xs_watch *w)
{
    xen_standin_watch_drop(w);
}

static xs_transaction_t xs_begin(struct qemu_xs_handle *h)
{
    XsTransaction *ta = g_new0(XsTransaction, 1);
    uint32_t id = store.next_transaction++;

    ta->owner = h;
    ta->nodes = xs_nodes_copy(store.nodes);
    ta->changes = g_ptr_array_new_with_free_func(xs_change_free);
    ta->generation = store.generation;
    g_hash_table_insert(store.transactions, GUINT_TO_POINTER(id), ta);
    return id;
}

static bool xs_transaction_conflicts(const XsTransaction *ta)
{
    if (store.conflicts) {
        store.conflicts--;
        return true;
    }
    return ta->generation != store.generation;
}

static void xs_transaction_commit(XsTransaction *ta)
{
    guint i;

    if (!ta->changes->len) {
        return;
    }
    g_hash_table_unref(store.nodes);
    store.nodes = g_hash_table_ref(ta->nodes);
    store.generation++;
    for (i = 0; i < ta->changes->len; i++) {
        XsChange *change = ta->changes->pdata[i];

        xen_standin_watches_fire(change->path, change->exact);
    }
}

static bool xs_end(struct qemu_xs_handle *h, xs_transaction_t t, bool abort)
{
    XsTransaction *ta = xs_transaction_find(t);
    bool conflict;

    if (!ta) {
        errno = ENOENT;
        return false;
    }
    conflict = !abort && xs_transaction_conflicts(ta);
    trace_xen_standin_xs_end(t, abort, conflict);
    if (!abort && !conflict) {
        xs_transaction_commit(ta);
    }
    g_hash_table_remove(store.transactions, GUINT_TO_POINTER(t));
    if (conflict) {
        errno = EAGAIN;
        return false;
    }
    return true;
}

struct xenstore_backend_ops xen_standin_xenstore_ops = {
    .open = xs_open_handle,
    .close = xs_close_handle,
    .get_domain_path = xs_domain_path,
    .directory = xs_list,
    .read = xs_read_node,
    .write = xs_write_node,
    .create = xs_make_node,
    .destroy = xs_remove_node,
    .watch = xs_add_watch,
    .unwatch = xs_drop_watch,
    .transaction_start = xs_begin,
    .transaction_end = xs_end,
};
