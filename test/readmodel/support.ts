import { aggregate } from "../../src/aggregate/aggregate.ts";
import { environmentOf, type Environment, type Logger } from "../../src/environment.ts";
import type { ReadModel } from "../../src/readmodel/read-model.ts";
import { createRunner, type Runner, type RunnerOptions } from "../../src/readmodel/runner.ts";
import type { ViewStore } from "../../src/readmodel/view-store.ts";
import type { EventStore, NewEvent, StoredEvent } from "../../src/store/event-store.ts";
import { covers, type Position } from "../../src/store/position.ts";
import { memoryStore } from "../../src/store/memory/memory-store.ts";
import { memoryViews } from "../../src/store/memory/memory-views.ts";

export const Order = aggregate("order", {
  initial: () => ({ status: "new" }),
  events: {
    Placed: (order, _data: { customer: string; total: number }) => {
      order.status = "placed";
    },
    Shipped: (order, _data: { carrier: string }) => {
      order.status = "shipped";
    },
    Cancelled: (order, _data: { reason: string }) => {
      order.status = "cancelled";
    },
  },
  commands: { place: (_order, input: { customer: string; total: number }, { emit }) => emit("Placed", input) },
});

export const Customer = aggregate("customer", {
  initial: () => ({ name: "" }),
  events: {
    Registered: (customer, data: { name: string }) => {
      customer.name = data.name;
    },
  },
  commands: { register: (_customer, input: { name: string }, { emit }) => emit("Registered", input) },
});

let serial = 0;

export function newEvent(type: string, data: unknown, recordedAt = 1_700_000_000_000): NewEvent {
  serial++;
  return { id: `event-${serial}`, type, data: JSON.stringify(data), metadata: { correlationId: "c", causationId: "c", commandId: `command-${serial}` }, recordedAt };
}

/** Appends one event and returns its position. */
export async function append(store: EventStore, stream: string, type: string, data: unknown): Promise<Position> {
  const [outcome] = await store.append([{ stream, expected: "any", events: [newEvent(type, data)] }]);
  if (outcome?.kind !== "committed") throw new Error(`the append was answered ${JSON.stringify(outcome)}`);
  return outcome.position;
}

export const placed = (store: EventStore, id: string, total = 1): Promise<Position> => append(store, `order-${id}`, "Placed", { customer: `c-${id}`, total });

/** Orders with a life each, interleaved in an order that the seed decides. */
export async function history(store: EventStore, orders: number, seed = 7): Promise<Position> {
  let state = seed;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const lives = Array.from({ length: orders }, (_, i) => ({ id: `o${i}`, left: ["Placed", "Shipped", ...(draw(3) === 0 ? ["Cancelled"] : [])] }));
  let position: Position = {};
  while (lives.some((life) => life.left.length > 0)) {
    const life = lives[draw(lives.length)];
    const type = life?.left.shift();
    if (life === undefined || type === undefined) continue;
    const data = type === "Placed" ? { customer: `c${draw(3)}`, total: 1 + draw(50) } : type === "Shipped" ? { carrier: `k${draw(2)}` } : { reason: "none" };
    position = await append(store, `order-${life.id}`, type, data);
  }
  return position;
}

export interface LoggedLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export function recording(): { readonly lines: LoggedLine[]; readonly environment: Environment } {
  const lines: LoggedLine[] = [];
  const at =
    (level: LoggedLine["level"]) =>
    (fields: object, message: string): void => {
      lines.push({ level, fields: fields as Record<string, unknown>, message });
    };
  const logger: Logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { lines, environment: environmentOf({ logger }) };
}

export interface Setting {
  readonly store?: EventStore;
  readonly views?: ViewStore;
  readonly environment?: Environment;
  readonly options?: Partial<RunnerOptions>;
}

/** Short pauses, so that retries take no time; everything else as users have it. */
export function runnerOf<V>(model: ReadModel<V>, { store = memoryStore(), views = memoryViews(), environment = environmentOf(), options = {} }: Setting = {}): Runner<V> {
  return createRunner(model, { store, views, environment }, { firstPauseMs: 1, maxPauseMs: 4, ...options });
}

/** Resolves when the condition holds, looked at whenever the runner moves. */
export function advancedUntil(runner: Runner<unknown>, condition: () => boolean, withinMs = 5000): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = runner.onAdvance(look);
    const bound = setTimeout(() => {
      end();
      reject(new Error(`not reached within ${withinMs} ms; the read model is ${JSON.stringify(runner.progress())}`));
    }, withinMs);
    function look(): void {
      let outcome: () => void = resolve;
      try {
        if (!condition()) return;
      } catch (error) {
        outcome = () => reject(error as Error);
      }
      clearTimeout(bound);
      end();
      outcome();
    }
    look();
  });
}

export function reached(runner: Runner<unknown>, position: Position): Promise<void> {
  return advancedUntil(runner, () => {
    if (runner.error !== undefined) throw runner.error;
    return covers(runner.position(), position);
  });
}

export function failed(runner: Runner<unknown>): Promise<void> {
  return advancedUntil(runner, () => runner.progress().state === "failed");
}

/** Resolves when the condition holds, looked at every millisecond. */
export async function eventually(condition: () => boolean | Promise<boolean>, withinMs = 5000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not reached within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** An event store whose reads can be made to fail or answer otherwise. */
export function patched<T extends object>(target: T, patch: Partial<T>): T {
  return new Proxy(target, {
    get(object, property) {
      if (property in patch) return patch[property as keyof T];
      const value: unknown = Reflect.get(object, property, object);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(object) : value;
    },
  });
}

export type { StoredEvent };
