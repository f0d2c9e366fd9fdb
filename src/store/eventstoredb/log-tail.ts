/**
 * A subscription to `$all`, with the server's filter, that goes on by itself: what it gets is kept until it is taken.
 *
 * T1 It subscribes anew after the last place that it was told of, whether the call failed or ended without an error: the client never does. Pauses grow, with jitter.
 * T2 What is kept is bounded: over `MAX_KEPT_EVENTS` or `MAX_KEPT_BYTES` the call is paused, and the server waits.
 * T3 Events that share a commit are told whole: where a call ends among them, it begins before them again.
 * T4 After each connecting the log's identity is asked for: a server that was set up anew has another one. What was read beside a subscription that is not connected
 *    is believed only after the same question (`confirm`).
 */
import type { ClientReadableStream } from "@grpc/grpc-js";
import type { ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { delay } from "../../environment.ts";
import { StoreRewound } from "../../errors.ts";
import type { Connection } from "./connection.ts";
import { isInvalidPosition, messageOf } from "./eventstoredb-error.ts";
import { entryOf, filterOf, type LogEntry } from "./log-reads.ts";
import { recordedEvent, subscribeRequest, whole } from "./protocol.ts";

const MAX_KEPT_EVENTS = 4000;
const MAX_KEPT_BYTES = 16 * 1024 * 1024;
const FIRST_PAUSE_MS = 30;
const LONGEST_PAUSE_MS = 2000;

type Call = ClientReadableStream<ReadResp>;

export interface LogTailOptions {
  readonly connection: Connection;
  readonly categories: ReadonlySet<string> | undefined;
  readonly after: number;
  /** T4. */
  readonly identity: () => Promise<string>;
  /** Called whenever there is something new to look at. */
  readonly onNews: () => void;
}

export class LogTail {
  readonly #options: LogTailOptions;
  readonly #ending = new AbortController();
  #kept: LogEntry[] = [];
  #next = 0;
  #bytes = 0;
  #told: number;
  /** `told` before the commit that it stands at, while more of that commit may follow. */
  #before: number | undefined;
  #call: Call | undefined;
  #identity: string | undefined;
  /** Asked for on the connection that there is. */
  #confirmed = false;
  #caughtUp = false;
  #fatal: Error | undefined;
  #failure: unknown;

  constructor(options: LogTailOptions) {
    this.#options = options;
    this.#told = options.after;
    void this.#run();
  }

  /** What ends the iteration. */
  get fatal(): Error | undefined {
    return this.#fatal;
  }

  /** Why there is no subscription at the moment. */
  get failure(): unknown {
    return this.#failure;
  }

  /** The server has told all that there was when it said so: what may be missing is little. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Up to where everything was told: what is not kept there is not of ours. A commit counts when it is whole (T3). */
  get told(): number {
    return this.#before ?? this.#told;
  }

  /** Entries that are kept, after `after`; earlier ones are dropped. */
  peek(after: number): readonly LogEntry[] {
    let entry = this.#kept[this.#next];
    while (entry !== undefined && entry.commit <= after) entry = this.#drop(entry);
    if (this.#next > 1024 || this.#next === this.#kept.length) {
      this.#kept = this.#kept.slice(this.#next);
      this.#next = 0;
    }
    if (this.#call?.isPaused() === true && !this.#full()) this.#call.resume();
    return this.#next === 0 ? this.#kept : this.#kept.slice(this.#next);
  }

  end(): void {
    this.#ending.abort();
    this.#call?.cancel();
    this.#kept = [];
  }

  /** T4: after a read beside it. Errors: StoreRewound; of the connection. */
  async confirm(): Promise<void> {
    if (!this.#confirmed) await this.#checkIdentity();
  }

  #drop(entry: LogEntry): LogEntry | undefined {
    this.#bytes -= sizeOf(entry);
    return this.#kept[++this.#next];
  }

  #full(): boolean {
    return this.#kept.length - this.#next >= MAX_KEPT_EVENTS || this.#bytes >= MAX_KEPT_BYTES;
  }

  /** T1. Never rejects. */
  async #run(): Promise<void> {
    const { connection, onNews } = this.#options;
    const { clock, random, logger } = connection.environment;
    const { signal } = this.#ending;
    for (let failures = 0; !signal.aborted && this.#fatal === undefined; ) {
      const before = this.#told;
      try {
        await this.#follow();
        this.#failure = new Error("EventStoreDB ended the subscription");
      } catch (error) {
        this.#failure = error;
      }
      this.#call = undefined;
      this.#confirmed = false;
      this.#caughtUp = false;
      this.#forgetPart();
      if (signal.aborted) return;
      if (this.#failure instanceof StoreRewound) this.#fatal = this.#failure;
      else if (isInvalidPosition(this.#failure)) this.#fatal = rewound(this.#told, connection.name);
      else logger.warn({ server: connection.name, reason: messageOf(this.#failure) }, "the subscription to the log was lost and is made anew");
      onNews();
      failures = this.#told > before ? 0 : failures + 1;
      const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures) * (0.5 + random.next() / 2);
      await delay(clock, pause, signal).catch(() => undefined);
    }
  }

  /** T4. */
  async #checkIdentity(): Promise<void> {
    const identity = await this.#options.identity();
    this.#identity ??= identity;
    if (this.#identity === identity) return;
    const { name } = this.#options.connection;
    throw new StoreRewound(`${name} holds another log than before: it was set up anew`, { details: { server: name, expected: this.#identity, found: identity } });
  }

  /** Resolves when the call ends; rejects when it fails. */
  async #follow(): Promise<void> {
    const { connection, categories, onNews } = this.#options;
    const call = await connection.openRead(subscribeRequest({ after: this.#told, filter: filterOf(categories) }));
    if (this.#ending.signal.aborted) return call.cancel();
    this.#call = call;
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
    call.on("error", reject);
    call.on("end", resolve);
    try {
      // T4: of the server that the call has reached, so not before; nothing is taken until it is known.
      await Promise.race([this.#checkIdentity(), ended]);
      this.#confirmed = true;
      // What is kept already fills the room that there is.
      if (this.#full()) call.pause();
      call.on("data", (response: ReadResp) => {
        try {
          if (this.#take(response)) onNews();
        } catch (error) {
          reject(error as Error);
        }
      });
      await ended;
    } finally {
      call.cancel();
    }
  }

  /** T3. */
  #forgetPart(): void {
    if (this.#before === undefined) return;
    const part = this.#told;
    this.#kept = this.#kept.slice(this.#next).filter(({ commit }) => commit !== part);
    this.#next = 0;
    this.#bytes = this.#kept.reduce((sum, entry) => sum + sizeOf(entry), 0);
    this.#told = this.#before;
    this.#before = undefined;
  }

  /** Whether there is something new to look at. */
  #take(response: ReadResp): boolean {
    this.#failure = undefined;
    const event = recordedEvent(response);
    if (event !== undefined) {
      // Told before; within a commit that is shared the place stays the same.
      if (event.commit < this.#told || (event.commit === this.#told && this.#before === undefined)) return false;
      if (event.prepare === event.commit) this.#before = undefined;
      else if (event.commit > this.#told) this.#before = this.#told;
      this.#told = event.commit;
      const entry = entryOf(event, this.#options.categories);
      if (entry === undefined) return false;
      this.#kept.push(entry);
      this.#bytes += sizeOf(entry);
      // T2.
      if (this.#full()) this.#call?.pause();
      return true;
    }
    const checkpoint = response.getCheckpoint();
    const considered = checkpoint === undefined ? 0 : whole(checkpoint.getCommitPosition());
    if (considered > this.#told) {
      this.#told = considered;
      this.#before = undefined;
    }
    if (response.hasCaughtUp()) this.#caughtUp = true;
    else if (response.hasFellBehind()) this.#caughtUp = false;
    return checkpoint !== undefined || response.hasCaughtUp();
  }
}

export function rewound(position: number, where: string, head?: number): StoreRewound {
  const beyond = head === undefined ? "is no place in the log" : `lies beyond the last event (${head})`;
  return new StoreRewound(`position ${position} ${beyond} of ${where}: this is not the log it was made on`, { details: { position, head, server: where } });
}

/** About what it takes in memory. */
function sizeOf({ event }: LogEntry): number {
  return 400 + 2 * event.data.length;
}
