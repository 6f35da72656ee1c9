/*
 * Comparing what QEMU answers, field by field
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "vblk-answer.h"

static bool is_nothing(QObject *obj)
{
    const QDictEntry *e;

    switch (qobject_type(obj)) {
    case QTYPE_QNUM:
        return qnum_get_double(qobject_to(QNum, obj)) == 0;
    case QTYPE_QBOOL:
        return !qbool_get_bool(qobject_to(QBool, obj));
    case QTYPE_QLIST:
        return qlist_empty(qobject_to(QList, obj));
    case QTYPE_QDICT:
        for (e = qdict_first(qobject_to(QDict, obj)); e;
             e = qdict_next(qobject_to(QDict, obj), e)) {
            if (!is_nothing(qdict_entry_value(e))) {
                return false;
            }
        }
        return true;
    default:
        return false;
    }
}

static char *field_text(QObject *obj)
{
    g_autoptr(GString) text = obj ? qobject_to_json(obj) : NULL;

    return g_strdup(text ? text->str : "nothing");
}

static char *diff_values(const char *path, QObject *got, QObject *want)
{
    g_autofree char *got_text = field_text(got);
    g_autofree char *want_text = field_text(want);

    if (qobject_is_equal(got, want)) {
        return NULL;
    }
    return g_strdup_printf("%s is %s, not %s", path, got_text, want_text);
}

static char *diff_dicts(const char *path, QDict *got, QDict *want,
                        VblkAnswerRule rule)
{
    const QDictEntry *e;

    for (e = qdict_first(got); e; e = qdict_next(got, e)) {
        QObject *wanted = qdict_get(want, e->key);
        g_autofree char *field = g_strdup_printf("%s.%s", path, e->key);
        char *diff = NULL;

        if (wanted || !is_nothing(e->value) ||
            rule != VBLK_ANSWER_REST_IS_ZERO) {
            diff = vblk_answer_diff(field, e->value, wanted, rule);
        }
        if (diff) {
            return diff;
        }
    }
    for (e = qdict_first(want); e; e = qdict_next(want, e)) {
        g_autofree char *field = g_strdup_printf("%s.%s", path, e->key);

        if (!qdict_haskey(got, e->key)) {
            return diff_values(field, NULL, e->value);
        }
    }
    return NULL;
}

static char *diff_lists(const char *path, QList *got, QList *want,
                        VblkAnswerRule rule)
{
    const QListEntry *g = qlist_first(got);
    const QListEntry *w = qlist_first(want);
    char *diff = NULL;

    for (unsigned i = 0; !diff && (g || w); i++) {
        g_autofree char *field = g_strdup_printf("%s[%u]", path, i);

        diff = vblk_answer_diff(field, g ? g->value : NULL, w ? w->value : NULL,
                                rule);
        g = g ? qlist_next(g) : NULL;
        w = w ? qlist_next(w) : NULL;
    }
    return diff;
}

char *vblk_answer_diff(const char *path, QObject *got, QObject *want,
                       VblkAnswerRule rule)
{
    if (qobject_to(QDict, got) && qobject_to(QDict, want)) {
        return diff_dicts(path, qobject_to(QDict, got),
                          qobject_to(QDict, want), rule);
    }
    if (qobject_to(QList, got) && qobject_to(QList, want)) {
        return diff_lists(path, qobject_to(QList, got),
                          qobject_to(QList, want), rule);
    }
    return diff_values(path, got, want);
}
