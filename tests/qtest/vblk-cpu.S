/*
 * A guest for tests: some hundred bytes of real mode code in a 64 KiB ROM
 *
 *     reset or SIPI -> x2APIC mode -> wait for an operation in the CPU's page
 *     interrupt     -> count its vector there, end of interrupt
 *
 * An operation is one access to a port, to memory or to an MSR.  The operation
 * "drive" keeps queues busy, as a driver with interrupts does, until the test
 * stops it.  The operation "storm" only kicks.
 *
 * The code is in real mode, because every KVM runs it, at least by emulation.
 * DS and SS are always the segment of this CPU's page, see vblk-cpu-page.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vblk-cpu-page.h"

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_X2APIC 0xc00
#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_SPURIOUS 0x80f
#define MSR_X2APIC_LINT0 0x835
#define APIC_ENABLED 0x1ff
#define LINT0_EXTINT 0x700
#define CPUID_X2APIC 21

#define PIC_MASTER 0x20
#define PIC_SLAVE 0xa0
#define PIC_EOI 0x20

#define USED_NO_NOTIFY 1

/* Bytes from one interrupt's entry to the next one's */
#define ENTRY_SIZE 8

        .code16
        .text
        .globl _start

/* A SIPI begins here, at the start of a page; so does the reset vector. */
_start:
        cli
        cld
        mov     $1, %eax
        cpuid
        shr     $24, %ebx
        shl     $VBLK_PAGE_SHIFT - 4, %bx
        add     $VBLK_PAGE_SEGMENT, %bx
        mov     %bx, %ds
        mov     %bx, %ss
        mov     $VBLK_PAGE_SIZE, %sp
        mov     %ecx, %ebp

/* Fill in the interrupt table: every CPU writes the same. */
        xor     %ax, %ax
        mov     %ax, %es
        xor     %di, %di
        mov     $entries, %ax
        mov     $256, %cx
1:      mov     %ax, %es:(%di)
        mov     %cs, %es:2(%di)
        add     $ENTRY_SIZE, %ax
        add     $4, %di
        loop    1b

        mov     $VBLK_HELLO, %al
        out     %al, $VBLK_HELLO_PORT

/*
 * Set the vectors of the PICs and mask them, because the timer is running.
 * Only the first CPU does this: meanwhile they are unmasked, and the CPU that
 * takes their interrupts must not be at work already.
 */
        mov     %ds, %ax
        cmp     $VBLK_PAGE_SEGMENT, %ax
        jne     2f
        mov     $pic_setup, %si
1:      mov     %cs:(%si), %ax
        movzbw  %al, %dx
        mov     %ah, %al
        out     %al, %dx
        add     $2, %si
        cmp     $pic_setup_end, %si
        jb      1b

2:      movl    $0, VBLK_PAGE_X2APIC
        bt      $CPUID_X2APIC, %ebp
        jnc     1f
        mov     $MSR_APIC_BASE, %ecx
        rdmsr
        or      $APIC_BASE_X2APIC, %eax
        wrmsr
        mov     $MSR_X2APIC_SPURIOUS, %ecx
        mov     $APIC_ENABLED, %eax
        xor     %edx, %edx
        wrmsr
        mov     $MSR_X2APIC_LINT0, %ecx
        mov     $LINT0_EXTINT, %eax
        wrmsr
        movl    $1, VBLK_PAGE_X2APIC
1:      movl    $0, VBLK_PAGE_OP
        incl    VBLK_PAGE_BOOTS
        sti

/*
 * Without work, halt; the test sends VBLK_VECTOR_WAKE.  STI takes effect after
 * HLT has begun, so no wake-up is lost.  Without an APIC there is none to send.
 */
idle:
        cli
        mov     VBLK_PAGE_OP, %eax
        test    %eax, %eax
        jnz     work
        cmpl    $0, VBLK_PAGE_X2APIC
        je      1f
        sti
        hlt
        jmp     idle
