/**
 * The actors of one process: at most one for each stream, bounded in number and in estimated bytes.
 *
 * R1 A stream has at most one actor: commands that arrive while it hydrates wait in its mailbox.
 * R2 An actor is unloaded only while it is idle, and in one step with its removal: a command that arrives later finds no actor and makes a new one, which reads the log.
 * R3 Over a bound the least recently used idle actors go first. When all are busy a new stream is refused with `RegistryFull`; nothing waits without a bound.
 *    Over `maxPendingCommands` a command is refused at once (`Overloaded`): what cannot be answered soon is not taken.
 * R4 Commands that arrive in one turn of the loop are worked on together at its end: they share rounds and groups.
 * R5 No command outlives its hard bound, and `close` its own: what is left then is told the truth (AppClosed, or OutcomeUnknown where events are under way).
 */
import { AppClosed, MailboxFull, Overloaded, RegistryFull } from "../errors.ts";
import type { Environment, Timer } from "../environment.ts";
import { Actor, type ActorHome } from "./actor.ts";
import type { ActorOptions } from "./actor-options.ts";
import type { ActorPorts } from "./actor-ports.ts";
import type { Counters } from "./metrics.ts";
import type { Load, PendingCommand } from "./pending-command.ts";

const SWEEP_MS = 1000;

export class Registry implements ActorHome {
  readonly #options: ActorOptions;
  readonly #environment: Environment;
  readonly #counters: Counters;
  readonly #actors = new Map<string, Actor>();
  readonly #busy = new Set<Actor>();
  readonly #ending: AbortController;
  readonly #load: Load = { pending: 0, failed: 0 };
  #ready: Actor[] = [];
  #bytes = 0;
  #oldest: Actor | undefined;
  #newest: Actor | undefined;
  #sweep: Timer | undefined;
  #closed = false;
  #onRest: (() => void) | undefined;

  constructor(options: ActorOptions, environment: Environment, counters: Counters, ending: AbortController) {
    this.#options = options;
    this.#environment = environment;
    this.#counters = counters;
    this.#ending = ending;
  }

  get residentActors(): number {
    return this.#actors.size;
  }

  get residentBytes(): number {
    return this.#bytes;
  }

  get waitingCommands(): number {
    return this.#load.pending;
  }

  get failedCommands(): number {
    return this.#load.failed;
  }

  /** Counts a call that is not in a mailbox yet. Errors: AppClosed, Overloaded. */
  begin(stream: string): void {
    const error = this.#unwelcome(stream);
    if (error !== undefined) throw error;
    this.#load.pending++;
  }

  end(): void {
    this.#load.pending--;
  }

