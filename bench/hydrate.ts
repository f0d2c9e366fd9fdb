/** How long the first use of an aggregate takes: with a snapshot, whatever its length; without one, all of its events. */
import { join } from "node:path";
import { aggregate, tidemark, type Backend, type EventStore } from "../src/index.ts";
import { memoryBackend } from "../src/store/memory/index.ts";
import { sqliteBackend } from "../src/store/sqlite/index.ts";
import { Account, movement } from "./account.ts";
import { against, compared, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { interleaved, inTempFolder, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";

const EVERY_EVENTS = 100;
/** Commands after the first snapshot: about so many events have to be read after the last one. */
const COMMANDS = EVERY_EVENTS + 50;

const SnapshotAccount = aggregate("account", {
  initial: () => ({ balance: 0, movements: 0, largest: 0 }),
  events: {
    Deposited: (account, data: { readonly amount: number; readonly reference: string }) => {
      account.balance += data.amount;
      account.movements++;
      account.largest = Math.max(account.largest, data.amount);
    },
  },
  commands: { deposit: (_account, input: { readonly amount: number; readonly reference: string }, { emit }) => emit("Deposited", input) },
  snapshot: { everyEvents: EVERY_EVENTS },
});

export const hydrate: Benchmark = {
  name: "hydrate",
  summary: "the first use of an aggregate",
  packages: ["immer"],
  async run(options) {
    return [...(await onStore("memory", options)), ...(await onStore("sqlite", options)), await drafts()];
  },
};

function onStore(name: "memory" | "sqlite", { quick, note }: BenchOptions): Promise<readonly Result[]> {
  const lengths = [10_000, 100_000, 1_000_000] as const;
  const [short, , long] = lengths;
  return inTempFolder(async (folder) => {
    const backend = name === "memory" ? memoryBackend() : sqliteBackend({ file: join(folder, "log.db") });
    try {
      for (const length of lengths) {
        note(`${name}: ${length} events and a snapshot`);
        await fill(backend.events, { streams: [`account-a${length}`], perStream: length, perAppend: 10_000 });
        await takeSnapshot(backend, length);
      }
      note(`${name}: hydration`);
      const withSnapshot = await interleaved(
        quick ? 51 : 201,
        {
          short: () => firstUse(backend, SnapshotAccount, short),
          middle: () => firstUse(backend, SnapshotAccount, lengths[1]),
          long: () => firstUse(backend, SnapshotAccount, long),
        },
        { collect: false },
      );
      const replayed = long;
      const bare: Backend = { events: backend.events, close: () => backend.close() };
      const without = await interleaved(quick ? 2 : 5, { replay: async () => rate(replayed, await firstUse(bare, Account, replayed)) });
      const title = (length: number): string => `${name}, ${length.toLocaleString("en-US")} events, with a snapshot`;
      return [
        against(5, { case: title(short), unit: "ms", better: "less", tidemark: withSnapshot.short }),
        against(5, { case: title(lengths[1]), unit: "ms", better: "less", tidemark: withSnapshot.middle }),
        against(5, { case: title(long), unit: "ms", better: "less", tidemark: withSnapshot.long }),
        compared({
          case: `${name}, flat in the length`,
          unit: "ms",
          better: "less",
          tidemark: withSnapshot.long,
          reference: withSnapshot.short,
          referenceName: `${short.toLocaleString("en-US")} events`,
          goal: 0.5,
        }),
        against(250_000, { case: `${name}, ${replayed.toLocaleString("en-US")} events, no snapshot`, unit: "events/s", better: "more", tidemark: without.replay }),
      ];
    } finally {
      await backend.close();
    }
  });
}

/** Commands make the snapshot due, and closing the app saves it. */
async function takeSnapshot(backend: Backend, length: number): Promise<void> {
  await using app = await tidemark({ store: backend, aggregates: [SnapshotAccount] });
  const account = app.at(SnapshotAccount, `a${length}`);
  for (let index = 0; index < COMMANDS; index++) await account.deposit(movement(index));
}

/** Milliseconds of the first call in a new app. Throws when the state is not that of all events. */
async function firstUse(backend: Backend, kind: typeof Account | typeof SnapshotAccount, length: number): Promise<number> {
  await using app = await tidemark({ store: backend, aggregates: [kind] });
  let movements = 0;
  const ms = await timed(async () => {
    ({ movements } = (await app.at<typeof Account | typeof SnapshotAccount>(kind, `a${length}`).state()).state);
  });
  const { eventsReplayed, snapshotsUsed } = app.metrics();
  const rightly = backend.snapshots === undefined ? eventsReplayed === movements : snapshotsUsed === 1 && eventsReplayed < EVERY_EVENTS;
  if (movements !== length + COMMANDS || !rightly) throw new Error(`${movements} movements, ${eventsReplayed} of them replayed and ${snapshotsUsed} snapshots used, for ${length} events`);
  return ms;
}

/** Immer drafts that a replay takes for each page that it reads, told by what the recipes are handed. */
async function drafts(): Promise<Result> {
  let made = 0;
  let last: object | undefined;
  const Counting = aggregate("counting", {
    initial: () => ({ movements: 0 }),
    events: {
      Deposited: (state, _data: { readonly amount: number }) => {
        if (state !== last) made++;
        last = state;
        state.movements++;
      },
    },
    commands: { nothing: () => [] },
  });
  const { events } = memoryBackend();
  let pages = 0;
  const store: EventStore = {
    capabilities: events.capabilities,
    identity: (signal) => events.identity(signal),
    append: (appends) => events.append(appends),
    async readStream(stream, read) {
      const slice = await events.readStream(stream, read);
      if (slice.events.length > 0) pages++;
      return slice;
    },
    readAll: (read) => events.readAll(read),
    subscribe: (read) => events.subscribe(read),
    close: () => events.close(),
  };
  await fill(events, { streams: ["counting-a"], perStream: 100_000, perAppend: 10_000 });
  await using app = await tidemark({ store: { events: store, close: () => events.close() }, aggregates: [Counting] });
  const { state } = await app.at(Counting, "a").state();
  if (state.movements !== 100_000) throw new Error(`the state has seen ${state.movements} events`);
  await events.close();
  // The first events of each type are looked at alone, once for each aggregate: a tenth is left to them.
  return compared({ case: "memory, 100,000 events: Immer drafts a page", unit: "drafts", better: "less", tidemark: made / pages, reference: 1, referenceName: "one", goal: 0.9 });
}
