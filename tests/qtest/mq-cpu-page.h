/*
 * Where the guest of mq-cpu.S and its test meet: offsets in a CPU's page
 *
 * Included by C and by the assembler.  All words are little endian; a far
 * pointer has its offset in the low half and its segment in the high one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_CPU_PAGE_H
#define MQ_CPU_PAGE_H

/* Pages of the CPUs, by APIC ID: guest memory below 1 MiB, as segments */
#define MQ_PAGE_SEGMENT 0x1000
#define MQ_PAGE_SHIFT 13
#define MQ_PAGE_SIZE (1 << MQ_PAGE_SHIFT)

/* One operation: the test writes @OP last, the guest clears it when done. */
#define MQ_PAGE_OP 0x00
#define MQ_PAGE_ADDR 0x04               /* port, far pointer or MSR */
#define MQ_PAGE_VALUE 0x08              /* 64 bits */

#define MQ_OP_OUTB 1
#define MQ_OP_OUTW 2
#define MQ_OP_OUTL 3
#define MQ_OP_POKEW 4
#define MQ_OP_WRMSR 5
#define MQ_OP_DRIVE 6
#define MQ_OP_STORM 7

/* State, written by the guest */
#define MQ_PAGE_BOOTS 0x10              /* how often this CPU has begun */
#define MQ_PAGE_FAULT 0x14              /* an exception's vector + 0x100 */
#define MQ_PAGE_X2APIC 0x18             /* 1 when in x2APIC mode */
#define MQ_PAGE_ISR_SEEN 0x1c           /* all bits of the interrupt status */

/* For interrupts by INTx: where the interrupt status is */
#define MQ_PAGE_ISR_ADDR 0x20           /* port or far pointer */
#define MQ_PAGE_ISR_KIND 0x24
#define MQ_ISR_NONE 0
#define MQ_ISR_PORT 1
#define MQ_ISR_MEMORY 2

/* For MQ_OP_DRIVE and MQ_OP_STORM, which go on until told to stop */
#define MQ_PAGE_STOP 0x28               /* 1 asks the guest to come to an end */
#define MQ_PAGE_QUEUES 0x2c             /* entries used in the table below */
#define MQ_PAGE_TURNS 0x30              /* rounds of a storm */
#define MQ_PAGE_KICKS 0x34              /* notifications */

/* Interrupts and exceptions by vector, 32 bits each */
#define MQ_PAGE_COUNTS 0x400

/* Queues that the guest drives: 32 bytes each */
#define MQ_PAGE_TABLE 0x800
#define MQ_PAGE_TABLE_ENTRIES 64
#define MQ_DRIVE_SIZE 32
#define MQ_DRIVE_AVAIL 0                /* segment of the available ring */
#define MQ_DRIVE_USED 2                 /* segment of the used ring */
#define MQ_DRIVE_BELL 4                 /* port, or far pointer */
#define MQ_DRIVE_BELL_KIND 8
#define MQ_DRIVE_QUEUE 10               /* the queue's number */
#define MQ_DRIVE_COUNT 12               /* offset of its vector's count */
#define MQ_DRIVE_SEEN 14                /* of that count, when last looked at */
#define MQ_DRIVE_INDEX 16               /* of the available ring */
#define MQ_DRIVE_BATCH 18               /* requests at a time */
#define MQ_DRIVE_USED_EVENT 20          /* offset in AVAIL, 0 for none */
#define MQ_DRIVE_AVAIL_EVENT 22         /* offset in USED */
#define MQ_DRIVE_IDLE 24                /* 1 when it has come to an end */
#define MQ_DRIVE_TURNS 28               /* batches answered, 32 bits */

#define MQ_BELL_PORT 0
#define MQ_BELL_MEMORY 1

/* Vectors below are exceptions, those from the PICs, those of APICs. */
#define MQ_VECTOR_PIC 0x20
#define MQ_VECTOR_APIC 0x30

/* Sent by the test to wake a CPU that has halted for want of work */
#define MQ_VECTOR_WAKE 0x30

/* Every boot begins with MQ_HELLO to this port, for isa-debug-exit. */
#define MQ_HELLO_PORT 0xf4
#define MQ_HELLO_PORT_STR "0xf4"
#define MQ_HELLO 0x2a

#endif
