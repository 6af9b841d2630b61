# The code that carries cases through a batch: exception stubs (ring 0), and the runtime (ring 3) that loads a case's
# state, runs it and stores what came of it. Assembled by assemble.ts, which defines the symbols in capitals from
# layout.ts; the bytes are committed in runtime-bytes.ts.

.intel_syntax noprefix
.code64
.section .text
.org 0

# Stubs, 64 bytes each, as short as they can be: KVM may emulate ring 0. Each moves RIP and the error code from its
# frame to the data page, puts the ring-3 handler in RIP's and CS's place and returns: registers untouched, but for #PF, which
# leaves CR2 in RAX. RFLAGS stays readable in the frame, at STACK_PAGE + 0x1000 - 24, since RSP0 is 16-byte aligned.
.macro stub vector
  .balign 64
  .if \vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17
    pop [rip + data + DATA_ERROR_CODE]
  .endif
  pop [rip + data + DATA_RIP]
  mov dword ptr [rsp], USER_CODE
  .if \vector == 14
    mov [rip + data + DATA_RAX], rax
    mov rax, cr2
  .endif
  .if \vector == 1 || \vector == 3
    jmp careful_\vector
  .else
    push [rip + handler_\vector]
    iretq
  .endif
  .balign 8
handler_\vector: .quad BASE + RUNTIME_PAGE + (faulted_\vector - runtime)
.endm
.altmacro
.set n, 0
.rept 32
  stub %n
  .set n, n + 1
.endr

# INT3 with no case remaining ends a batch: the host is told.
.balign 64
careful_3:
  cmp qword ptr [rip + data + DATA_REMAINING], 0
  jne return_3
  out DONE_PORT, al
  hlt
return_3:
  push [rip + handler_3]
  iretq

# Single-step: the handler must not run under TF. The frame that holds RFLAGS stays where it is, below lies another.
careful_1:
  push USER_DATA
  push [rip + scratch_pointer]
  push 2
  push USER_CODE
  push [rip + handler_1]
  iretq
.balign 8
scratch_pointer: .quad BASE + DATA_PAGE + DATA_SCRATCH

.org 0x1000
runtime:
# 32-bit code needs segments that 64-bit code does not look at.
  mov eax, USER_DATA
  mov ds, eax
  mov es, eax
# Loads the state of the next case. Flags are loaded before the registers: MOV leaves them alone.
next:
  mov rbx, [rip + data + DATA_INPUT]
  cld
  lea rsi, [rbx + BLOCK_HOT]
  lea rdi, [rip + window_hot]
  mov ecx, BLOCK_HOT_BYTES / 8
  rep movsq
  fxrstor64 [rbx + BLOCK_FX]
  mov rax, [rbx + BLOCK_RIP]
  mov [rip + data + DATA_ENTRY], rax
  mov rax, [rbx + BLOCK_VECTOR]
  mov [rip + data + DATA_FAR_ENTRY], rax
  lea rsp, [rbx + BLOCK_RFLAGS]
  popfq
  mov rax, [rbx + BLOCK_GPR + 8 * 0]
  mov rcx, [rbx + BLOCK_GPR + 8 * 1]
  mov rdx, [rbx + BLOCK_GPR + 8 * 2]
  mov rsp, [rbx + BLOCK_GPR + 8 * 4]
  mov rbp, [rbx + BLOCK_GPR + 8 * 5]
  mov rsi, [rbx + BLOCK_GPR + 8 * 6]
  mov rdi, [rbx + BLOCK_GPR + 8 * 7]
  mov r8, [rbx + BLOCK_GPR + 8 * 8]
  mov r9, [rbx + BLOCK_GPR + 8 * 9]
  mov r10, [rbx + BLOCK_GPR + 8 * 10]
  mov r11, [rbx + BLOCK_GPR + 8 * 11]
  mov r12, [rbx + BLOCK_GPR + 8 * 12]
  mov r13, [rbx + BLOCK_GPR + 8 * 13]
  mov r14, [rbx + BLOCK_GPR + 8 * 14]
  mov r15, [rbx + BLOCK_GPR + 8 * 15]
  mov rbx, [rbx + BLOCK_GPR + 8 * 3]
  jmp [rip + data + DATA_ENTRY]

# After a case that ran to its end.
finished:
  mov [rip + data + DATA_RBX], rbx
  mov rbx, [rip + data + DATA_OUTPUT]
  mov [rbx + BLOCK_GPR + 8 * 4], rsp
  lea rsp, [rip + data + DATA_SCRATCH]
  pushfq
  mov [rbx + BLOCK_GPR + 8 * 0], rax
  pop rax
  mov [rbx + BLOCK_RFLAGS], rax
  xor eax, eax
  mov [rbx + BLOCK_RIP], rax
  mov [rbx + BLOCK_ERROR_CODE], rax
  mov [rbx + BLOCK_CR2], rax
  mov eax, NO_EXCEPTION
  mov [rbx + BLOCK_VECTOR], rax
  jmp store

# After an exception: RAX holds CR2, its own value was saved.
page_faulted:
  mov [rip + data + DATA_CR2], rax
  mov rax, [rip + data + DATA_RAX]
