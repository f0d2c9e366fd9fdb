/** How fast a read model catches up, and how soon it shows what was just written. */
import { join } from "node:path";
import { concatMap } from "rxjs";
import { environmentOf } from "../src/environment.ts";
import { readModel, table, tidemark, type EventStore, type ViewStore } from "../src/index.ts";
import { createRunner } from "../src/readmodel/runner.ts";
import { memoryStore, memoryViews } from "../src/store/memory/index.ts";
import { sqliteBackend, sqliteViews } from "../src/store/sqlite/index.ts";
import { Account, movement } from "./account.ts";
import { against, median, percentile, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { interleaved, inTempFolder, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";
import { untilSeen } from "./until-seen.ts";

interface Balance {
  readonly id: string;
  readonly balance: number;
  readonly movements: number;
}

const STREAMS = Array.from({ length: 1000 }, (_, index) => `account-a${index}`);

const balances = readModel("balances", {
  from: [Account],
  view: table<Balance>("balances", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap(({ id, type, data }) =>
        view.update(id, (row) => ({ id, balance: (row?.balance ?? 0) + (type === "Deposited" ? data.amount : -data.amount), movements: (row?.movements ?? 0) + 1 })),
      ),
    ),
});

export const projection: Benchmark = {
  name: "projection",
  summary: "catching up, and the time from a write to its sight",
  packages: ["rxjs"],
  async run(options) {
    return [...(await catchUp(options)), ...(await toVisible("memory", options)), ...(await toVisible("sqlite", options))];
  },
};

function catchUp({ quick, note }: BenchOptions): Promise<readonly Result[]> {
  const perStream = quick ? 50 : 200;
  const events = STREAMS.length * perStream;
  note(`catch-up over ${events} events`);
  return inTempFolder(async (folder) => {
    const inMemory = memoryStore();
    const onDisk = sqliteBackend({ file: join(folder, "log.db") });
    try {
      await fill(inMemory, { streams: STREAMS, perStream });
      await fill(onDisk.events, { streams: STREAMS, perStream });
      let files = 0;
      const figures = await interleaved(quick ? 3 : 5, {
        memory: () => rebuilt(inMemory, memoryViews(), events),
        sqlite: () => rebuilt(onDisk.events, sqliteViews({ file: join(folder, `views-${files++}.db`) }), events),
      });
      const title = `catch-up over ${events.toLocaleString("en-US")} events of ${STREAMS.length.toLocaleString("en-US")} streams`;
      return [
        against(100_000, { case: `${title}, memory`, unit: "events/s", better: "more", tidemark: figures.memory }),
        against(40_000, { case: `${title}, sqlite, exactly once`, unit: "events/s", better: "more", tidemark: figures.sqlite }),
      ];
    } finally {
      await onDisk.close();
      await inMemory.close();
    }
  });
}

/** Builds the read model from the start of the log; events a second. Throws when an event was missed or counted twice. */
async function rebuilt(store: EventStore, views: ViewStore, events: number): Promise<number> {
  const runner = createRunner(balances, { store, views, environment: environmentOf() });
  try {
    const ms = await timed(() => untilSeen(runner, events));
    const rows = await runner.reader().find({}, { limit: 10_000 });
    const wrong = rows.find((row) => row.movements !== events / STREAMS.length);
    if (rows.length !== STREAMS.length || wrong !== undefined) throw new Error(`the view holds ${rows.length} accounts, and ${JSON.stringify(wrong)}`);
    return rate(events, ms);
  } finally {
    await runner.stop();
    await views.close();
  }
}

/** One command at a time, each followed by a query that carries its token. */
function toVisible(scheme: "memory" | "sqlite", { quick, note }: BenchOptions): Promise<readonly Result[]> {
  const [warmUps, samples] = quick ? [100, 300] : [200, 1000];
  note(`append to visible, ${scheme}`);
  return inTempFolder(async (folder) => {
    await using app = await tidemark({ store: scheme === "memory" ? "memory:" : `sqlite:${join(folder, "live.db")}`, aggregates: [Account], readModels: [balances] });
    const fromCall: number[] = [];
    const fromAcknowledgement: number[] = [];
    for (let index = 0; index < warmUps + samples; index++) {
      const id = `a${index % 100}`;
      const called = performance.now();
      const { ok, token } = await deposited(app.at(Account, id).deposit(movement(index)));
      const acknowledged = performance.now();
      const row = await app.query(balances, (view) => view.get(id), { atLeast: token });
      const seen = performance.now();
      if (!ok || row?.movements !== 1 + Math.floor(index / 100)) throw new Error(`the query did not see the write: ${JSON.stringify(row)}`);
      if (index < warmUps) continue;
      fromCall.push(seen - called);
      fromAcknowledgement.push(seen - acknowledged);
    }
    const result = (from: string, share: string, tidemark: number): Result =>
      against(5, { case: `append → visible, ${scheme}, from the ${from}, ${share}`, unit: "ms", better: "less", tidemark });
    return [
      result("acknowledgement", "p50", median(fromAcknowledgement)),
      result("call", "p50", median(fromCall)),
      result("call", "p99", percentile(fromCall, 0.99)),
    ];
  });
}

async function deposited<R extends { readonly ok: boolean }>(result: Promise<R>): Promise<Extract<R, { readonly ok: true }>> {
  const settled = await result;
  if (!settled.ok) throw new Error("a deposit was rejected");
  return settled as Extract<R, { readonly ok: true }>;
}
