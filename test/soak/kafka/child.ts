/**
 * One process of the soak on Kafka: `child.ts JSON`. It calls for ever, many calls at once, and prints a record of each once it is answered; `end` on its input closes it in
 * an orderly way.
 */
import { createInterface } from "node:readline";
import { tidemark } from "../../../src/index.ts";
import { kafkaBackend } from "../../../src/store/kafka/index.ts";
import { detour } from "../../store/kafka/attacks/points.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { Account, balances } from "../processes/account.ts";
import { calls } from "../processes/calls.ts";

export interface ChildOptions {
  readonly brokers: readonly string[];
  /** Port of each broker, and of the proxy that stands before it. */
  readonly ports: Readonly<Record<string, number>>;
  readonly topicPrefix: string;
  readonly partitions: number;
  readonly seed: number;
  readonly name: string;
}

const { brokers, ports, topicPrefix, partitions, seed, name } = JSON.parse(process.argv[2] ?? "") as ChildOptions;
const STREAMS = 600;
const CALLERS = 250;
/** Of calls that failed at once: whoever calls again waits. */
const PAUSE_MS = 20;

const random = randomFrom(seed);
let ending = false;

detour(ports);
const backend = kafkaBackend({ brokers, topicPrefix, partitions, owner: name, requestTimeoutMs: 1500, appendTimeoutMs: 5000 });
const app = await tidemark({ store: backend, views: "memory:", aggregates: [Account], readModels: [balances], actors: { attempts: 50 } });

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "end") ending = true;
});

const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`);
const once = calls({ app, name, random, streams: STREAMS, kinds: [[0.55, "deposit"], [0.95, "withdraw"], [0.97, "settle"], [0.99, "state"], [1, "read"]], repeats: 0.2, keeps: 0.01, tell: say });

process.stdout.write("ready\n");
await Promise.all(
  Array.from({ length: CALLERS }, async (_, caller) => {
    for (let n = 0; !ending; n++) {
      const record = await once(caller, n);
      say(record);
      if (record.answer.kind === "error") await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * (0.5 + random())));
    }
  }),
);
await app.close();
await backend.close();
process.exit(0);
