/**
 * Writes appends: one after the other on each stream, up to `MAX_IN_FLIGHT` at once over all of them.
 *
 * W1 At most one append of a stream is under way; the next one is sent when it is settled.
 * W2 An append on an exact version (or on none) whose answer was lost is sent again, with the same event ids, until it is answered or its time is over. The server compares
 *    the ids with what stands after that version: whichever comes first, they stand once. After that only two answers are definite: `written`, and a conflict with a
 *    version at or beyond the expected one. (One that is behind it may still grow, and take the lost append.) Everything else is `unknown`.
 * W3 With `any` and `exists` the server remembers ids only for a while and in memory: a lost answer is `unknown`, and nothing is sent again.
 * W4 The server looks for known ids only where the expected version is behind the stream's; where it is equal it appends them again. So after an `unknown` the stream is read
 *    before the same ids are sent on: what is found is `committed`, wherever it stands.
 * W5 What found no connection was not sent: for certain not written.
 */
import { delay } from "../../environment.ts";
import { isTidemarkError } from "../../errors.ts";
import type { AppendOutcome, ExpectedVersion, StoredEvent } from "../event-store.ts";
import { at } from "../position.ts";
import { refused } from "../validate-append.ts";
import type { AppendAnswer, AppendChannel, ExpectedRevision } from "./append-channel.ts";
import type { Connection } from "./connection.ts";
import { isPassing, messageOf, streamDeleted, toTidemarkError } from "./eventstoredb-error.ts";
import type { Refused } from "./protocol.ts";
import type { StreamReader } from "./stream-reader.ts";
import type { EncodedEvent } from "./wire.ts";

export const MAX_IN_FLIGHT = 100;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 500;
/** W2: a try, as a part of the whole time. */
const TRIES_IN_TIME = 3;
/** Most events of a conflict's delta. */
const MAX_MISSING = 100;
/** W4: streams with an unknown outcome that are remembered, and events that are looked at to settle one. */
const MAX_DOUBTS = 10_000;
const MAX_LOOKED_AT = 1000;

export interface PreparedAppend {
  readonly stream: string;
  readonly expected: ExpectedVersion;
  readonly ids: readonly string[];
  readonly events: readonly EncodedEvent[];
}

/** W4: the ids of an append whose outcome is unknown, and the version that it was sent on. */
interface Doubt {
  readonly ids: readonly string[];
  readonly expected: ExpectedVersion;
}

export class LogWriter {
  readonly #connection: Connection;
  readonly #channel: AppendChannel;
  readonly #reader: StreamReader;
  readonly #head: () => Promise<number>;
  readonly #lanes = new Map<string, Promise<unknown>>();
  readonly #doubts = new Map<string, Doubt[]>();
  readonly #queue: (() => void)[] = [];
  readonly #closing = new AbortController();
  #inFlight = 0;

  /** `head` tells a position that covers everything acknowledged before. */
  constructor(connection: Connection, channel: AppendChannel, reader: StreamReader, head: () => Promise<number>) {
    this.#connection = connection;
    this.#channel = channel;
    this.#reader = reader;
    this.#head = head;
  }

