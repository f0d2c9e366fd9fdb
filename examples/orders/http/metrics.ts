/** GET /metrics, for Prometheus: the app's counters, the progress of each read model, and HTTP requests. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Metrics } from "../../../src/index.ts";
import type { Shop } from "../shop.ts";
import type { HttpServer } from "./schemas.ts";

const COUNTERS = {
  duplicates: "Commands answered from the window of command ids",
  eventsAppended: "Events appended",
  appends: "Appends",
  groups: "Round trips to the store with appends in them",
  conflicts: "Appends that met another writer's events",
  unknownOutcomes: "Appends whose outcome had to be looked up",
  confirmations: "Reads that confirmed the version of an answer without events",
  hydrations: "Actors loaded",
  eventsReplayed: "Events folded while actors were loaded",
  snapshotsUsed: "Snapshots used",
  snapshotsIgnored: "Snapshots that did not fit",
  snapshotsSaved: "Snapshots saved",
  snapshotsFailed: "Snapshots that could not be saved",
  passivations: "Actors unloaded",
} as const satisfies Partial<Record<keyof Metrics, string>>;

const GAUGES = { residentActors: "Actors in memory", residentBytes: "Their estimated size", waitingCommands: "Commands in mailboxes" } as const satisfies Partial<Record<keyof Metrics, string>>;

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

export function metricsRoutes(server: HttpServer, shop: Shop): void {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  appMetrics(registers, shop);
  readModelMetrics(registers, shop);

  const requests = new Histogram({ name: "http_request_duration_seconds", help: "HTTP requests", labelNames: ["method", "route", "status"], buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10], registers });
  server.addHook("onResponse", (request, reply, done) => {
    requests.observe({ method: request.method, route: request.routeOptions.url ?? "none", status: reply.statusCode }, reply.elapsedTime / 1000);
    done();
  });

  server.get("/metrics", { schema: { tags: ["operation"], operationId: "metrics" } }, async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()));
}

function appMetrics(registers: Registry[], { app }: Shop): void {
  const commands = new Counter({
    name: "tidemark_commands_total",
    help: "Commands by outcome",
    labelNames: ["outcome"],
    registers,
    collect() {
      const { commandsAccepted, commandsRejected, commandsFailed } = app.metrics();
      commands.reset();
      commands.inc({ outcome: "accepted" }, commandsAccepted);
      commands.inc({ outcome: "rejected" }, commandsRejected);
      commands.inc({ outcome: "failed" }, commandsFailed);
    },
  });
  for (const [name, help] of Object.entries(COUNTERS) as [keyof typeof COUNTERS, string][]) {
    const counter: Counter = new Counter({ name: `tidemark_${snake(name)}_total`, help, registers, collect: () => (counter.reset(), counter.inc(app.metrics()[name])) });
  }
  for (const [name, help] of Object.entries(GAUGES) as [keyof typeof GAUGES, string][]) {
    const gauge: Gauge = new Gauge({ name: `tidemark_${snake(name)}`, help, registers, collect: () => gauge.set(app.metrics()[name]) });
  }
}

function readModelMetrics(registers: Registry[], { app, models }: Shop): void {
  const labelNames = ["read_model"];
  const progress = Object.values(models).map((model) => ({ labels: { read_model: model.name }, now: () => app.readModel(model).progress() }));
  const events = new Counter({
    name: "tidemark_read_model_events_total",
    help: "Events handed to the pipeline",
    labelNames,
    registers,
    collect() {
      events.reset();
      for (const { labels, now } of progress) events.inc(labels, now().events);
    },
  });
  const gauge = (name: string, help: string, read: (of: ReturnType<(typeof progress)[number]["now"]>) => number | undefined): void => {
    const metric: Gauge<string> = new Gauge({
      name: `tidemark_read_model_${name}`,
      help,
      labelNames,
      registers,
      collect() {
        for (const { labels, now } of progress) {
          const value = read(now());
          if (value !== undefined) metric.set(labels, value);
        }
      },
    });
  };
  gauge("lag_events", "Events not yet visible, at most", ({ lagEvents }) => lagEvents);
  gauge("lag_seconds", "Age of the newest visible event while there are more", ({ lagMs }) => lagMs / 1000);
  gauge("events_per_second", "Over the last seconds", ({ eventsPerSecond }) => eventsPerSecond);
  gauge("up", "1 while it follows the log", ({ state }) => (state === "failed" || state === "stopped" || state === "paused" ? 0 : 1));
}
