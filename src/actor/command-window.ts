/**
 * The window of command ids of one stream: which commands, whose ids their callers chose, stand in the stream, and where.
 *
 * W1 An entry is findable iff an event with a `fingerprint` in its metadata was written under that command id, it is among the newest `capacity`
 *    such commands of the stream, and its `recordedAt` is not before (the largest `recordedAt` of the stream's events) − `windowMs`.
 * W2 So the window is a function of the stream's events alone, folded once each and in order: it is the same after replay, snapshot and passivation,
 *    and in every process. Nothing else moves it; above all not the clock.
 * W3 A command that was appended is always found while W1 holds. A hit is a hint: entries keep 52 bits of a hash of the id, so a hit may be a stranger's.
 *    Whoever asks reads the events and compares command id and fingerprint. SHA-1 keeps callers from making strangers at will.
 * W4 The events of one command are contiguous and make one entry: its first version and their number.
 * W5 Memory: nothing while there is no entry, then three numbers an entry; slack is an eighth while it grows, a third at most after entries expired.
 *    Never more than `capacity` entries.
 */
import { hash } from "node:crypto";
import { InvalidArgument } from "../errors.ts";
import { assertKnown } from "../known-options.ts";
import type { EventMetadata } from "../store/event-store.ts";

export interface CommandWindowOptions {
  /** Most command ids remembered for one stream. Default 1000. */
  readonly capacity: number;
  /** How long a command id is remembered, in milliseconds, by the stream's own time. Default 7 days. */
  readonly windowMs: number;
}

export const commandWindowDefaults: CommandWindowOptions = Object.freeze({ capacity: 1000, windowMs: 7 * 24 * 60 * 60 * 1000 });

/** Completes and checks options, once for all windows; errors: InvalidArgument. */
export function commandWindowOptions(given: Partial<CommandWindowOptions> = {}): CommandWindowOptions {
  assertKnown(given, commandWindowDefaults, "commandWindow");
  const options = { ...commandWindowDefaults, ...given };
  for (const name of ["capacity", "windowMs"] as const) {
    if (!Number.isSafeInteger(options[name]) || options[name] < 1) {
      throw new InvalidArgument(`${name} of the window of command ids must be a positive integer`, { details: { [name]: options[name] } });
    }
  }
  return Object.freeze(options);
}

/** Where the events of a remembered command stand. */
export interface RememberedCommand {
  /** Version of its first event. */
  readonly version: number;
  /** Number of its events. */
  readonly count: number;
}

/** What a window needs to know of an event. */
export interface WindowEvent {
  readonly version: number;
  readonly recordedAt: number;
  readonly metadata: Pick<EventMetadata, "commandId" | "fingerprint">;
}

/** Numbers of an entry: hash, version and count in one, time. */
const FIELDS = 3;
const NONE: readonly RememberedCommand[] = Object.freeze([]);
const COUNT_LIMIT = 2 ** 20;
const VERSION_LIMIT = 2 ** 33;
const FORMAT = "w1";

export class CommandWindow {
  readonly #options: CommandWindowOptions;
  /** A ring of entries of FIELDS numbers; a plain array of doubles has no buffer of its own, which a typed array has. */
  #ring: number[] | undefined;
  #first = 0;
  #length = 0;
  #latest = Number.NEGATIVE_INFINITY;

  constructor(options: CommandWindowOptions = commandWindowDefaults) {
    this.#options = options;
  }

  /** Commands remembered; those past `windowMs` that wait behind a younger one included. */
  get size(): number {
    return this.#length;
  }

  /** Bytes held by the entries and their slack. */
  get bytes(): number {
    return this.#ring === undefined ? 0 : this.#ring.length * 8;
  }

  /** Folds the next event of the stream (W2, W4). */
  fold(event: WindowEvent): void {
    if (event.metadata.fingerprint === undefined) this.observe(event.recordedAt);
    else this.add(event.metadata.commandId, event.version, 1, event.recordedAt);
  }

