/*
 * What Xen PV disks may take of a host: for a disk, a domain, the process
 *
 *     ring --take--> disk --> domain --> process       all of them, or none
 *
 * A ring takes from the budget when what it keeps grows and gives back when
 * that shrinks, many pieces at a time.  No request that finds what it needs
 * comes here.
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
    XEN_BLOCK_AREAS,            /* of the address space: "maps" of Linux */
    XEN_BLOCK_BUFFER_PAGES,     /* for the data of requests that are copied */
    XEN_BLOCK_NR_RESOURCES,
} XenBlockResource;

/* Budgets above each other: a disk's, a domain's, the process's. */
#define XEN_BLOCK_BUDGETS 3

typedef struct XenBlockBudget {
    struct XenBlockBudget *parent;
    unsigned limit[XEN_BLOCK_NR_RESOURCES];     /* read-only once in use */
    unsigned used[XEN_BLOCK_NR_RESOURCES];      /* atomic */
    unsigned refusals;          /* atomic: of grants, one more after a look */
    unsigned looked;            /* atomic: what the last look has found */

    /* A disk's: what its own last look has found in each. */
    unsigned seen[XEN_BLOCK_BUDGETS];
} XenBlockBudget;

/**
 * xen_block_budget_take: take @n of @what for @budget and all above it.  Any
 * thread.
 *
 * Returns: false, and nothing is taken, if one of them has too little left.
 */
bool xen_block_budget_take(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n);

/**
 * xen_block_budget_force: take though there may be nothing left: for the little
 * without which a ring could not go on at all.  Any thread.
 */
void xen_block_budget_force(XenBlockBudget *budget, XenBlockResource what,
                            unsigned n);

/** xen_block_budget_give: gives back what was taken.  Any thread. */
void xen_block_budget_give(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n);

/**
 * xen_block_budget_was_refused: was somebody refused grants, by @disk's budget
 * or by one above it, since the last call of this for @disk?  Under the BQL.
 *
 * Each disk that shares a budget hears of a refusal.
 */
bool xen_block_budget_was_refused(XenBlockBudget *disk);

/* A domain that has disks of this process. */
typedef struct XenBlockDomain {
    domid_t domid;
    unsigned users;
    XenBlockBudget budget;
    XenGuestLog log;            /* what the domain makes us say */
    QLIST_ENTRY(XenBlockDomain) next;
} XenBlockDomain;

/**
 * xen_block_domain_get: find or make the entry of @domid, to be given back with
 * xen_block_domain_put().
 *
 * The first one sets up the process's budget.  BQL.
 */
XenBlockDomain *xen_block_domain_get(domid_t domid);

/** xen_block_domain_put: ends one use of @domain, maybe the last.  BQL. */
void xen_block_domain_put(XenBlockDomain *domain);

#endif /* HW_BLOCK_XEN_BLOCK_BUDGET_H */