1:      sti
        pause
        jmp     idle

work:
        sti
        mov     %ax, %bx
        shl     $1, %bx
        mov     VBLK_PAGE_ADDR, %edx
        mov     VBLK_PAGE_VALUE, %eax
        call    *%cs:operations(%bx)
        movl    $0, VBLK_PAGE_OP
        jmp     idle

/* Port and value: ICW1 to ICW4, then the mask, for each PIC */
pic_setup:
        .byte   PIC_MASTER, 0x11, PIC_MASTER + 1, VBLK_VECTOR_PIC
        .byte   PIC_MASTER + 1, 0x04, PIC_MASTER + 1, 0x01
        .byte   PIC_MASTER + 1, 0xff
        .byte   PIC_SLAVE, 0x11, PIC_SLAVE + 1, VBLK_VECTOR_PIC + 8
        .byte   PIC_SLAVE + 1, 0x02, PIC_SLAVE + 1, 0x01
        .byte   PIC_SLAVE + 1, 0xff
pic_setup_end:

        .balign 2
operations:
        .word   op_none
        .word   op_outb
        .word   op_outw
        .word   op_outl
        .word   op_pokew
        .word   op_wrmsr
        .word   op_drive
        .word   op_storm

op_none:
        ret
op_outb:
        out     %al, %dx
        ret
op_outw:
        out     %ax, %dx
        ret
op_outl:
        out     %eax, %dx
        ret
op_pokew:
        les     VBLK_PAGE_ADDR, %di
        mov     %ax, %es:(%di)
        ret
op_wrmsr:
        mov     %edx, %ecx
        mov     VBLK_PAGE_VALUE + 4, %edx
        wrmsr
        ret

/*
 * Drive: each queue has one batch in flight.  The CPU offers the next batch
 * when it has counted an interrupt since then, and the whole batch is used.
 * Only the interrupt wakes a queue, so a queue that loses one stands still.
 */
op_drive:
        mov     $VBLK_PAGE_TABLE, %bx
        mov     VBLK_PAGE_QUEUES, %cx
1:      movw    $0, VBLK_DRIVE_IDLE(%bx)
        call    offer
        add     $VBLK_DRIVE_SIZE, %bx
        loop    1b

drive_turn:
        mov     $VBLK_PAGE_TABLE, %bx
        mov     VBLK_PAGE_QUEUES, %cx
        xor     %bp, %bp                /* queues with a batch under way */
1:      cmpw    $0, VBLK_DRIVE_IDLE(%bx)
        jne     2f
        inc     %bp
        call    look
2:      add     $VBLK_DRIVE_SIZE, %bx
        loop    1b
        test    %bp, %bp
        jnz     drive_turn
        ret

/* Look at the queue at BX. */
look:
        mov     VBLK_DRIVE_COUNT(%bx), %si
        mov     (%si), %ax
        cmp     VBLK_DRIVE_SEEN(%bx), %ax
        je      1f
        mov     %ax, VBLK_DRIVE_SEEN(%bx)
        mov     VBLK_DRIVE_USED(%bx), %es
        mov     %es:2, %ax
        cmp     VBLK_DRIVE_INDEX(%bx), %ax
        jne     1f
        incl    VBLK_DRIVE_TURNS(%bx)
        cmpl    $0, VBLK_PAGE_STOP
        je      offer
        movw    $1, VBLK_DRIVE_IDLE(%bx)
1:      ret

/* Offer a batch on the queue at BX, and kick it if the device wants that. */
offer:
        mov     VBLK_DRIVE_AVAIL(%bx), %es
        mov     VBLK_DRIVE_INDEX(%bx), %dx      /* old index */
        mov     %dx, %ax
        add     VBLK_DRIVE_BATCH(%bx), %ax      /* new index */
        mov     VBLK_DRIVE_USED_EVENT(%bx), %di
        test    %di, %di
        jz      1f
        mov     %ax, %si
        dec     %si
        mov     %si, %es:(%di)
