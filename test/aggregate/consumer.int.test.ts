/** What a user's compiler sees: the emitted declarations, checked strictly, without our sources. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const directory = mkdtempSync(join(tmpdir(), "tidemark-consumer-"));

const tsc = (...args: string[]): { status: number | null; output: string } => {
  const run = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...args], { cwd: directory, encoding: "utf8" });
  return { status: run.status, output: run.stdout + run.stderr };
};

const consumer = (mistake: string): string => `
import { aggregate, type AnyAggregate, type InputOf, type RejectionOf } from "./dist/aggregate/aggregate.js";
import { accepted } from "./dist/aggregate/accepted.js";
import type { Recorded } from "./dist/aggregate/recorded.js";
import { event } from "./dist/aggregate/schema.js";
import { given } from "./dist/testing/given.js";
import { z } from "zod";

interface TicketState { open: boolean; notes: string[] }
export const Ticket = aggregate("ticket", {
  initial: (): TicketState => ({ open: false, notes: [] }),
  events: {
    Opened: (ticket, _data: { by: string }) => { ticket.open = true; },
    Noted: event(z.object({ text: z.string() }), (ticket: TicketState, data) => { ticket.notes.push(data.text); }),
    Closed: (ticket) => { ticket.open = false; },
  },
  inputs: { note: z.object({ text: z.string() }) },
  prepare: { escalate: async (input: { to: string }) => ({ text: input.to }) },
  commands: {
    open: (ticket, input: { by: string }, { emit, reject }) => (ticket.open ? reject("already-open", { notes: ticket.notes.length }) : emit("Opened", input)),
    note: (_ticket, input, { emit }) => emit("Noted", input),
    escalate: (_ticket, input, { emit }) => emit("Noted", input),
    close: (ticket, _input, { emit }) => (ticket.open ? emit("Closed") : []),
  },
  upcasters: { Opened: { 1: (old: { who: string }) => ({ by: old.who }) } },
  renamed: { Started: "Opened" },
});
export const any: AnyAggregate = Ticket;
export const by: InputOf<typeof Ticket, "escalate"> = { to: "ann" };
export const code: RejectionOf<typeof Ticket, "open">["code"] = "already-open";
export function text(e: Recorded<typeof Ticket>): string {
  return e.type === "Noted" ? e.data.text : e.stream;
}
export const answer = accepted({ ok: true, version: 1 } as const).version satisfies 1;
given(Ticket, [{ type: "Opened", data: { by: "ann" } }]).when("note", { text: "x" }).then([{ type: "Noted", data: { text: "x" } }]);
${mistake}
`;

/** Compiles consumers in one go; each by the mistake that it makes. */
const check = (name: string, mistakes: Readonly<Record<string, string>>): { status: number | null; output: string } => {
  for (const [file, mistake] of Object.entries(mistakes)) writeFileSync(join(directory, `${file}.ts`), consumer(mistake));
  const options = { extends: join(root, "tsconfig.json"), compilerOptions: { noEmit: false, declaration: true, rootDir: ".", outDir: `out-${name}`, skipLibCheck: false, types: ["node"] } };
  writeFileSync(join(directory, `tsconfig.${name}.json`), JSON.stringify({ ...options, include: Object.keys(mistakes).map((file) => `${file}.ts`), exclude: [] }));
  return tsc("-p", `tsconfig.${name}.json`);
};

describe("the emitted declarations", () => {
  beforeAll(() => {
    symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
    writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }));
    const build = {
      extends: join(root, "tsconfig.build.json"),
      compilerOptions: { rootDir: join(root, "src"), outDir: join(directory, "dist"), declarationMap: false, sourceMap: false },
      include: [join(root, "src/aggregate"), join(root, "src/testing/given.ts")],
    };
    writeFileSync(join(directory, "tsconfig.build.json"), JSON.stringify(build));
    expect(tsc("-p", "tsconfig.build.json")).toEqual({ status: 0, output: "" });
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it("let a consumer compile, and emit declarations of its own that hold no any", () => {
    expect(check("fine", { fine: "" })).toEqual({ status: 0, output: "" });
    const emitted = readFileSync(join(directory, "out-fine/fine.d.ts"), "utf8");
    expect(emitted).toContain('"already-open"');
    expect(emitted.replace("const any:", "")).not.toMatch(/\bany\b/);
  });

  it("do not let a consumer compile a wrong event, payload, command, input or rejection", () => {
    const mistakes = {
      event: 'export const wrong: Recorded<typeof Ticket>["type"] = "Openedd";',
      payload: 'given(Ticket, [{ type: "Opened", data: { by: 1 } }]);',
      command: 'given(Ticket).when("opened", { by: "ann" });',
      input: 'given(Ticket).when("note", { txt: "x" });',
      rejection: 'given(Ticket).when("open", { by: "" }).then({ rejected: "closed" });',
    };
    const { status, output } = check("wrong", mistakes);
    expect(status).not.toBe(0);
    const complaints = [...output.matchAll(/^(\w+)\.ts.*error TS2/gm)].map(([, file = ""]) => file);
    expect(complaints.toSorted()).toEqual(Object.keys(mistakes).toSorted());
    expect(output.match(/error TS/g)).toHaveLength(complaints.length);
  });
});
