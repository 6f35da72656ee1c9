/*
 * Limits for the resources that Xen PV disks use: per disk, domain and process
 *
 *     queue --take--> disk --> domain --> process       all of them, or none
 *
 * A queue keeps resources and reuses them.  It takes more from the budget when
 * it needs more, and gives some back when it needs less, many pieces at a
 * time.  A request that finds a resource in its queue does not touch the
 * budget.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_BUDGET_H
#define HW_BLOCK_XEN_BLOCK_BUDGET_H

#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/xen-guest-log.h"
#include "qemu/queue.h"

typedef enum XenBlockResource {
    XEN_BLOCK_GRANTS,           /* grants that are mapped */
    XEN_BLOCK_AREAS,            /* areas of the address space: Linux's "maps" */
    XEN_BLOCK_BUFFER_PAGES,     /* pages for data that is copied */
    XEN_BLOCK_NR_RESOURCES,
} XenBlockResource;

/* Levels of budgets: the disk's, the domain's, the process's. */
#define XEN_BLOCK_BUDGETS 3

typedef struct XenBlockBudget {
    struct XenBlockBudget *parent;
    unsigned limit[XEN_BLOCK_NR_RESOURCES];     /* read-only once in use */
    unsigned used[XEN_BLOCK_NR_RESOURCES];      /* atomic */
    unsigned refusals;          /* atomic; grows if grants were refused */
    unsigned looked;            /* atomic; @refusals at the last look */

    /* Only in a disk's: @refusals of each level at this disk's last look. */
    unsigned seen[XEN_BLOCK_BUDGETS];
} XenBlockBudget;

/**
 * xen_block_budget_take: take @n pieces of @what from @budget and from all
 * budgets above it.
 *
 * Context: any thread.
 *
 * Returns: true, or false with nothing taken if one of them has too little
 * left.
 */
bool xen_block_budget_take(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n);

/**
 * xen_block_budget_force: take @n pieces even if too little is left.
 *
 * This is for the few pieces without which a queue could not go on at all.
 *
 * Context: any thread.
 */
void xen_block_budget_force(XenBlockBudget *budget, XenBlockResource what,
                            unsigned n);

/** xen_block_budget_give: give @n pieces back.  Context: any thread. */
void xen_block_budget_give(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n);

/**
 * xen_block_budget_was_refused: return whether a queue was refused grants since
 * the last call for @disk.
 * @disk: a disk's budget
 *
 * A refusal counts if it was by this budget or by one above it.  So each disk
 * below a budget learns of its refusals.
 *
 * Context: BQL.
 */
bool xen_block_budget_was_refused(XenBlockBudget *disk);

/* A domain that has disks of this process. */
typedef struct XenBlockDomain {
    domid_t domid;
    unsigned users;
    XenBlockBudget budget;
    XenGuestLog log;            /* bounds the lines that the domain causes */
    QLIST_ENTRY(XenBlockDomain) next;
} XenBlockDomain;

/**
 * xen_block_domain_get: find or make the entry of @domid.
 *
 * The first call also sets up the process's budget.
 *
 * Context: BQL.
 *
 * Returns: the entry, to be given back with xen_block_domain_put().
 */
XenBlockDomain *xen_block_domain_get(domid_t domid);

/** xen_block_domain_put: give a domain's entry back.  Context: BQL. */
void xen_block_domain_put(XenBlockDomain *domain);

#endif /* HW_BLOCK_XEN_BLOCK_BUDGET_H */