1:      mov     %ax, VBLK_DRIVE_INDEX(%bx)
        mov     %ax, %es:2
        lock addl $0, VBLK_PAGE_KICKS     # a full barrier
        mov     VBLK_DRIVE_USED(%bx), %es
        test    %di, %di
        jz      2f
        mov     VBLK_DRIVE_AVAIL_EVENT(%bx), %di
        mov     %ax, %si
        sub     %es:(%di), %si
        dec     %si                             /* new - event - 1 */
        sub     %dx, %ax                        /* new - old */
        cmp     %ax, %si
        jae     3f
        jmp     kick
2:      testw   $USED_NO_NOTIFY, %es:0
        jnz     3f
kick:
        incl    VBLK_PAGE_KICKS
        mov     VBLK_DRIVE_QUEUE(%bx), %ax
        cmpw    $VBLK_BELL_PORT, VBLK_DRIVE_BELL_KIND(%bx)
        jne     1f
        mov     VBLK_DRIVE_BELL(%bx), %dx
        out     %ax, %dx
        ret
1:      les     VBLK_DRIVE_BELL(%bx), %di
        mov     %ax, %es:(%di)
3:      ret

/* Storm: kick all queues of the table again and again, without need. */
op_storm:
        mov     $VBLK_PAGE_TABLE, %bx
        mov     VBLK_PAGE_QUEUES, %cx
1:      call    kick
        add     $VBLK_DRIVE_SIZE, %bx
        loop    1b
        incl    VBLK_PAGE_TURNS
        cmpl    $0, VBLK_PAGE_STOP
        je      op_storm
        ret

/* The entry of a vector takes its number and jumps to the common code. */
        .balign ENTRY_SIZE
entries:
        .set    vector, 0
        .rept   256
        pushw   $vector
        jmp     interrupt
        .balign ENTRY_SIZE
        .set    vector, vector + 1
        .endr

interrupt:
        push    %bp
        mov     %sp, %bp
        pushl   %eax
        push    %bx
        pushl   %ecx
        pushl   %edx
        push    %es
        mov     2(%bp), %bx
        shl     $2, %bx
        cmp     $VBLK_VECTOR_PIC * 4, %bx
        jb      exception
        cmp     $VBLK_VECTOR_APIC * 4, %bx
        jb      pic
        incl    VBLK_PAGE_COUNTS(%bx)
        mov     $MSR_X2APIC_EOI, %ecx
        xor     %eax, %eax
        xor     %edx, %edx
        wrmsr
interrupt_end:
        pop     %es
        popl    %edx
        popl    %ecx
        pop     %bx
        popl    %eax
        pop     %bp
        add     $2, %sp
        iret

/* INTx: reading the interrupt status lowers the line; then it is counted. */
pic:
        cmpw    $VBLK_ISR_PORT, VBLK_PAGE_ISR_KIND
        jb      2f
        jne     1f
        mov     VBLK_PAGE_ISR_ADDR, %dx
        in      %dx, %al
        or      %al, VBLK_PAGE_ISR_SEEN
        jmp     2f
1:      push    %di
        les     VBLK_PAGE_ISR_ADDR, %di
        mov     %es:(%di), %al
        pop     %di
        or      %al, VBLK_PAGE_ISR_SEEN
2:      mov     $PIC_EOI, %al
        out     %al, $PIC_SLAVE
        out     %al, $PIC_MASTER
        incl    VBLK_PAGE_COUNTS(%bx)
        jmp     interrupt_end

/* An error of the guest's; the test sees it and ends. */
exception:
        incl    VBLK_PAGE_COUNTS(%bx)
        shr     $2, %bx
        or      $0x100, %bx
        mov     %bx, VBLK_PAGE_FAULT
1:      cli
        hlt
        jmp     1b

        .org    0xfff0
        ljmp    $0xf000, $_start
        .org    0x10000
