/**
 * Protections that are switched off one at a time: a patch of the source text, applied as the file is loaded (apply-mutant.ts), so that production code holds no switch.
 * The simulator has to find each of them.
 */

export interface Mutant {
  readonly name: string;
  /** Path in the repository. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Takes more seeds than the test run has time for: the soak alone shows it. */
  readonly rare?: true;
}

/** The mutated source. Throws where `find` does not stand in it exactly once. */
export function patched({ name, file, find, replace }: Mutant, source: string): string {
  const parts = source.split(find);
  if (parts.length !== 2) throw new Error(`the mutant "${name}" does not fit ${file} any more: what it replaces stands there ${parts.length - 1} times: ${find}`);
  return parts.join(replace);
}

const actor = "src/actor/actor.ts";
const round = "src/actor/round.ts";
const registry = "src/actor/registry.ts";
const follower = "src/readmodel/follower.ts";

export const mutants: readonly Mutant[] = [
  {
    name: "version check of an append",
    file: "src/store/memory/memory-log.ts",
    find: "if (version !== actual) return standsAlready",
    replace: "if (version > actual) return standsAlready",
  },
  {
    name: "the same event ids stand once",
    file: "src/store/memory/memory-log.ts",
    find: "return standsAlready(known, version, events) ?? conflict(known, version);",
    replace: "return conflict(known, version);",
  },
  {
    name: "serial decisions",
    file: round,
    find: "decideOne(behaviour, request.command, request, this.#state,",
    replace: "decideOne(behaviour, request.command, request, this.#confirmed.state,",
  },
  {
    name: "answer after durability",
    file: actor,
    find: "this.#ports.committer.append(this.#append, this);",
    replace: "for (const one of round.decisions) this.#answer(one.command, one.outcome, confirmed.position, confirmed); this.#ports.committer.append(this.#append, this);",
  },
  {
    name: "rejections on tentative events wait for them",
    file: actor,
    find: "} else if (outcome.kind === \"refused\") command.fail(outcome.error);",
    replace: "} else if (outcome.kind === \"refused\") command.fail(outcome.error); else if (outcome.kind === \"rejected\" && round.events.length > 0) this.#answer(command, outcome, confirmed.position, confirmed);",
  },
  {
    name: "confirmation before a rejection",
    file: actor,
    find: "} else if (round.unanswered.length > 0) {",
    replace: "} else if (round.unanswered.length > 0 && round.decisions.forEach((one) => this.#answer(one.command, one.outcome, confirmed.position, confirmed)) !== undefined) {",
  },
  {
    name: "a stream that is only taken for new is read before a rejection",
    file: actor,
    find: "if (this.#assumedFor !== undefined) this.#after(this.#findOut(round, undefined),",
    replace: "for (const one of round.decisions) this.#answer(one.command, one.outcome, confirmed.position, confirmed); if (this.#assumedFor !== undefined) this.#after(this.#findOut(round, undefined),",
  },
  {
    name: "tail read after unknown",
    file: "src/actor/settle-unknown.ts",
    find: "const found = await lookFor(append, ports, () => whenUnknown(doubt));",
    replace: "const found = { kind: \"conflict\", actual: expected };",
  },
  {
    name: "after unknown a refusal settles nothing",
    file: "src/actor/settle-unknown.ts",
    find: "if (outcome.kind === \"committed\" || outcome.kind === \"conflict\") return outcome;",
    replace: "if (outcome.kind !== \"unknown\") return outcome;",
    rare: true,
  },
  { name: "delta fold", file: actor, find: "await confirmed.fold(missing, behaviour, codec);", replace: "confirmed.version += missing.length;" },
  { name: "window of command ids", file: round, find: "const places = this.#confirmed.window.find(request.commandId);", replace: "const places = [];" },
  { name: "fingerprint of a command id", file: round, find: "if (first.metadata.fingerprint !== request.fingerprint) return", replace: "if (false) return" },
  { name: "window in snapshots", file: "src/actor/hydrate.ts", find: "restored.window = CommandWindow.restore", replace: "CommandWindow.restore" },
  { name: "checksum of a snapshot", file: "src/actor/hydrate.ts", find: "if (snapshot.checksum !== checksumOf(snapshot)) return", replace: "if (false) return" },
  { name: "a snapshot's last event is compared with the log", file: "src/actor/hydrate.ts", find: "last.id !== snapshot.eventId", replace: "false" },
  { name: "single-flight hydration", file: actor, find: "if (this.#working) {", replace: "if (this.#working && this.#confirmed !== undefined) {" },
  {
    name: "one unsettled append per stream",
    file: actor,
    find: "if (this.#append !== undefined) this.#decideAhead();",
    replace: "if (this.#append !== undefined && this.#confirmed !== undefined) this.#goOn(this.#confirmed);",
  },
  { name: "only idle actors passivate", file: registry, find: "if (actor !== keep && actor.idle) this.#passivate(actor);", replace: "if (actor !== keep) this.#passivate(actor);", rare: true },
  { name: "expected version of the caller", file: round, find: "if (expected !== undefined && expected !== version)", replace: "if (expected !== undefined && expected > version)" },
  { name: "a deadline waits for what is under way", file: "src/actor/pending-command.ts", find: "if (this.#sent || this.#answered) return;", replace: "if (this.#answered) return;" },
  { name: "hard bound of a call", file: registry, find: "for (const actor of this.#busy) actor.expire(now);", replace: "", rare: true },
  { name: "what was ended is never written", file: actor, find: "if (round.spoilt) this.#decideAnew(round.unanswered);", replace: "if (false) this.#decideAnew(round.unanswered);" },
  { name: "each append has its own outcome", file: "src/actor/committer.ts", find: "outcomes[index] ??", replace: "outcomes[0] ??" },
  { name: "drain on close", file: registry, find: "let drained = this.#busy.size === 0;", replace: "let drained = true;" },
  {
    name: "checkpoint with the view",
    file: follower,
    find: ": await this.view.commit(changes, next, revision);",
    replace:
      ": (await this.view.commit(changes, { ...this.#base, store: next.store }, revision)) === \"committed\" ? await this.view.commit(new Map(), next, revision + 1) : \"lost\";",
  },
  { name: "one follower commits a page", file: "src/store/memory/memory-views.ts", find: "build.checkpoint.revision !== onRevision", replace: "false" },
  { name: "through of filtered events", file: follower, find: "through = page.through;", replace: "if (page.events.length > 0) through = page.through;" },
  { name: "a read waits for its token", file: "src/app/queries.ts", find: "const behind = covers(position, target) ?", replace: "const behind = true ?" },
];
