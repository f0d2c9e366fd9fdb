/**
 * Protections of the write protocol on Kafka, switched off one at a time (mutants.ts says how). Pieces of one mutant have one name, and are applied together.
 *
 * Not here: that a conflict is confirmed before it is answered (P5). It matters to a caller who knows more than the process it asks, which an actor on its own store never
 * does; test/store/kafka/claims.unit.test.ts turns red without it.
 */
import type { Mutant } from "./mutants.ts";

const writer = "src/store/kafka/partition-writer.ts";
const fold = "src/store/kafka/fold.ts";

/** The claim is taken for read where it stands, and whatever is between is passed over. */
const passOver: Omit<Mutant, "name"> = {
  file: "src/store/kafka/partition-log.ts",
  find: "  /** T2: what stands at",
  replace: `  passOver(claim: Claim): void {
    const state = { ...this.#state, next: claim.offset + 1, claim };
    this.index.apply(this.lane, { events: [], claims: [claim], state });
    this.#moved(state);
  }

  /** T2: what stands at`,
};

export const kafkaMutants: readonly Mutant[] = [
  {
    name: "no claim",
    file: writer,
    find: "    const nonce = nonceOf(random.uuid());",
    replace: "    if (log.claim !== undefined) { await log.reachEnd(signal); return { ...identity, nonce: log.claim.nonce, sequence: 0, rewinds: log.rewinds }; }\n    const nonce = nonceOf(random.uuid());",
  },
  { name: "read, then claim", ...passOver },
  {
    name: "read, then claim",
    file: writer,
    find: "    const nonce = nonceOf(random.uuid());",
    replace: "    await log.reachEnd(signal);\n    const nonce = nonceOf(random.uuid());",
  },
  {
    name: "read, then claim",
    file: writer,
    find: "    await log.reach(baseOffset + 1, signal);",
    replace: "    if (log.state.next <= baseOffset) log.passOver({ nonce, offset: baseOffset, ...identity, writer });",
  },
  { name: "no look at the nonce", file: writer, find: "log.index.claimAt(log.lane, baseOffset)?.nonce !== nonce", replace: "nonce === \"\"" },
  { name: "no look at the nonce", file: writer, find: "this.#reopenDue || log.claim?.nonce !== held.nonce ||", replace: "this.#reopenDue ||" },
  { name: "no look at the nonce", file: writer, find: "if (log.rewinds !== held.rewinds || log.claim?.nonce !== held.nonce) return false;", replace: "" },
  { name: "no look at the base offset", file: writer, find: "sent.kind === \"stands\" && sent.baseOffset === group.end && this.#accept(group)", replace: "sent.kind === \"stands\" && this.#accept(group)" },
  { name: "fold without claims", file: fold, find: "const counts = claim !== undefined && this.#marks.names(this.#nonce) && batch.producerId === claim.producerId && batch.epoch === claim.epoch;", replace: "const counts = claim !== undefined;" },
  { name: "fold without producers", file: fold, find: " && batch.producerId === claim.producerId && batch.epoch === claim.epoch;", replace: ";" },
  { name: "fold without producers", file: fold, find: " && batch.producerId >= 0) {", replace: ") {" },
  { name: "a nonce claims again", file: fold, find: " || this.#claims.some((claim) => claim.nonce === nonce) || this.#before.hasClaim(nonce)) return;", replace: ") return;" },
  { name: "what stands twice counts twice", file: fold, find: "if (version <= before && this.#idAt(stream, version) === marksOf(event.record).id) return;", replace: "" },
  { name: "no stamp of the old producer id", file: writer, find: "      await this.#stamp(producerId);", replace: "" },
  { name: "the id that the coordinator gives out is stamped", file: writer, find: "if ((await draw()).producerId !== identity.producerId) return undefined; // P3", replace: "" },
  { name: "a group formed anew is sent again", file: writer, find: "const MAX_BATCH_EVENTS = 10_000;", replace: "const MAX_BATCH_EVENTS = 1;" },
  {
    name: "a group formed anew is sent again",
    file: writer,
    find: "      if (doubt && (this.#closed ||",
    replace: "      if (doubt && batch.readInt32BE(53) > 0) return { kind: \"refused\", error: \"form it anew\" };\n      if (doubt && (this.#closed ||",
  },
  {
    name: "a group formed anew is sent again",
    file: writer,
    find: "      if (sent.kind === \"refused\") return",
    replace:
      "      if (sent.kind === \"refused\" && sent.error === \"form it anew\") { group.held.sequence -= group.records.length; this.#queue = [...this.#queue, ...group.entries.map(({ pending }) => pending)]; return; }\n      if (sent.kind === \"refused\") return",
  },
  { name: "45 and 47 after an unknown are definite", file: writer, find: "if (OUT.has(errorCode)) return { kind: \"out\", error };", replace: "if (OUT.has(errorCode)) return { kind: doubt ? \"refused\" : \"out\", error };" },
  { name: "NOT_LEADER is definite", file: writer, find: "  KAFKA_ERROR.messageTooLarge,\n  KAFKA_ERROR.invalidTopic,", replace: "  KAFKA_ERROR.messageTooLarge,\n  KAFKA_ERROR.notLeaderOrFollower,\n  KAFKA_ERROR.invalidTopic," },
  { name: "a stream is read without asking for the end", file: "src/store/kafka/kafka-events.ts", find: "        await log.reachEnd(signal); // E3", replace: "        await log.reach(0, signal);" },
];

/** Those that real brokers alone can show: the model keeps its own time, has one leader for all, and holds no unclean elections. */
export const brokerMutants: readonly Mutant[] = [
  { name: "a topic with the clocks of clients", file: "src/store/kafka/topics.ts", find: "\"message.timestamp.type\": \"LogAppendTime\"", replace: "\"message.timestamp.type\": \"CreateTime\"" },
  { name: "a partition without a leader fails its topic", file: "src/store/kafka/protocol.ts", find: "          answer.skip(2);\n          const number", replace: "          failed ||= answer.int16();\n          const number" },
  { name: "a log that was cut off is taken for what it was", file: "src/store/kafka/partition-log.ts", find: "    if (rewinds !== this.#rewinds) return;\n    const { index,", replace: "    if (why !== \"\") return;\n    const { index," },
];

/** Their names, each once. */
export const kafkaMutantNames: readonly string[] = [...new Set(kafkaMutants.map(({ name }) => name))];
