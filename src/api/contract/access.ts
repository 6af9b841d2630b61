/** Tokens and the audit log, as the API shows them. */

import { z } from "zod";
import { SCOPES } from "./operation.ts";

const time = z.iso.datetime();
const tokenName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "wanted: 1 to 63 letters, digits, dots, hyphens and underscores");

export const scopeSchema = z.enum(SCOPES).describe("what the token allows; each scope includes those before it");

export const tokenSchema = z
  .object({
    id: z.string(),
    name: tokenName,
    scope: scopeSchema,
    projects: z.array(z.string()).nullable().describe("the projects it reaches; null: all, and the host"),
    created: time,
    expires: time.nullable(),
    used: time.nullable().describe("about when it was last used"),
  })
  .describe("A token, without its secret");
export type Token = z.infer<typeof tokenSchema>;

export const newTokenSchema = z.strictObject({
  name: tokenName,
  scope: scopeSchema,
  projects: z.array(z.string().min(1).max(63)).min(1).max(100).nullable().default(null),
  expires: time.nullable().default(null),
});
export type NewToken = z.output<typeof newTokenSchema>;

export const createdTokenSchema = z.object({
  token: tokenSchema,
  secret: z.string().describe("shown this once; the server keeps a hash"),
});

export const auditEntrySchema = z
  .object({
    id: z.int(),
    time,
    who: z.string().describe("a token's name, or `local` for the Unix socket"),
    address: z.string(),
    operation: z.string().describe("the operation's id"),
    target: z.string().describe("the path of the request"),
    status: z.int(),
    code: z.string().nullable().describe("of the problem, where it was refused"),
  })
  .describe("One act: a call that changes something, or that was refused for want of rights");
export type AuditEntry = z.infer<typeof auditEntrySchema>;
