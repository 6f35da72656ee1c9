/*
 * Where the guest of vblk-cpu.S and its test meet: offsets in a CPU's page
 *
 * Included by C and by the assembler.  All words are little endian; a far
 * pointer has its offset in the low half and its segment in the high one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_CPU_PAGE_H
#define VBLK_CPU_PAGE_H

/* Pages of the CPUs, by APIC ID: guest memory below 1 MiB, as segments */
#define VBLK_PAGE_SEGMENT 0x1000
#define VBLK_PAGE_SHIFT 13
#define VBLK_PAGE_SIZE (1 << VBLK_PAGE_SHIFT)

/* One operation: the test writes @OP last, the guest clears it when done. */
#define VBLK_PAGE_OP 0x00
#define VBLK_PAGE_ADDR 0x04             /* port, far pointer or MSR */
#define VBLK_PAGE_VALUE 0x08            /* 64 bits */

#define VBLK_OP_OUTB 1
#define VBLK_OP_OUTW 2
#define VBLK_OP_OUTL 3
#define VBLK_OP_POKEW 4
#define VBLK_OP_WRMSR 5
#define VBLK_OP_DRIVE 6
#define VBLK_OP_STORM 7

/* State, written by the guest */
#define VBLK_PAGE_BOOTS 0x10            /* how often this CPU has begun */
#define VBLK_PAGE_FAULT 0x14            /* an exception's vector + 0x100 */
#define VBLK_PAGE_X2APIC 0x18           /* 1 when in x2APIC mode */
#define VBLK_PAGE_ISR_SEEN 0x1c         /* all bits of the interrupt status */

/* For interrupts by INTx: where the interrupt status is */
#define VBLK_PAGE_ISR_ADDR 0x20         /* port or far pointer */
#define VBLK_PAGE_ISR_KIND 0x24
#define VBLK_ISR_NONE 0
#define VBLK_ISR_PORT 1
#define VBLK_ISR_MEMORY 2

/* For VBLK_OP_DRIVE and VBLK_OP_STORM, which go on until told to stop */
#define VBLK_PAGE_STOP 0x28             /* 1 asks the guest to come to an end */
#define VBLK_PAGE_QUEUES 0x2c           /* entries used in the table below */
#define VBLK_PAGE_TURNS 0x30            /* rounds of a storm */
#define VBLK_PAGE_KICKS 0x34            /* notifications */

/* Interrupts and exceptions by vector, 32 bits each */
#define VBLK_PAGE_COUNTS 0x400

/* Queues that the guest drives: 32 bytes each */
#define VBLK_PAGE_TABLE 0x800
#define VBLK_PAGE_TABLE_ENTRIES 64
#define VBLK_DRIVE_SIZE 32
#define VBLK_DRIVE_AVAIL 0              /* segment of the available ring */
#define VBLK_DRIVE_USED 2               /* segment of the used ring */
#define VBLK_DRIVE_BELL 4               /* port, or far pointer */
#define VBLK_DRIVE_BELL_KIND 8
#define VBLK_DRIVE_QUEUE 10             /* the queue's number */
#define VBLK_DRIVE_COUNT 12             /* offset of its vector's count */
#define VBLK_DRIVE_SEEN 14              /* of that count, when last looked at */
#define VBLK_DRIVE_INDEX 16             /* of the available ring */
#define VBLK_DRIVE_BATCH 18             /* requests at a time */
#define VBLK_DRIVE_USED_EVENT 20        /* offset in AVAIL, 0 for none */
#define VBLK_DRIVE_AVAIL_EVENT 22       /* offset in USED */
#define VBLK_DRIVE_IDLE 24              /* 1 when it has come to an end */
#define VBLK_DRIVE_TURNS 28             /* batches answered, 32 bits */

#define VBLK_BELL_PORT 0
#define VBLK_BELL_MEMORY 1

/* Vectors below are exceptions, those from the PICs, those of APICs. */
#define VBLK_VECTOR_PIC 0x20
#define VBLK_VECTOR_APIC 0x30

/* Sent by the test to wake a CPU that has halted for want of work */
#define VBLK_VECTOR_WAKE 0x30

/* Every boot begins with VBLK_HELLO to this port, for isa-debug-exit. */
#define VBLK_HELLO_PORT 0xf4
#define VBLK_HELLO_PORT_STR "0xf4"
#define VBLK_HELLO 0x2a

#endif