  /** W1. Never rejects. */
  write(append: PreparedAppend): Promise<AppendOutcome> {
    const { stream } = append;
    const before = this.#lanes.get(stream);
    const writing = before === undefined ? this.#write(append) : before.then(() => this.#write(append));
    this.#lanes.set(stream, writing);
    void writing.then(() => {
      if (this.#lanes.get(stream) === writing) this.#lanes.delete(stream);
    });
    return writing;
  }

  /** What is not sent yet is refused; what is gets its answer, or its time. */
  close(): void {
    this.#closing.abort();
    for (const wake of this.#queue.splice(0)) wake();
  }

  async #write(append: PreparedAppend): Promise<AppendOutcome> {
    if (this.#inFlight >= MAX_IN_FLIGHT) await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#inFlight++;
    try {
      if (this.#closing.signal.aborted) return refused("closed", "the store was closed; nothing was written");
      return await this.#send(append);
    } catch (cause) {
      // Not of the server's making; it may have happened on either side of the sending.
      return { kind: "unknown", cause };
    } finally {
      this.#inFlight--;
      this.#queue.shift()?.();
    }
  }

  async #send(append: PreparedAppend): Promise<AppendOutcome> {
    const { clock, random } = this.#connection.environment;
    const { timeoutMs } = this.#connection;
    const found = await this.#settle(append);
    if (found !== undefined) return found;
    const request = { stream: append.stream, expected: revisionOf(append.expected), events: append.events };
    const repeatable = append.expected !== "any" && append.expected !== "exists";
    const until = clock.elapsed() + timeoutMs;
    let lost: { readonly cause: unknown } | undefined;
    for (let tries = 0; ; tries++) {
      const left = until - clock.elapsed();
      const answer = await this.#channel.send(request, Math.max(1, Math.min(left, timeoutMs / TRIES_IN_TIME)));
      if (answer.kind === "written") return this.#committed(append, answer);
      if (answer.kind === "refused" && answer.why.kind !== "unknown") {
        if (lost === undefined || isDefinite(answer.why, append.expected)) return this.#refused(append, answer.why);
        return this.#unknown(append, lost.cause);
      }
      if (answer.kind !== "not-sent") lost = { cause: answer.kind === "lost" ? answer.cause : new Error(answer.why.kind === "unknown" ? answer.why.message : answer.why.kind) };
      // W3.
      if (lost !== undefined && !repeatable) return this.#unknown(append, lost.cause);
      const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** tries) * (0.5 + random.next() / 2);
      const givenUp = this.#closing.signal.aborted || clock.elapsed() + pause >= until || (answer.kind === "not-sent" && !isPassing(answer.cause));
      if (givenUp && lost !== undefined) return this.#unknown(append, lost.cause);
      if (givenUp) return this.#notSent(answer);
      await delay(clock, pause, this.#closing.signal).catch(() => undefined);
    }
  }

  async #committed(append: PreparedAppend, answer: Extract<AppendAnswer, { kind: "written" }>): Promise<AppendOutcome> {
    this.#doubts.delete(append.stream);
    // Those that stand already in a stream that was deleted since come without a position: one that covers theirs does.
    const position = answer.position ?? (await this.#head());
    return { kind: "committed", version: answer.revision + 1, position: at(position) };
  }

  async #refused({ stream, expected }: PreparedAppend, why: Refused): Promise<AppendOutcome> {
    const { name } = this.#connection;
    switch (why.kind) {
      case "wrong-version": {
        const actual = why.current === undefined ? 0 : why.current + 1;
        const missing = await this.#missing(stream, expected, actual);
        return { kind: "conflict", actual, ...(missing !== undefined && { missing }) };
      }
      case "deleted": {
        const cause = streamDeleted(stream, expected === "exists" ? "soft-deleted" : "tombstoned");
        return refused("stream-deleted", expected === "exists" ? `${stream} was deleted; nothing was written` : `${cause.message}; nothing was written`, { cause });
      }
      case "denied":
        return refused("unavailable", `${name} denies writing to ${stream}; nothing was written. The rights that Tidemark needs stand in docs/eventstoredb.md.`);
      case "too-large":
        return refused("too-large", `stream ${stream}: the append is larger than the ${why.maxBytes} bytes that ${name} takes; nothing was written`);
      case "unknown":
        return { kind: "unknown", cause: new Error(why.message) };
    }
  }

  /** The events after an exact expectation that was behind. Whoever needs them reads them where this fails. */
  async #missing(stream: string, expected: ExpectedVersion, actual: number): Promise<readonly StoredEvent[] | undefined> {
    const from = expected === "none" ? 0 : expected;
    if (typeof from !== "number" || from >= actual) return undefined;
    try {
      const { events } = await this.#reader.forward(stream, from + 1, Math.min(MAX_MISSING, actual - from));
      return events[0]?.version === from + 1 ? events : undefined;
    } catch {
      return undefined;
    }
  }

  #notSent(answer: AppendAnswer): AppendOutcome {
    const { name } = this.#connection;
    const cause = toTidemarkError(answer.kind === "not-sent" ? answer.cause : undefined, name);
    if (isTidemarkError(cause, "StoreClosed")) return refused("closed", "the store was closed; nothing was written", { cause });
    return refused("unavailable", `${messageOf(cause)}; nothing was written`, { retryable: isTidemarkError(cause) && cause.retryable, cause });
  }

  #unknown({ stream, ids, expected }: PreparedAppend, cause: unknown): AppendOutcome {
    const doubts = this.#doubts.get(stream) ?? [];
    this.#doubts.delete(stream);
    this.#doubts.set(stream, [...doubts.filter((doubt) => doubt.ids[0] !== ids[0]), { ids, expected }].slice(-16));
    for (const oldest of this.#doubts.keys()) {
      if (this.#doubts.size <= MAX_DOUBTS) break;
      this.#doubts.delete(oldest);
    }
    return { kind: "unknown", cause };
  }

  /** W4: the outcome of ids that were sent before and stand, otherwise undefined. */
  async #settle({ stream, ids, expected }: PreparedAppend): Promise<AppendOutcome | undefined> {
    const doubt = this.#doubts.get(stream)?.find((one) => one.ids[0] === ids[0]);
    // On the same exact version the server looks by itself.
    if (doubt === undefined || (doubt.expected === expected && expected !== "any" && expected !== "exists")) return undefined;
    try {
      const from = doubt.expected === "none" ? 0 : doubt.expected;
      const { events } = typeof from === "number" ? await this.#reader.forward(stream, from + 1, MAX_LOOKED_AT) : await this.#reader.lastOnes(stream, MAX_LOOKED_AT);
      const first = events.findIndex((event) => event.id === ids[0]);
      if (first < 0) return undefined;
      const last = events[first + ids.length - 1];
      if (last === undefined || ids.some((id, index) => events[first + index]?.id !== id)) return { kind: "conflict", actual: (events.at(-1) as StoredEvent).version };
      this.#doubts.delete(stream);
      return { kind: "committed", version: last.version, position: last.position };
    } catch (cause) {
      return { kind: "unknown", cause };
    }
  }
}

/** W2: whether a refusal says something of an earlier try whose answer was lost. */
function isDefinite(why: Refused, expected: ExpectedVersion): boolean {
  if (why.kind !== "wrong-version") return false;
  const actual = why.current === undefined ? 0 : why.current + 1;
  return actual >= (expected === "none" ? 0 : (expected as number));
}

function revisionOf(expected: ExpectedVersion): ExpectedRevision {
  if (expected === "any") return "any";
  if (expected === "exists") return "stream-exists";
  return expected === "none" || expected === 0 ? "no-stream" : expected - 1;
}
