/** Commands a second: in memory beside Emmett, on SQLite beside `node:sqlite` that writes the same rows. */
import { join } from "node:path";
import { tidemark, type App } from "../src/index.ts";
import { Account, movement, type AccountState } from "./account.ts";
import { emmettAccounts } from "./emmett-account.ts";
import { against, compared, type Result } from "./figures.ts";
import { interleaved, inTempFolder, load, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";
import { readRaw, ROWS_PER_TRANSACTION, writeRaw } from "./raw-sqlite.ts";

/** Commands go round the streams: the `i`-th one to stream `i % streams`. */
interface Workload {
  readonly streams: number;
  readonly perStream: number;
  readonly inFlight: number;
}

const idOf = (index: number, { streams }: Workload): string => `a${index % streams}`;
const commandsOf = ({ streams, perStream }: Workload): number => streams * perStream;

export const actors: Benchmark = {
  name: "actors",
  summary: "commands a second",
  packages: ["@event-driven-io/emmett"],
  async run(options) {
    return [
      await inMemory({ streams: 10, perStream: 500, inFlight: 100 }, 5, options),
      await inMemory({ streams: 1000, perStream: options.quick ? 5 : 20, inFlight: 100 }, 3, options),
      ...(await onSqlite({ streams: 1000, perStream: options.quick ? 20 : 40 }, options)),
    ];
  },
};

async function inMemory(work: Workload, goal: number, { quick, note }: BenchOptions): Promise<Result> {
  const title = `memory, ${work.streams} streams × ${work.perStream}, ${work.inFlight} in flight`;
  note(title);
  const expected = expectedStates(work);
  const figures = await interleaved(quick ? 2 : 5, {
    tidemark: async () => {
      await using app = await tidemark({ store: "memory:", aggregates: [Account] });
      const ms = await timed(() => depositAll(app, work));
      await assertStates("tidemark", expected, async (id) => (await app.at(Account, id).state()).state);
      return rate(commandsOf(work), ms);
    },
    emmett: async () => {
      const accounts = emmettAccounts();
      const ms = await timed(() => load(commandsOf(work), work.inFlight, (index) => accounts.deposit(idOf(index, work), movement(index))));
      await assertStates("emmett", expected, (id) => accounts.state(id));
      return rate(commandsOf(work), ms);
    },
  });
  return compared({ case: title, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.emmett, referenceName: "emmett, in memory", goal });
}

export async function onSqlite(shape: Omit<Workload, "inFlight">, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  note(`sqlite, ${shape.streams} streams × ${shape.perStream}`);
  return inTempFolder(async (folder) => {
    let files = 0;
    const newFile = (): string => join(folder, `${files++}.db`);
    const run = async (inFlight: number, file = newFile()): Promise<number> => {
      const work = { ...shape, inFlight };
      const app = await tidemark({ store: `sqlite:${file}`, aggregates: [Account] });
      try {
        return rate(commandsOf(work), await timed(() => depositAll(app, work)));
      } finally {
        await app.close();
      }
    };
    // The rows that the reference writes are those that Tidemark wrote.
    const sample = newFile();
    await run(100, sample);
    const log = readRaw(sample);
    if (log.rows.length !== commandsOf({ ...shape, inFlight: 1 })) throw new Error(`the log holds ${log.rows.length} events`);
    const figures = await interleaved(quick ? 3 : 7, {
      raw: async () => rate(log.rows.length, writeRaw(newFile(), log)),
      hundred: () => run(100),
      thousand: () => run(1000),
    });
    const title = (inFlight: number): string => `sqlite (full), ${shape.streams} streams × ${shape.perStream}, ${inFlight} in flight`;
    const referenceName = `node:sqlite, ${ROWS_PER_TRANSACTION} rows a transaction`;
    const common = { unit: "events/s", better: "more", reference: figures.raw, referenceName } as const;
    return [
      compared({ case: title(100), ...common, tidemark: figures.hundred, goal: 0.5 }),
      compared({ case: title(1000), ...common, tidemark: figures.thousand, goal: 0.65 }),
      against(70_000, { case: `the reference itself: ${referenceName}`, unit: "events/s", better: "more", tidemark: figures.raw }),
    ];
  });
}

/** Throws when a command fails or is rejected. */
function depositAll(app: App, work: Workload): Promise<void> {
  return load(
    commandsOf(work),
    work.inFlight,
    (index) => app.at(Account, idOf(index, work)).deposit(movement(index)),
    (result) => {
      if (!result.ok) throw new Error(`a deposit was rejected: ${result.code}`);
    },
  );
}

/** What the commands come to, told without any framework. */
function expectedStates(work: Workload): ReadonlyMap<string, AccountState> {
  const states = new Map<string, AccountState>();
  for (let index = 0; index < commandsOf(work); index++) {
    const id = idOf(index, work);
    const { amount } = movement(index);
    const before = states.get(id) ?? { balance: 0, movements: 0, largest: 0 };
    states.set(id, { balance: before.balance + amount, movements: before.movements + 1, largest: Math.max(before.largest, amount) });
  }
  return states;
}

async function assertStates(who: string, expected: ReadonlyMap<string, AccountState>, stateOf: (id: string) => Promise<AccountState>): Promise<void> {
  for (const [id, state] of expected) {
    const found = await stateOf(id);
    if (found.balance !== state.balance || found.movements !== state.movements || found.largest !== state.largest) {
      throw new Error(`${who}: account ${id} is ${JSON.stringify(found)}, not ${JSON.stringify(state)}`);
    }
  }
}
