/**
 * The instructions whose handlers lie inside the interpreter's loop: one encoding for each combination of operands
 * that is frequent when a Debian kernel boots and runs a shell. 64-bit mode, hexadecimal, the most frequent first.
 */
export const HOT_INSTRUCTIONS: readonly string[] = [
  "4889c2", // MOV r64 r64 /64
  "4801f8", // ADD r64 r64 /64
  "4c0faff2", // IMUL 2 r64 r64 /64
  "48c1ea20", // SHR r64 i8 /64
  "89c7", // MOV r32 r32 /32
  "4839de", // CMP r64 r64 /64
  "4829d0", // SUB r64 r64 /64
  "488b05fe9cbf01", // MOV r64 m64 /64
  "83c134", // ADD r32 i32 /32
  "7506", // JNE r8 /64
  "4889053c98a101", // MOV m64 r64 /64
  "4863c9", // MOVSXD r64 r32 /64
  "65488b042528000000", // MOV r64 M64 /64
  "488d04c3", // LEA r64 M8 /64
  "400f92c5", // SETB r8 /32
  "48c1e230", // SHL r64 i8 /64
  "400fb6ed", // MOVZX r32 r8 /32
  "56", // PUSH r64 /64 stackSize=64 long=true
  "5b", // POP r64 /64 stackSize=64 long=true
  "480f43c3", // CMOVAE r64 r64 /64
  "7465", // JE r8 /64
  "0f8526030000", // JNE r64 /64
  "4811ce", // ADC r64 r64 /64
  "4883c410", // ADD r64 i64 /64
  "31c0", // XOR r32 r32 /32
  "0fb603", // MOVZX r32 m8 /32
  "4084ff", // TEST r8 r8 /32
  "c3", // RET /64 stackSize=64 long=true
  "e8aa070000", // CALL r64 /64 stackSize=64 long=true
  "0f841a010000", // JE r64 /64
  "0f1f440000", // NOP M32 /32
  "448b973c010000", // MOV r32 m32 /32
  "4c0301", // ADD r64 m64 /64
  "39d0", // CMP r32 r32 /32
  "4585d2", // TEST r32 r32 /32
  "e91903e000", // JMP r64 /64
  "eb4d", // JMP r8 /64
  "488d25513fa001", // LEA r64 m8 /64
  "488914cb", // MOV M64 r64 /64
  "79e2", // JNS r8 /64
  "6548031d3a93f07e", // ADD r64 M64 /64
  "4885ff", // TEST r64 r64 /64
  "7302", // JAE r8 /64
  "3c03", // CMP r8 i8 /32
  "b9010100c0", // MOV r32 i32 /32
  "4881fd00008083", // CMP r64 i64 /64
  "3d1e000080", // CMP r32 i32 /32
  "48c7c200000081", // MOV r64 i64 /64
  "f60001", // TEST m8 i8 /32
  "803d6c428f0100", // CMP m8 i8 /32
  "482d00000081", // SUB r64 i64 /64
  "25000ff00f", // AND r32 i32 /32
  "4983d400", // ADC r64 i64 /64
  "721d", // JB r8 /64
  "41890424", // MOV m32 r32 /32
  "01c8", // ADD r32 r32 /32
  "48c744240800000000", // MOV m64 i64 /64
  "0fb61407", // MOVZX r32 M8 /32
  "4809d0", // OR r64 r64 /64
  "c64424098e", // MOV m8 i8 /32
  "a803", // TEST r8 i8 /32
  "4c393424", // CMP m64 r64 /64
  "f7d8", // NEG r32 /32
  "486333", // MOVSXD r64 m32 /64
  "3a1406", // CMP r8 M8 /32
  "458d5501", // LEA r32 m8 /32
  "8803", // MOV m8 r8 /32
  "83ea01", // SUB r32 i32 /32
  "29d9", // SUB r32 r32 /32
  "7675", // JBE r8 /64
  "49c1fa30", // SAR r64 i8 /64
  "7710", // JA r8 /64
  "4981e40000e0ff", // AND r64 i64 /64
  "c1ce0c", // ROR r32 i8 /32
  "39460c", // CMP m32 r32 /32
  "658b1d2545fa7c", // MOV r32 M32 /32
  "0f1f00", // NOP m32 /32
  "48d1fa", // SAR 1 r64 i8 /64
  "48f7d1", // NOT r64 /64
  "0f82d2000000", // JB r64 /64
  "41c1c010", // ROL r32 i8 /32
  "a9ffffff7f", // TEST r32 i32 /32
  "0f86ec000000", // JBE r64 /64
  "48833800", // CMP m64 i64 /64
  "c1e808", // SHR r32 i8 /32
  "3b1d70239c01", // CMP r32 m32 /32
  "4821c2", // AND r64 r64 /64
  "49d1ee", // SHR 1 r64 i8 /64
  "6690", // XCHG rAX r16 r16 /16
  "0f876cffffff", // JA r64 /64
  "4a63740340", // MOVSXD r64 M32 /64
  "0f8337020000", // JAE r64 /64
  "480f42dd", // CMOVB r64 r64 /64
  "c70201000000", // MOV m32 i32 /32
  "19c9", // SBB r32 r32 /32
  "65482b042528000000", // SUB r64 M64 /64
  "0f8fa9000000", // JG r64 /64
  "65ff051cfaf07e", // INC M32 /32
  "0fbec0", // MOVSX r32 r8 /32
  "81c9a0000000", // OR r32 i32 /32
  "65ff0d007a607e", // DEC M32 /32
  "21f7", // AND r32 r32 /32
  "7ece", // JLE r8 /64
  "0f8823030000", // JS r64 /64
  "0fb70c77", // MOVZX r32 M16 /32
  "ffd0", // CALL indirect r64 /64 stackSize=64 long=true
  "0f95c0", // SETNE r8 /32
  "8d0c03", // LEA r32 M8 /32
  "483b3d1cad8c01", // CMP r64 m64 /64
  "0fb7442408", // MOVZX r32 m16 /32
  "09fe", // OR r32 r32 /32
  "4d2b06", // SUB r64 m64 /64
  "4831f7", // XOR r64 r64 /64
  "f348ab", // STOS /64 addressSize=64 rep=rep segment=ds long=true
  "4038fe", // CMP r8 r8 /32
  "9c", // PUSHF /64 stackSize=64 long=true
  "c1e208", // SHL r32 i8 /32
  "48d3e0", // SHL r64 r8 /64
  "ffc9", // DEC r32 /32
  "410f94c6", // SETE r8 /32
  "90", // XCHG rAX r32 r32 /32
  "034f04", // ADD r32 m32 /32
  "4233048a", // XOR r32 M32 /32
  "f00fb117", // CMPXCHG m32 r32 /32
  "83430401", // ADD m32 i32 /32
  "833da480390101", // CMP m32 i32 /32
  "7803", // JS r8 /64
  "fa", // CLI /32
  "44894417fc", // MOV M32 r32 /32
  "8cd0", // MOV from-segment r32 i16 /32
  "48d3e8", // SHR r64 r8 /64
  "490f48cc", // CMOVS r64 r64 /64
  "66890424", // MOV m16 r16 /16
  "0f8eb9030000", // JLE r64 /64
  "4c0180f00f0000", // ADD m64 r64 /64
  "48f7d8", // NEG r64 /64
  "6683f8ff", // CMP r16 i16 /16
  "480b3d35c69fff", // OR r64 m64 /64
  "480fce", // BSWAP r64 /64
  "3342e0", // XOR r32 m32 /32
  "fb", // STI /32
  "403879ff", // CMP m8 r8 /32
  "4883042408", // ADD m64 i64 /64
  "83a81814000001", // SUB m32 i32 /32
  "ffc3", // INC r32 /32
  "6a10", // PUSH i64 /64 stackSize=64 long=true
  "48f7c79fffffff", // TEST r64 i64 /64
  "48330cc6", // XOR r64 M64 /64
  "0f9503", // SETNE m8 /32
  "450fb7f5", // MOVZX r32 r16 /32
  "44328f8b010000", // XOR r8 m8 /32
  "ff15ffb79eff", // CALL indirect m64 /64 stackSize=64 long=true
  "4898", // CBW /64
  "48cf", // IRET /64
  "48f7e2", // MUL r64 /64
  "480fbae039", // BT r64 i8 /64 long=true
  "480fbe10", // MOVSX r64 m8 /64
  "4823052c1b36ff", // AND r64 m64 /64
  "428a0423", // MOV r8 M8 /32
  "480f44c2", // CMOVE r64 r64 /64
  "d3e0", // SHL r32 r8 /32
  "f705f883390101000000", // TEST m32 i32 /32
  "7f0c", // JG r8 /64
  "81f261810007", // XOR r32 i32 /32
  "0f4fd0", // CMOVG r32 r32 /32
  "480fba70c00c", // BTR m64 i8 /64 long=true
  "0f44d1", // CMOVE r32 r32 /32
  "483383b8000000", // XOR r64 m64 /64
  "0f8c69010000", // JL r64 /64
  "f0480fb113", // CMPXCHG m64 r64 /64
  "0fbe5001", // MOVSX r32 m8 /32
  "490fa34500", // BT m64 r64 /64 long=true
  "480facd020", // SHRD r64 r64 i8 /64
  "4008f2", // OR r8 r8 /32
  "48f7009fffffff", // TEST m64 i64 /64
  "480f45c1", // CMOVNE r64 r64 /64
  "80e702", // AND r8 i8 /32
  "7d0f", // JGE r8 /64
  "6685ff", // TEST r16 r16 /16
  "65480fc70f", // CMPXCHG8B M8 /64 long=true
  "0f48d0", // CMOVS r32 r32 /32
  "4c0f47fa", // CMOVA r64 r64 /64
  "2205512abc01", // AND r8 m8 /32
  "f3aa", // STOSB /32 addressSize=64 rep=rep segment=ds long=true
  "d1c0", // ROL 1 r32 i8 /32
  "480d00001000", // OR r64 i64 /64
  "480fba2d909fa1013f", // BTS m64 i8 /64 long=true
  "f348a5", // MOVS /64 addressSize=64 rep=rep segment=ds long=true
  "66833d1ac1260000", // CMP m16 i16 /16
  "48ffc5", // INC r64 /64
  "7c35", // JL r8 /64
  "0f01f9", // RDTSCP /32
  "664139c5", // CMP r16 r16 /16
  "423b540f14", // CMP r32 M32 /32
  "015d70", // ADD m32 r32 /32
  "48012cfd60452d83", // ADD M64 r64 /64
  "43c6041100", // MOV M8 i8 /32
  "f0480fc107", // XADD m64 r64 /64
  "6548ff4218", // INC M64 /64
  "83258ef29bfffe", // AND m32 i32 /32
];
