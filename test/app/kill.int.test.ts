/** A whole app on SQLite that dies by kill -9, again and again on the same file: events, read models and command ids after each restart. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tidemark } from "../../src/index.ts";
import { Account, balances } from "../actor/account.ts";
import { folder, randomFrom } from "../store/sqlite/support.ts";
import { start } from "../support/processes.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Math.floor(Math.random() * 1e9));
const CUTS = 30;

interface Acknowledged {
  readonly id: string;
  readonly commandId: string;
  readonly version: number;
}

/** Starts the child and kills it with SIGKILL once it has printed `lines` lines and so many microseconds have passed. */
async function cut(file: string, name: string, lines: number, after: number): Promise<Acknowledged[]> {
  const child = start(join(import.meta.dirname, "kill-child.ts"), file, name);
  let armed = false;
  child.onLine = () => {
    if (armed || child.lines.length < lines) return;
    armed = true;
    // Not at the line's own end: anywhere in what follows it.
    const until = process.hrtime.bigint() + BigInt(after * 1000);
    while (process.hrtime.bigint() < until);
    child.process.kill("SIGKILL");
  };
  await child.exited;
  expect(child.process.signalCode).toBe("SIGKILL");
  return child.lines.slice(1).map((line) => {
    const [id = "", commandId = "", version = ""] = line.split(" ");
    return { id, commandId, version: Number(version) };
  });
}

describe("an app that dies by kill -9", () => {
  it(`finds every acknowledged command once after a restart, answers it the same, and has views equal to the fold, over ${CUTS} cuts at random moments (seed ${SEED})`, { timeout: 240_000 }, async () => {
    const lane = async (path: (name: string) => string, name: string, seed: number): Promise<number> => {
      const file = path(`${name}.db`);
      const random = randomFrom(seed);
      const told = new Map<string, Acknowledged>();
      for (let round = 0; round < CUTS / 2; round++) {
        const fresh = await cut(file, `${name}${round}`, 1 + Math.floor(random() * 40), Math.floor(random() * 2000));
        for (const one of fresh) told.set(one.commandId, one);

        await using app = await tidemark({ store: `sqlite:${file}`, aggregates: [Account], readModels: [balances] });
        const standing = new Map<string, number>();
        for (const id of ["a0", "a1", "a2", "a3"]) {
          let balance = 0;
          let version = 0;
          for (let from: number | undefined = 1; from !== undefined; ) {
            const page: Awaited<ReturnType<typeof app.history<typeof Account>>> = await app.history(Account, id, { from, limit: 1000 });
            for (const event of page.events) {
              expect(event.version).toBe(++version);
              balance += event.type === "Deposited" ? event.data.amount : event.type === "Withdrawn" ? -event.data.amount : 0;
              expect(balance).toBeGreaterThanOrEqual(0);
              expect(standing.has(event.metadata.commandId)).toBe(false); // once
              standing.set(event.metadata.commandId, event.version);
            }
            from = page.next;
          }
          const { state, token } = await app.at(Account, id).state();
          expect(state.balance).toBe(balance);
          const answer = await app.answer(balances, (view) => view.get(id), { atLeast: token, stream: `account-${id}`, timeoutMs: 10_000 });
          expect(answer).toMatchObject({ lastProcessedVersion: version, ...(version > 0 ? { value: { balance, version } } : {}) });
        }
        for (const { commandId, version } of told.values()) expect(standing.get(commandId), `${commandId} of cut ${round}, seed ${seed}`).toBe(version);
        // The last one that was acknowledged, sent again: the same answer, and nothing more in the stream.
        const last = fresh.at(-1);
        if (last === undefined) continue;
        const n = Number(last.commandId.split(".")[2]);
        const again = n % 3 === 2 ? app.at(Account, last.id).withdraw({ amount: 1 + (n % 7) }, { commandId: last.commandId }) : app.at(Account, last.id).deposit({ amount: 1 + (n % 5) }, { commandId: last.commandId });
        expect(await again).toMatchObject({ ok: true, version: last.version });
      }
      return told.size;
    };
    const files = folder();
    try {
      const acknowledged = await Promise.all([lane(files.path, "l", SEED), lane(files.path, "r", SEED + 1)]);
      for (const count of acknowledged) expect(count).toBeGreaterThan(CUTS);
    } finally {
      files.dispose();
    }
  });
});
