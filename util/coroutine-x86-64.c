/*
 * Coroutines on x86-64: a switch is a dozen instructions
 *
 *      thread's stack           coroutine's stack
 *     .              .         .                 .
 *     | caller       |         | 0               |  end of a backtrace
 *     | rip          |         | coroutine_start |  where a new one begins
 *     | rbp rbx      |         | 0 0             |
 *     | r12 r13      |         | 0 0             |
 *     | r14 r15      | <- sp   | 0 0             | <- sp
 *     '--------------'         '-----------------'
 *
 * The side that switches away pushes the registers that the ABI preserves and
 * stores its stack pointer.  The side that is switched to pops them.  A request
 * switches two to four times.  With sigsetjmp() and siglongjmp(), as in the
 * portable backends, each time costs some 90 instructions, most of them in libc
 * for what coroutines do not use.  A new coroutine is a stack that looks as if
 * it had switched away at its first instruction, so none of ucontext's system
 * calls is needed to make one.
 *
 * With shadow stacks (-fcf-protection=return), SafeStack or a sanitizer the
 * build takes another backend, because these have to be told of each switch.
 * The control words of x87 and SSE belong to the thread, as with the other
 * backends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/coroutine_int.h"
#include "qemu/coroutine-tls.h"

#ifdef CONFIG_VALGRIND_H
#include <valgrind/valgrind.h>
#endif

/* What a switch saves on the stack; scripts/qemugdb/coroutine.py reads it. */
typedef struct SavedRegisters {
    uint64_t r15, r14, r13, r12, rbx, rbp, rip;
} SavedRegisters;

/* The switch stores pointers as 64-bit registers, so x32 cannot use it. */
QEMU_BUILD_BUG_ON(sizeof(void *) != sizeof(uint64_t));

typedef struct CoroutineX86 {
    Coroutine base;
    SavedRegisters *sp;         /* valid while another coroutine runs */
    void *stack;                /* NULL if it is the thread's own */
    size_t stack_size;
#ifdef CONFIG_VALGRIND_H
    unsigned int valgrind_stack_id;
#endif
} CoroutineX86;

QEMU_DEFINE_STATIC_CO_TLS(Coroutine *, current);
QEMU_DEFINE_STATIC_CO_TLS(CoroutineX86, leader);

/*
 * Store the stack pointer in *@from, load @to, and return @action to the code
 * that stored @to.  The jump is "notrack", because it leads to a return
 * address.  It is not a "ret", because the processor would predict that it
 * returns to its caller, and be wrong each time.
 */
CoroutineAction coroutine_x86_switch(SavedRegisters **from, SavedRegisters *to,
                                     CoroutineAction action)
    __attribute__((visibility("hidden")));

/* Push or pop, and tell debuggers and profilers how to find the caller. */
#define PUSH(reg) "    pushq %" #reg "\n"                 \
                  "    .cfi_adjust_cfa_offset 8\n"       \
                  "    .cfi_rel_offset %" #reg ", 0\n"
#define POP(reg)  "    popq %" #reg "\n"                  \
                  "    .cfi_adjust_cfa_offset -8\n"      \
                  "    .cfi_restore %" #reg "\n"

asm(".pushsection .text\n"
    "    .p2align 4\n"
    "    .globl coroutine_x86_switch\n"
    "    .hidden coroutine_x86_switch\n"
    "    .type coroutine_x86_switch, @function\n"
    "coroutine_x86_switch:\n"
    "    .cfi_startproc\n"
    PUSH(rbp) PUSH(rbx) PUSH(r12) PUSH(r13) PUSH(r14) PUSH(r15)
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    POP(r15) POP(r14) POP(r13) POP(r12) POP(rbx) POP(rbp)
    "    popq %rcx\n"
    "    .cfi_adjust_cfa_offset -8\n"
    "    .cfi_register %rip, %rcx\n"
    "    movl %edx, %eax\n"
    "    notrack jmp *%rcx\n"
    "    .cfi_endproc\n"
    "    .size coroutine_x86_switch, . - coroutine_x86_switch\n"
    ".popsection\n");

/* Run one coroutine after the other on this stack.  It has no caller. */
static void G_NORETURN coroutine_start(void)
{
    Coroutine *self = get_current();

    for (;;) {
        self->entry(self->entry_arg);
        qemu_coroutine_switch(self, self->caller, COROUTINE_TERMINATE);
    }
}

static SavedRegisters *new_stack_pointer(CoroutineX86 *co)
{
    /* The ABI wants the stack aligned to 16 where a function is called. */
    uint64_t *end = QEMU_ALIGN_PTR_DOWN((uint64_t *)(co->stack +
                                                     co->stack_size), 16);
    SavedRegisters *saved;

    *--end = 0;         /* the return address of coroutine_start() */
    saved = (SavedRegisters *)end - 1;
    *saved = (SavedRegisters) { .rip = (uintptr_t)coroutine_start };
    return saved;
}

Coroutine *qemu_coroutine_new(void)
{
    CoroutineX86 *co = g_new0(CoroutineX86, 1);

    co->stack_size = COROUTINE_STACK_SIZE;
    co->stack = qemu_alloc_stack(&co->stack_size);
    co->sp = new_stack_pointer(co);
#ifdef CONFIG_VALGRIND_H
    co->valgrind_stack_id =
        VALGRIND_STACK_REGISTER(co->stack, co->stack + co->stack_size);
#endif
    return &co->base;
}

void qemu_coroutine_delete(Coroutine *base)
{
    CoroutineX86 *co = container_of(base, CoroutineX86, base);

#ifdef CONFIG_VALGRIND_H
    VALGRIND_STACK_DEREGISTER(co->valgrind_stack_id);
#endif
    qemu_free_stack(co->stack, co->stack_size);
    g_free(co);
}

CoroutineAction qemu_coroutine_switch(Coroutine *from, Coroutine *to,
                                      CoroutineAction action)
{
    set_current(to);
    return coroutine_x86_switch(&container_of(from, CoroutineX86, base)->sp,
                                container_of(to, CoroutineX86, base)->sp,
                                action);
}

Coroutine *qemu_coroutine_self(void)
{
    Coroutine *self = get_current();

    if (!self) {
        /* The thread calls this for the first time, outside of coroutines. */
        self = &get_ptr_leader()->base;
        set_current(self);
    }
    return self;
}

bool qemu_in_coroutine(void)
{
    const Coroutine *self = get_current();

    return self && self->caller;
}
