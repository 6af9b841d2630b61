/**
 * How arithmetic flags are kept between instructions [SDM 1 §3.4.3.1].
 *
 * `flagsResult` is the last result, sign-extended to 64 bits; `flagsAux` holds the carries out of chosen bits and two
 * corrections, so that any combination of flags has a form and every condition is evaluated without a dispatch:
 *
 *   ZF = (result = 0)                    SF = (result < 0) xor aux[16]
 *   CF = aux[1]                          OF = aux[1] xor aux[0]    (aux[0] is the carry into the top bit)
 *   AF = aux[3]                          PF = even parity of result[7:0] xor aux[15:8]
 */

export const CF = 1 << 0;
export const PF = 1 << 2;
export const AF = 1 << 4;
export const ZF = 1 << 6;
export const SF = 1 << 7;
export const TF = 1 << 8;
export const IF = 1 << 9;
export const DF = 1 << 10;
export const OF = 1 << 11;
export const IOPL = 3 << 12;
export const NT = 1 << 14;
export const RF = 1 << 16;
export const VM = 1 << 17;
export const AC = 1 << 18;
export const VIF = 1 << 19;
export const VIP = 1 << 20;
export const ID = 1 << 21;

/** The six flags that arithmetic sets. */
export const ARITHMETIC = CF | PF | AF | ZF | SF | OF;

export const AUX = { overflow: 1 << 0, carry: 1 << 1, adjust: 1 << 3, parity: 8, sign: 16 } as const;
