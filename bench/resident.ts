/**
 * What an idle actor holds in memory beside its state.
 *
 * Counted: all of the heap that closing the app gives back, once for each actor. That is the actor, its names and links, its place in the registry, and its
 * window of command ids; the name of its stream is the actor's, because only its copies in the store stay behind. Not counted: the state itself, which is
 * weighed alone, as what the same fold makes of the same events.
 */
import { behaviourOf } from "../src/aggregate/aggregate.ts";
import { tidemark, type Backend } from "../src/index.ts";
import { memoryBackend } from "../src/store/memory/index.ts";
import { Account, movement } from "./account.ts";
import { against, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { load, quiet, type Benchmark } from "./harness.ts";

const ENTRIES = 16;

export const resident: Benchmark = {
  name: "resident",
  summary: "bytes of an idle actor",
  packages: [],
  async run({ quick, note }) {
    const actors = quick ? 20_000 : 100_000;
    const inFull = actors.toLocaleString("en-US");
    const figure = async (title: string, chosenIds: boolean, use: Use): Promise<number> => {
      note(title);
      return bytesOfActor(actors, chosenIds, use);
    };
    const idle = await figure("read, then idle", false, "read");
    const written = await figure("one command, then idle", false, "write");
    const remembering = await figure(`windows of ${ENTRIES} command ids`, true, "read");
    const result = (title: string, goal: number, tidemark: number): Result => against(goal, { case: `${inFull} actors, ${title}`, unit: "bytes", better: "less", tidemark });
    return [
      result("each read once: an actor beside its state", 512, idle),
      result("each given a command: an actor beside its state", 512, written),
      result(`an entry of a window of ${ENTRIES} command ids`, 32, (remembering - idle) / ENTRIES),
    ];
  },
};

type Use = "read" | "write";

/** All actors of a new app are used once, and weighed when nothing is to be done any more. */
async function bytesOfActor(actors: number, chosenIds: boolean, use: Use): Promise<number> {
  const backend = memoryBackend();
  const perStream = chosenIds ? ENTRIES : 1;
  try {
    await fill(backend.events, { streams: Array.from({ length: actors }, (_, index) => `account-a${index}`), perStream, chosenIds });
    // Once over a few actors: code and caches that are made on first use belong to none of them.
    await weighed(backend, Math.min(actors, 1000), "read");
    const used = await weighed(backend, actors, use);
    const states = await bytesOfStates(actors, perStream + (use === "write" ? 1 : 0));
    // What was written keeps the name alive in the store.
    const names = use === "write" ? await bytesOfNames(actors) : 0;
    return (used - states + names) / actors;
  } finally {
    await backend.close();
  }
}

/** Bytes that closing the app gives back. */
async function weighed(backend: Backend, actors: number, use: Use): Promise<number> {
  const app = await tidemark({ store: backend, aggregates: [Account], actors: { maxActors: actors } });
  await load(actors, 500, async (index) => {
    const account = app.at(Account, `a${index}`);
    if (use === "read") await account.state();
    else if (!(await account.deposit(movement(index))).ok) throw new Error("a deposit was rejected");
  });
  const { residentActors, passivations } = app.metrics();
  if (residentActors !== actors || passivations > 0) throw new Error(`${residentActors} actors are resident, ${passivations} were unloaded`);
  const before = await heap();
  await app.close();
  return before - (await heap());
}

async function bytesOfStates(actors: number, events: number): Promise<number> {
  const behaviour = behaviourOf(Account);
  const deposits = Array.from({ length: events }, (_, index) => ({ type: "Deposited", data: movement(index) }));
  return held(actors, () => behaviour.evolve(behaviour.initial(), deposits, { stream: "account-a", version: 1 }));
}

function bytesOfNames(actors: number): Promise<number> {
  return held(actors, (index) => Buffer.from(`account-a${index}`).toString());
}

/** Bytes of what `make` makes, the list that holds it not counted. */
async function held(count: number, make: (index: number) => unknown): Promise<number> {
  const list: unknown[] = Array.from({ length: count }, () => undefined);
  const before = await heap();
  for (let index = 0; index < count; index++) list[index] = make(index);
  const after = await heap();
  if (list.length !== count) throw new Error("the list was dropped");
  return after - before;
}

/** Twice: what the first collection finalises the second one gives back. */
async function heap(): Promise<number> {
  await quiet();
  await quiet();
  return process.memoryUsage().heapUsed;
}