  /** Puts a command into the mailbox of its actor; whatever goes wrong fails the command (AppClosed, Overloaded, RegistryFull, MailboxFull). */
  send(command: PendingCommand, ports: ActorPorts): void {
    const unwelcome = this.#unwelcome(command.stream);
    if (unwelcome !== undefined) return this.#refuse(command, unwelcome);
    const actor = this.#actors.get(command.stream) ?? this.#awake(command.stream, ports);
    if (actor === undefined) {
      const message = `all ${this.#actors.size} resident actors are busy; nothing was decided, try again later`;
      return this.#refuse(command, new RegistryFull(message, { retryable: true, details: { stream: command.stream, maxActors: this.#options.maxActors } }));
    }
    this.#touch(actor);
    if (!actor.accept(command)) {
      const message = `the mailbox of ${command.stream} holds ${this.#options.mailboxCapacity} commands; nothing was decided, try again later`;
      return this.#refuse(command, new MailboxFull(message, { retryable: true, details: { stream: command.stream, capacity: this.#options.mailboxCapacity } }));
    }
    this.#load.pending++;
    command.load = this.#load;
    if (actor.ready) return;
    actor.ready = true;
    this.#busy.add(actor);
    if (this.#ready.push(actor) === 1) this.#environment.clock.immediate(() => this.#turn());
  }

  rested(actor: Actor): void {
    if (!actor.idle) return actor.work();
    if (!actor.ready) this.#busy.delete(actor);
    if (actor.resident) this.#weigh(actor);
    if (this.#busy.size === 0) this.#onRest?.();
  }

  retire(actor: Actor): void {
    if (actor.resident) this.#remove(actor);
  }

  /** R5. Resolves when every accepted command is answered, after `timeoutMs` at the latest; false when some were given up. */
  async close(timeoutMs: number): Promise<boolean> {
    this.#closed = true;
    let drained = this.#busy.size === 0;
    if (!drained) {
      drained = await new Promise<boolean>((resolve) => {
        const timer = this.#environment.clock.setTimer(timeoutMs, () => resolve(false), { keepAlive: true });
        this.#onRest = () => {
          timer.cancel();
          resolve(true);
        };
      });
    }
    this.#onRest = undefined;
    this.#ending.abort(new AppClosed("the app was closed"));
    for (const actor of this.#busy) actor.abandon(new AppClosed("the app was closed before the command was answered", { details: { stream: actor.stream } }));
    this.#sweep?.cancel();
    this.#sweep = undefined;
    for (const actor of this.#actors.values()) actor.resident = false;
    this.#actors.clear();
    this.#oldest = undefined;
    this.#newest = undefined;
    this.#bytes = 0;
    return drained;
  }

  #unwelcome(stream: string): AppClosed | Overloaded | undefined {
    if (this.#closed) return new AppClosed("the app is closed: no command is taken any more", { details: { stream } });
    const { maxPendingCommands } = this.#options;
    if (this.#load.pending < maxPendingCommands) return undefined;
    return new Overloaded(`${maxPendingCommands} commands of this process wait for their answers; nothing was decided, try again later`, { retryable: true, details: { stream, maxPendingCommands } });
  }

  #refuse(command: PendingCommand, error: Error): void {
    this.#load.failed++;
    command.fail(error);
  }

  /** R4. */
  #turn(): void {
    const ready = this.#ready;
    this.#ready = [];
    for (const actor of ready) {
      actor.ready = false;
      if (actor.idle) this.rested(actor);
      else actor.work();
    }
  }

  /** R3. */
  #awake(stream: string, ports: ActorPorts): Actor | undefined {
    if (this.#actors.size >= this.#options.maxActors && !this.#makeRoom(() => this.#actors.size < this.#options.maxActors)) return undefined;
    const actor = new Actor(stream, ports, this);
    this.#actors.set(stream, actor);
    this.#sweep ??= this.#setSweep();
    return actor;
  }

  /** R2: unloads idle actors, the least recently used first, until there is room; whether there is. */
  #makeRoom(enough: () => boolean, keep?: Actor): boolean {
    for (let actor = this.#oldest; actor !== undefined && !enough(); ) {
      const { newer }: Actor = actor;
      if (actor !== keep && actor.idle) this.#passivate(actor);
      actor = newer;
    }
    return enough();
  }

  #passivate(actor: Actor): void {
    this.#counters.passivations++;
    this.#remove(actor);
  }

  #remove(actor: Actor): void {
    this.#actors.delete(actor.stream);
    actor.resident = false;
    this.#bytes -= actor.weighed;
    actor.weighed = 0;
    this.#unlink(actor);
  }

  /** Takes over a new estimate of the actor's bytes, and makes room for it. */
  #weigh(actor: Actor): void {
    this.#bytes += actor.bytes - actor.weighed;
    actor.weighed = actor.bytes;
    if (this.#bytes > this.#options.maxBytes) this.#makeRoom(() => this.#bytes <= this.#options.maxBytes, this.#actors.size > 1 ? undefined : actor);
  }

  #touch(actor: Actor): void {
    actor.usedAt = this.#environment.clock.elapsed();
    if (this.#newest === actor) return;
    this.#unlink(actor);
    actor.older = this.#newest;
    if (this.#newest !== undefined) this.#newest.newer = actor;
    this.#newest = actor;
    this.#oldest ??= actor;
  }

  #unlink(actor: Actor): void {
    if (actor.older !== undefined) actor.older.newer = actor.newer;
    else if (this.#oldest === actor) this.#oldest = actor.newer;
    if (actor.newer !== undefined) actor.newer.older = actor.older;
    else if (this.#newest === actor) this.#newest = actor.older;
    actor.older = undefined;
    actor.newer = undefined;
  }

  #setSweep(): Timer {
    const { commandTimeoutMs, idleTimeoutMs } = this.#options;
    return this.#environment.clock.setTimer(Math.min(SWEEP_MS, Math.ceil(commandTimeoutMs / 4), Math.ceil(idleTimeoutMs / 4)), () => {
      const now = this.#environment.clock.elapsed();
      for (const actor of this.#busy) actor.expire(now);
      for (let actor = this.#oldest; actor !== undefined && actor.usedAt + idleTimeoutMs <= now; ) {
        const { newer }: Actor = actor;
        if (actor.idle) this.#passivate(actor);
        actor = newer;
      }
      this.#sweep = this.#actors.size === 0 ? undefined : this.#setSweep();
    });
  }
}
