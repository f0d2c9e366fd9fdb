/** GET /healthz: the process answers. GET /readyz: it can do its work. */
import { z } from "zod";
import type { ReadModel } from "../../../src/index.ts";
import type { Shop } from "../shop.ts";
import { HttpProblem } from "./problem.ts";
import { responses, type HttpServer } from "./schemas.ts";

const okShape = z.object({ status: z.literal("ok") });
const readyShape = z.object({ status: z.literal("ready"), readModels: z.record(z.string(), z.string()) });

export function healthRoutes(server: HttpServer, { app, models }: Shop, closing: AbortSignal): void {
  /** Read models that have caught up once; later lag is for the metrics. */
  const caughtUp = new Set<string>();

  function stateOf(model: ReadModel<unknown>): string {
    const { state } = app.readModel(model).progress();
    if (state === "live") caughtUp.add(model.name);
    return state;
  }

  server.get("/healthz", { schema: { tags: ["operation"], operationId: "health", response: responses({ 200: okShape }, []) } }, () => ({ status: "ok" }));

  server.get("/readyz", { schema: { tags: ["operation"], operationId: "readiness", response: responses({ 200: readyShape }, [503]) } }, () => {
    const states = Object.values(models).map((model): [string, string] => [model.name, stateOf(model)]);
    const readModels = Object.fromEntries(states);
    if (closing.aborted) throw new HttpProblem(503, "Closing", "the service is closing");
    const waiting = states.filter(([name, state]) => state === "failed" || state === "stopped" || state === "paused" || !caughtUp.has(name));
    if (waiting.length === 0) return { status: "ready", readModels };
    throw new HttpProblem(503, "NotReady", waiting.map(([name, state]) => `read model ${name} is ${state}`).join(", "), { readModels });
  });
}
