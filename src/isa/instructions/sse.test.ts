import assert from "node:assert/strict";
import { test } from "node:test";
import { DECODE, Decoder, NO_OPERAND } from "../decode.ts";
import type { Form } from "../instruction.ts";
import { Semantics } from "../semantics.ts";
import { SSE } from "./sse.ts";

const decoder = new Decoder(SSE);

/** An encoding of a form with a register or memory operand. */
function encode(form: Form, memory: boolean): Uint8Array {
  const prefix = { any: [], NP: [], "66": [0x66], F2: [0xf2], F3: [0xf3] }[form.prefix];
  const map = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][form.map] ?? [];
  const modrm = (memory ? 0x00 : 0xc0) | ((form.digit ?? 2) << 3) | 1;
  return Uint8Array.from([...prefix, ...map, form.opcode, ...(form.modrm ? [modrm] : []), ...new Array(15).fill(0)]);
}

test("every SSE and MMX form is what its own encoding decodes to, and its effect can be built", () => {
  assert.ok(decoder.forms.length > 250, `${decoder.forms.length} forms`);
  for (const form of decoder.forms) {
    for (const memory of form.rm === "both" && form.modrm ? [false, true] : [form.rm === "memory"]) {
      const decoded = decoder.decode(encode(form, memory).subarray(0, 15), DECODE.long);
      if (typeof decoded === "string") assert.fail(`${form.text}: ${decoded}`);
      assert.equal(decoded.form, form, `${form.text} decodes as ${decoded.form.text}`);
      const m = new Semantics(decoded.context);
      const [a = NO_OPERAND, b = NO_OPERAND, c = NO_OPERAND] = decoded.operands;
      form.instruction.effect(m, a, b, c);
      assert.ok(m.finish().length > 1, form.text);
    }
  }
});