  /** Moves the stream's time; called for every event whose command id nobody chose. `recordedAt`: milliseconds since the epoch. */
  observe(recordedAt: number): void {
    if (recordedAt > this.#latest) this.#latest = recordedAt;
    this.#forgetExpired();
  }

  /** Remembers `count` events from `version` on as written by a command whose id its caller chose. Errors: InvalidArgument. */
  add(commandId: string, version: number, count: number, recordedAt: number): void {
    if (!(version >= 1 && version < VERSION_LIMIT && count >= 1 && count < COUNT_LIMIT)) {
      throw new InvalidArgument("a command window holds versions below 2^33 and fewer than 2^20 events of one command", { details: { version, count } });
    }
    const id = hashOf(commandId);
    if (!this.#extend(id, version, count, recordedAt)) this.#push(id, version * COUNT_LIMIT + count, recordedAt);
    this.observe(recordedAt);
  }

  /** Where commands with this id may stand (W3), newest first; nearly always none or one. */
  find(commandId: string): readonly RememberedCommand[] {
    const ring = this.#ring;
    if (ring === undefined) return NONE;
    const id = hashOf(commandId);
    const oldest = this.#latest - this.#options.windowMs;
    let found: RememberedCommand[] | undefined;
    let slot = this.#slot(this.#length - 1);
    for (let left = this.#length; left > 0; left--, slot = (slot === 0 ? ring.length : slot) - FIELDS) {
      // W1: an expired entry may stand behind a younger one, because clocks of several writers differ.
      if (ring[slot] === id && (ring[slot + 2] as number) >= oldest) (found ??= []).push(unpack(ring[slot + 1] as number));
    }
    return found ?? NONE;
  }

  /** Compact text for a snapshot; `restore` makes an equal window of it. */
  toJSON(): string {
    const bytes = Buffer.allocUnsafe((1 + this.#length * FIELDS) * 8);
    bytes.writeDoubleLE(this.#latest, 0);
    this.#entries().forEach((number, i) => bytes.writeDoubleLE(number, (1 + i) * 8));
    return `${FORMAT}.${this.#options.capacity}.${this.#options.windowMs}.${bytes.toString("base64url")}`;
  }

  /**
   * The window that `toJSON` wrote. One that was kept under narrower options cannot tell what these would remember (W2): replay the stream instead.
   * Errors: InvalidArgument when the text is damaged, or of narrower options.
   */
  static restore(text: string, options: CommandWindowOptions = commandWindowDefaults): CommandWindow {
    const [format, capacity, windowMs, payload, ...rest] = text.split(".");
    const bytes = Buffer.from(payload ?? "", "base64url");
    const entries = (bytes.length / 8 - 1) / FIELDS;
    if (format !== FORMAT || rest.length > 0 || !Number.isInteger(entries) || entries < 0 || entries > Number(capacity)) {
      throw new InvalidArgument("the text of a window of command ids is damaged");
    }
    if (!(Number(capacity) >= options.capacity && Number(windowMs) >= options.windowMs)) {
      throw new InvalidArgument("the window of command ids was kept under narrower options");
    }
    const window = new CommandWindow(options);
    const number = (index: number): number => bytes.readDoubleLE(index * 8);
    window.#latest = number(0);
    for (let i = 0; i < entries; i++) {
      const at = 1 + i * FIELDS;
      const { version, count } = unpack(number(at + 1));
      if (!Number.isSafeInteger(number(at)) || !Number.isSafeInteger(number(at + 1)) || version < 1 || count < 1) {
        throw new InvalidArgument("the text of a window of command ids is damaged");
      }
      window.#push(number(at), number(at + 1), number(at + 2));
    }
    window.#forgetExpired();
    return window;
  }

  /** W4: an event that follows the last of the newest entry, under the same id, belongs to it. */
  #extend(id: number, version: number, count: number, recordedAt: number): boolean {
    const ring = this.#ring;
    if (ring === undefined || this.#length === 0) return false;
    const slot = this.#slot(this.#length - 1);
    const last = unpack(ring[slot + 1] as number);
    if (ring[slot] !== id || last.version + last.count !== version || last.count + count >= COUNT_LIMIT) return false;
    ring[slot + 1] = (ring[slot + 1] as number) + count;
    ring[slot + 2] = Math.max(ring[slot + 2] as number, recordedAt);
    return true;
  }

  #push(id: number, place: number, recordedAt: number): void {
    if (this.#length === this.#options.capacity) this.#dropFirst();
    const ring = this.#withRoom();
    const slot = this.#slot(this.#length);
    ring[slot] = id;
    ring[slot + 1] = place;
    ring[slot + 2] = recordedAt;
    this.#length++;
  }

  /** An expired entry at the front is dropped: it is among the oldest, so no other entry's place among the newest depends on it (W1). */
  #forgetExpired(): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    const oldest = this.#latest - this.#options.windowMs;
    const before = this.#length;
    while (this.#length > 0 && !((ring[this.#slot(0) + 2] as number) >= oldest)) this.#dropFirst();
    if (this.#length === before) return;
    if (this.#length === 0) this.#ring = undefined;
    else if (this.#length * 4 < this.#slots() * 3) this.#resize(withSlack(this.#length));
  }

  #dropFirst(): void {
    this.#first = (this.#first + 1) % this.#slots();
    this.#length--;
  }

  #slots(): number {
    return (this.#ring?.length ?? 0) / FIELDS;
  }

  #slot(i: number): number {
    return ((this.#first + i) % this.#slots()) * FIELDS;
  }

  /** The numbers of all entries, oldest entry first. */
  #entries(): readonly number[] {
    const ring = this.#ring ?? [];
    const end = (this.#first + this.#length) * FIELDS;
    return [...ring.slice(this.#first * FIELDS, end), ...ring.slice(0, Math.max(0, end - ring.length))];
  }

  #withRoom(): number[] {
    if (this.#ring !== undefined && this.#length < this.#slots()) return this.#ring;
    return this.#resize(Math.min(this.#options.capacity, withSlack(this.#length)));
  }

  /** W5. */
  #resize(slots: number): number[] {
    const resized = doubles(slots * FIELDS);
    this.#entries().forEach((number, i) => (resized[i] = number));
    this.#ring = resized;
    this.#first = 0;
    return resized;
  }
}

function withSlack(entries: number): number {
  return entries + Math.max(1, entries >> 3);
}

/** An array of exactly this many unboxed doubles: a fraction first makes the engine choose them, and they stay. */
function doubles(length: number): number[] {
  return Array.from({ length }, () => 0.5);
}

function unpack(place: number): RememberedCommand {
  const version = Math.floor(place / COUNT_LIMIT);
  return { version, count: place - version * COUNT_LIMIT };
}

let hashedId = "";
let hashedAs = 0;

/** 52 bits of SHA-1; the last answer is kept, since a command is looked up and then added, and its events come in a row. */
function hashOf(commandId: string): number {
  if (commandId !== hashedId || hashedAs === 0) {
    hashedAs = Number.parseInt(hash("sha1", commandId, "hex").slice(0, 13), 16);
    hashedId = commandId;
  }
  return hashedAs;
}
