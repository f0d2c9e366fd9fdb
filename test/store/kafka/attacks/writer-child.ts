/** A process that works on streams until its input ends: `writer-child.ts JSON` (WriterPlan of writer.ts). Its ledger outlives a kill -9. */
import { openSync, writeSync } from "node:fs";
import { silentLogger, systemClock } from "../../../../src/environment.ts";
import { isTidemarkError } from "../../../../src/errors.ts";
import { kafkaStore } from "../../../../src/store/kafka/index.ts";
import { kafkajsCluster } from "../../../../src/store/kafka/kafkajs-cluster.ts";
import { detour, fated } from "./points.ts";
import type { Line } from "./ledger.ts";
import { work } from "./workload.ts";
import type { WriterPlan } from "./writer.ts";

const { brokers, ledger, streams, options, pauseMs, ports, fate, skewMs = 0 } = JSON.parse(process.argv[2] ?? "") as WriterPlan & { readonly ledger: string };
if (ports !== undefined) detour(ports);
const clock = { ...systemClock, now: () => systemClock.now() + skewMs };
const file = openSync(ledger, "a");
const record = (line: Line): void => void writeSync(file, `${JSON.stringify(line)}\n`);
const logger = { ...silentLogger, error: ({ error }: { readonly error?: unknown }) => record({ what: "alarm", code: isTidemarkError(error) ? error.code : String(error) }) };
const requestTimeoutMs = options.requestTimeoutMs ?? 5000;
const cluster = kafkajsCluster({ brokers, clientId: "attacked", requestTimeoutMs, clock });
const store = kafkaStore({ ...options, requestTimeoutMs, cluster: fate === undefined ? cluster : fated(cluster, fate), environment: { clock, logger } });
const ending = new AbortController();
process.stdin.on("end", () => ending.abort()).resume();
await work({ store, streams, signal: ending.signal, record, ...(pauseMs === undefined ? {} : { pauseMs }) });
await store.close();