faulted:
  mov [rip + data + DATA_RBX], rbx
  mov rbx, [rip + data + DATA_OUTPUT]
  mov [rbx + BLOCK_GPR + 8 * 0], rax
  mov rax, [rip + stack_top - 16]
  mov [rbx + BLOCK_GPR + 8 * 4], rax
  mov rax, [rip + stack_top - 24]
  mov [rbx + BLOCK_RFLAGS], rax
  mov rax, [rip + data + DATA_RIP]
  mov [rbx + BLOCK_RIP], rax
  mov eax, [rip + data + DATA_VECTOR]
  mov [rbx + BLOCK_VECTOR], rax
  mov rax, [rip + data + DATA_ERROR_CODE]
  mov [rbx + BLOCK_ERROR_CODE], rax
  mov rax, [rip + data + DATA_CR2]
  mov [rbx + BLOCK_CR2], rax
  xor eax, eax
  mov [rip + data + DATA_CR2], rax
  mov [rip + data + DATA_ERROR_CODE], rax

store:
  mov [rbx + BLOCK_GPR + 8 * 1], rcx
  mov [rbx + BLOCK_GPR + 8 * 2], rdx
  mov rax, [rip + data + DATA_RBX]
  mov [rbx + BLOCK_GPR + 8 * 3], rax
  mov [rbx + BLOCK_GPR + 8 * 5], rbp
  mov [rbx + BLOCK_GPR + 8 * 6], rsi
  mov [rbx + BLOCK_GPR + 8 * 7], rdi
  mov [rbx + BLOCK_GPR + 8 * 8], r8
  mov [rbx + BLOCK_GPR + 8 * 9], r9
  mov [rbx + BLOCK_GPR + 8 * 10], r10
  mov [rbx + BLOCK_GPR + 8 * 11], r11
  mov [rbx + BLOCK_GPR + 8 * 12], r12
  mov [rbx + BLOCK_GPR + 8 * 13], r13
  mov [rbx + BLOCK_GPR + 8 * 14], r14
  mov [rbx + BLOCK_GPR + 8 * 15], r15
  lea rsp, [rip + data + DATA_SCRATCH]
  push 2
  popfq
  fxsave64 [rbx + BLOCK_FX]
  lea rsi, [rip + window_hot]
  lea rdi, [rbx + BLOCK_HOT]
  mov ecx, BLOCK_HOT_BYTES / 8
  rep movsq
  mov rax, [rip + data + DATA_INPUT]
  mov rdx, [rax + BLOCK_WILD]
  test rdx, rdx
  je stored
# A wild case: a checksum of the window's writable pages, which then become what they were.
  lea rsi, [rip + window_pages]
  mov ecx, 2 * 4096 / 8
sum:
  rol rdx, 1
  add rdx, [rsi]
  add rsi, 8
  sub ecx, 1
  jne sum
  lea rsi, [rip + template_pages]
  lea rdi, [rip + window_pages]
  mov ecx, 2 * 4096 / 8
  rep movsq
stored:
  mov [rbx + BLOCK_WILD], rdx
  add qword ptr [rip + data + DATA_INPUT], BLOCK_SIZE
  add qword ptr [rip + data + DATA_OUTPUT], BLOCK_SIZE
  sub qword ptr [rip + data + DATA_REMAINING], 1
  jne next
  int3

# A case that ran to its end jumps here (FINISHED in image.ts). INT3 lies around: a case may change some bits of the
# address that it jumps to, and would else run a part of the runtime with registers of its own.
.org 0x1800, 0xcc
  jmp finished

# 32-bit code ends here, at another address (FINISHED_32).
.org 0x1a00, 0xcc
.code32
  ljmp USER_CODE, BASE_32 + RUNTIME_PAGE + (finished_low - runtime)
.code64
finished_low:
  jmp [rip + finished_pointer]
.balign 8, 0xcc
finished_pointer: .quad BASE + RUNTIME_PAGE + (finished - runtime)

# The way into 32-bit code (ENTER_32).
.org 0x1b00, 0xcc
  jmp fword ptr [rip + data + DATA_FAR_ENTRY]

.org 0x1c00, 0xcc
# The first steps after an exception, by vector, 16 bytes each (handlerAddress in image.ts). MOV leaves flags alone.
.macro handler vector
  .balign 16
faulted_\vector:
  mov dword ptr [rip + data + DATA_VECTOR], \vector
  .if \vector == 14
    jmp page_faulted
  .else
    jmp faulted
  .endif
.endm
.set n, 0
.rept 32
  handler %n
  .set n, n + 1
.endr

.set data, runtime + (DATA_PAGE - RUNTIME_PAGE)
.set stack_top, runtime + (STACK_PAGE + 0x1000 - RUNTIME_PAGE)
.set window_pages, runtime + (WINDOW_PAGES - RUNTIME_PAGE)
.set template_pages, runtime + (TEMPLATE_PAGES - RUNTIME_PAGE)
.set window_hot, runtime + (WINDOW_HOT - RUNTIME_PAGE)
