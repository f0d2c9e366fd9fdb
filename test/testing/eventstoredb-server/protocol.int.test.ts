/** What of the protocol a client relies on, beside the outcomes of appends; on a real server too where there is one. */
import { randomUUID } from "node:crypto";
import {
  EventStoreDBClient,
  jsonEvent,
  MaxAppendSizeExceededError,
  persistentSubscriptionToStreamSettingsFromDefaults,
  streamNameFilter,
  StreamDeletedError,
  StreamNotFoundError,
  WrongExpectedVersionError,
} from "@eventstore/db-client";
import sharedPb from "@eventstore/db-client/generated/shared_pb.js";
import streamsPb from "@eventstore/db-client/generated/streams_pb.js";
import type { ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { status, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { batchRequest, identifier, idOf, nextFrame, proposed, outcomeOf, readRequest, trailersOf, Wire } from "./protocol.ts";
import { freshStream, targets, type Target } from "./targets.ts";

const MAX_APPEND_BYTES = 1024 * 1024;

describe.each(targets())("the protocol of $name", ({ open }) => {
  let target: Target;
  let wire: Wire;

  beforeAll(async () => {
    target = await open();
    wire = new Wire(target.connectionString);
  });

  afterAll(async () => {
    await wire.dispose();
    await target.stop();
  });

  /** An event that counts for so many bytes; its type has six characters. */
  const sized = (bytes: number) => ({ id: randomUUID(), type: "Tested", data: `"${"x".repeat(bytes - 2 - 12)}"` });
  const small = () => ({ id: randomUUID() });

  describe("batch append", () => {
    it("joins the frames of an append, whatever comes between them, and answers with its correlation id and stream", async () => {
      const [long, short] = [freshStream(), freshStream()];
      const correlations = [randomUUID(), randomUUID()];
      const { responses, error } = await wire.batch([
        batchRequest(long, "no_stream", [small()], { final: false, correlation: correlations[0]! }),
        nextFrame(correlations[0]!, [small(), small()], false),
        batchRequest(short, "no_stream", [small()], { correlation: correlations[1]! }),
        nextFrame(correlations[0]!, [small()], true),
      ]);
      expect(error).toBeUndefined();
      const answers = responses.map((response) => [response.getCorrelationId()?.getString(), Buffer.from(response.getStreamIdentifier()!.getStreamName_asU8()).toString(), outcomeOf(response)]);
      expect(answers).toEqual([
        [correlations[1], short, { revision: 0n, position: expect.any(BigInt) }],
        [correlations[0], long, { revision: 3n, position: expect.any(BigInt) }],
      ]);
    });

    it("refuses one append and carries out the others", async () => {
      const stream = freshStream();
      const { responses } = await wire.batch([batchRequest(stream, "no_stream", [small()]), batchRequest(stream, "no_stream", [small()]), batchRequest(stream, 0n, [small()])]);
      expect(responses.map((response) => response.hasSuccess())).toEqual([true, false, true]);
      const error = responses[1]!.getError()!;
      expect([error.getCode(), error.getMessage(), error.getDetails()!.getTypeUrl()]).toEqual([6, "WrongExpectedVersion", "type.googleapis.com/event_store.client.WrongExpectedVersion"]);
    });

    it("takes 1 MiB of data, metadata and types, and not a byte more", async () => {
      const stream = freshStream();
      const half = MAX_APPEND_BYTES / 2;
      const { responses } = await wire.batch([batchRequest(stream, "any", [sized(half), sized(half)]), batchRequest(stream, "any", [sized(half), sized(half + 1)])]);
      expect(responses[0]!.hasSuccess()).toBe(true);
      const error = responses[1]!.getError()!;
      const detail = error.getDetails()!.unpack(sharedPb.MaximumAppendSizeExceeded.deserializeBinary, "event_store.client.MaximumAppendSizeExceeded");
      expect([error.getCode(), detail?.getMaxappendsize()]).toEqual([3, MAX_APPEND_BYTES]);
    });

    it("counts the size over all frames", async () => {
      const stream = freshStream();
      const correlation = randomUUID();
      const half = MAX_APPEND_BYTES / 2;
      const { responses } = await wire.batch([
        batchRequest(stream, "any", [sized(half)], { final: false, correlation }),
        nextFrame(correlation, [sized(half + 1)], false),
        nextFrame(correlation, [small()], true),
      ]);
      expect(responses.map(outcomeOf)).toEqual([{ status: "event_store.client.MaximumAppendSizeExceeded" }]);
      const { messages } = await wire.read(readRequest({ stream, count: 1 }));
      expect(messages[0]!.hasStreamNotFound()).toBe(true);
    });

    it("answers a deadline that has passed with a timeout, and writes nothing", async () => {
      const stream = freshStream();
      const late = batchRequest(stream, "any", [small()]);
      const deadline = new Date(Date.now() - 60_000);
      const { default: timestampPb } = await import("google-protobuf/google/protobuf/timestamp_pb.js");
      late.getOptions()!.setDeadline(timestampPb.Timestamp.fromDate(deadline));
      const { responses } = await wire.batch([late]);
      expect(responses.map(outcomeOf)).toEqual([{ status: "event_store.client.Timeout" }]);
    });

    it.each(["", "$$"])("refuses the stream name %j", async (name) => {
      const { responses } = await wire.batch([batchRequest(name, "any", [small()])]);
      expect(responses.map(outcomeOf)).toEqual([{ status: "event_store.client.BadRequest" }]);
    });

    it("refuses an event without a type, and an id that is none", async () => {
      const untyped = batchRequest(freshStream(), "any", [small()]);
      untyped.getProposedMessagesList()[0]!.getMetadataMap().del("type");
      const unnamed = batchRequest(freshStream(), "any", [{ id: "not a uuid" }]);
      const { responses } = await wire.batch([untyped, unnamed]);
      expect(responses.map(outcomeOf)).toEqual([{ status: "event_store.client.BadRequest" }, { status: "event_store.client.BadRequest" }]);
    });

    it("takes ids in both forms, and in capitals", async () => {
      const stream = freshStream();
      const id = randomUUID();
      const capitals = batchRequest(stream, "no_stream", [{ id: id.toUpperCase() }]);
      const structured = batchRequest(stream, "no_stream", [{ id }]);
      const form = new sharedPb.UUID.Structured();
      const hex = id.replaceAll("-", "");
      form.setMostSignificantBits(BigInt.asIntN(64, BigInt(`0x${hex.slice(0, 16)}`)).toString());
      form.setLeastSignificantBits(BigInt.asIntN(64, BigInt(`0x${hex.slice(16)}`)).toString());
      const message = new sharedPb.UUID();
      message.setStructured(form);
      structured.getProposedMessagesList()[0]!.setId(message);
      const { responses } = await wire.batch([capitals, structured]);
      expect(responses.map(outcomeOf)).toEqual([
        { revision: 0n, position: expect.any(BigInt) },
        { revision: 0n, position: expect.any(BigInt) },
      ]);
      const { messages } = await wire.read(readRequest({ stream, count: 10 }));
      expect(messages.map(idOf)).toEqual([id]);
      const { messages: inForm } = await wire.read(readRequest({ stream, count: 10, structuredIds: true }));
      expect(inForm[0]!.getEvent()!.getEvent()!.getId()!.getStructured()!.toObject()).toEqual(form.toObject());
    });
  });

  describe("append", () => {
    it("that is given up before it is whole writes nothing", async () => {
      const stream = freshStream();
      const stub = await wire.stub();
      const given = new Promise((resolve) => {
        const call = stub.append(resolve);
        const header = new streamsPb.AppendReq();
        header.setOptions(new streamsPb.AppendReq.Options());
        header.getOptions()!.setStreamIdentifier(identifier(stream));
        header.getOptions()!.setAny(new sharedPb.Empty());
        call.write(header);
        const event = new streamsPb.AppendReq();
        event.setProposedMessage(proposed(new streamsPb.AppendReq.ProposedMessage(), small()));
        call.write(event, () => call.cancel());
      });
      expect(await given).toMatchObject({ code: status.CANCELLED });
      expect(await wire.append("Append", stream, "no_stream", [small()])).toEqual({ revision: 0n, position: expect.any(BigInt) });
    });

    it("that is too large fails with a trailer that says how much is taken", async () => {
      expect(await wire.append("Append", freshStream(), "any", [sized(MAX_APPEND_BYTES)])).toEqual({ revision: 0n, position: expect.any(BigInt) });
      expect(await wire.append("Append", freshStream(), "any", [sized(MAX_APPEND_BYTES + 1)])).toEqual({ status: "3 maximum-append-size-exceeded" });
    });

    it.each(["", "$$"])("refuses the stream name %j", async (name) => {
      expect(await wire.append("Append", name, "any", [small()])).toEqual({ status: expect.stringMatching(/^2 Exception was thrown by handler/) });
    });
  });

  describe("delete and tombstone", () => {
    it.each(["delete", "tombstone"] as const)("%s of a stream at another revision fails with trailers that tell both", async (how) => {
      const stream = freshStream();
      await wire.append("BatchAppend", stream, "no_stream", [small(), small()]);
      expect(await wire.remove(how, stream, 5n)).toEqual({
        status: "9 wrong-expected-version",
        trailers: expect.objectContaining({ exception: "wrong-expected-version", "stream-name": stream, "expected-version": "5", "actual-version": "1" }),
      });
      expect(await wire.remove(how, stream, 1n)).toEqual({ position: expect.any(BigInt) });
    });

    it("of a missing stream is refused softly, and done for ever", async () => {
      const stream = freshStream();
      expect(await wire.remove("delete", stream, "any")).toMatchObject({ status: "9 wrong-expected-version", trailers: { "actual-version": "-1" } });
      expect(await wire.remove("tombstone", stream, "no_stream")).toEqual({ position: expect.any(BigInt) });
    });
  });

  describe("read", () => {
    it("of a missing stream is a message, of a tombstoned one a status", async () => {
      const stream = freshStream();
      const { messages, error } = await wire.read(readRequest({ stream, count: 1 }));
      expect([messages.length, error]).toEqual([1, undefined]);
      expect(Buffer.from(messages[0]!.getStreamNotFound()!.getStreamIdentifier()!.getStreamName_asU8()).toString()).toBe(stream);
      await wire.remove("tombstone", stream, "any");
      const failed = await wire.read(readRequest({ stream, count: 1 }));
      expect([failed.error?.code, trailersOf(failed.error as ServiceError)]).toEqual([9, expect.objectContaining({ exception: "stream-deleted", "stream-name": stream })]);
    });

    it("tells all of an event: type, content, times and places", async () => {
      const stream = freshStream();
      const event = { id: randomUUID(), type: "Tested", data: '{"a":1}', metadata: '{"$correlationId":"c"}' };
      const before = Date.now();
      const outcome = (await wire.append("BatchAppend", stream, "no_stream", [event])) as { position: bigint };
      const { messages } = await wire.read(readRequest({ stream, count: 1 }));
      const read = messages[0]!.getEvent()!;
      const recorded = read.getEvent()!;
      expect(recorded.getStreamRevision()).toBe("0");
      expect([recorded.getCommitPosition(), recorded.getPreparePosition(), read.getCommitPosition()]).toEqual([String(outcome.position), String(outcome.position), String(outcome.position)]);
      expect([Buffer.from(recorded.getData_asU8()).toString(), Buffer.from(recorded.getCustomMetadata_asU8()).toString()]).toEqual([event.data, event.metadata]);
      const properties = recorded.getMetadataMap();
      expect([properties.get("type"), properties.get("content-type")]).toEqual(["Tested", "application/json"]);
      // Ticks of 100 ns since the epoch; the clock of a real server is another.
      expect(Math.abs(Number(BigInt(properties.get("created")!) / 10_000n) - before)).toBeLessThan(3_600_000);
    });

    it("keeps names, types and payloads of every kind", async () => {
      const stream = `${freshStream()}-äöü €😀 %2F/?`;
      const event = { id: randomUUID(), type: "Größe geändert", data: '"\\u0000😀"', metadata: "" };
      await wire.append("BatchAppend", stream, "no_stream", [event]);
      const { messages } = await wire.read(readRequest({ stream, count: 1 }));
      const recorded = messages[0]!.getEvent()!.getEvent()!;
      expect([Buffer.from(recorded.getStreamIdentifier()!.getStreamName_asU8()).toString(), recorded.getMetadataMap().get("type"), Buffer.from(recorded.getData_asU8()).toString()]).toEqual([
        stream,
        event.type,
        event.data,
      ]);
    });

    it("of $all from a position includes its event, backwards it leaves it out", async () => {
      const stream = freshStream();
      const ids = [small(), small(), small()];
      const positions: bigint[] = [];
      for (const event of ids) positions.push(((await wire.append("BatchAppend", stream, "any", [event])) as { position: bigint }).position);
      const filter = { on: "stream", prefixes: [stream], window: 1000 } as const;
      const forwards = await wire.read(readRequest({ from: positions[1]!, count: 2, filter }));
      expect(forwards.messages.map(idOf)).toEqual([ids[1]!.id, ids[2]!.id]);
      const backwards = await wire.read(readRequest({ from: positions[1]!, count: 1, backwards: true, filter }));
      expect(backwards.messages.map(idOf)).toEqual([ids[0]!.id]);
    });

    it("without a form of ids, or subscribing backwards, is an invalid argument", async () => {
      const formless = readRequest({ count: 1 });
      formless.getOptions()!.clearUuidOption();
      expect((await wire.read(formless)).error?.code).toBe(status.INVALID_ARGUMENT);
      expect((await wire.read(readRequest({ backwards: true }))).error?.code).toBe(status.INVALID_ARGUMENT);
    });
  });

  describe("subscriptions", () => {
    it("to $all with a filter: confirmation, events, a checkpoint, caught up, and what comes", async () => {
      const stream = freshStream();
      const [first, second] = [small(), small()];
      const { position } = (await wire.append("BatchAppend", stream, "any", [first])) as { position: bigint };
      const call = await wire.open(readRequest({ from: { commit: position, prepare: 0n }, filter: { on: "stream", prefixes: [stream], window: 100 } }));
      const messages: ReadResp[] = [];
      call.on("data", (message: ReadResp) => messages.push(message)).on("error", () => undefined);
      await expect.poll(() => messages.some((message) => message.hasCaughtUp()), { timeout: 10_000, interval: 5 }).toBe(true);
      await wire.append("BatchAppend", stream, "any", [second]);
      await expect.poll(() => messages.some((message) => idOf(message) === second.id), { timeout: 10_000, interval: 5 }).toBe(true);
      call.cancel();
      const kinds = messages.map((message) => (message.hasEvent() ? (idOf(message) === first.id ? "first" : "second") : message.getContentCase()));
      const { ContentCase } = streamsPb.ReadResp;
      expect(kinds.filter((kind, index) => kind !== ContentCase.CHECKPOINT || index < kinds.indexOf(ContentCase.CAUGHT_UP))).toEqual([
        ContentCase.CONFIRMATION,
        "first",
        ContentCase.CHECKPOINT,
        ContentCase.CAUGHT_UP,
        "second",
      ]);
    });

    it("to a stream: confirmation, events, caught up, what comes, and the tombstone before its failure", async () => {
      const stream = freshStream();
      const [first, second] = [small(), small()];
      await wire.append("BatchAppend", stream, "any", [first]);
      const call = await wire.open(readRequest({ stream }));
      const told: string[] = [];
      const { ContentCase } = streamsPb.ReadResp;
      call
        .on("data", (message: ReadResp) => told.push(message.hasEvent() ? message.getEvent()!.getEvent()!.getMetadataMap().get("type")! : message.getContentCase() === ContentCase.CAUGHT_UP ? "caught up" : "confirmed"))
        .on("error", (error: ServiceError) => told.push(String(error.metadata.get("exception")[0])));
      await expect.poll(() => told, { timeout: 10_000, interval: 5 }).toContain("caught up");
      await wire.append("BatchAppend", stream, "any", [second]);
      await expect.poll(() => told.length, { timeout: 10_000, interval: 5 }).toBe(4);
      await wire.remove("tombstone", stream, "any");
      await expect.poll(() => told, { timeout: 10_000, interval: 5 }).toEqual(["confirmed", "Tested", "caught up", "Tested", "$streamDeleted", "stream-deleted"]);
    });

    it("have live checkpoints whether events fit or not", async () => {
      const client = wire.client;
      const checkpoints: bigint[] = [];
      const subscription = client.subscribeToAll({
        fromPosition: "end",
        filter: streamNameFilter({ prefixes: [freshStream()], maxSearchWindow: 2, checkpointInterval: 2, checkpointReached: async (_, { commit }) => void checkpoints.push(commit) }),
      });
      await new Promise((resolve) => subscription.once("caughtUp", () => resolve(undefined)));
      const before = checkpoints.length;
      const other = freshStream();
      const { position } = await client.appendToStream(other, Array.from({ length: 4 }, () => jsonEvent({ type: "Tested", data: {} })));
      await expect.poll(() => checkpoints.at(-1), { timeout: 10_000, interval: 5 }).toBeGreaterThanOrEqual(position!.commit);
      expect(checkpoints.length).toBeGreaterThan(before);
      await subscription.unsubscribe();
    });
  });

  describe("the client of the package", () => {
    it("has its errors with their fields", async () => {
      const client = wire.client;
      const stream = freshStream();
      const event = () => jsonEvent({ type: "Tested", data: {} });
      await client.appendToStream(stream, [event(), event()], { expectedRevision: "no_stream" });
      await expect(client.appendToStream(stream, event(), { expectedRevision: 0n })).rejects.toMatchObject({ streamName: stream, expectedVersion: 0n, actualVersion: 1n });
      await expect(client.appendToStream(stream, event(), { expectedRevision: 0n })).rejects.toBeInstanceOf(WrongExpectedVersionError);
      await expect(client.appendToStream(stream, jsonEvent({ type: "Tested", data: "x".repeat(MAX_APPEND_BYTES) }))).rejects.toBeInstanceOf(MaxAppendSizeExceededError);
      const read = async (of: string): Promise<void> => {
        for await (const _ of client.readStream(of, { maxCount: 1 }));
      };
      await expect(read(freshStream())).rejects.toBeInstanceOf(StreamNotFoundError);
      await client.tombstoneStream(stream);
      await expect(read(stream)).rejects.toBeInstanceOf(StreamDeletedError);
      await expect(client.appendToStream(stream, event())).rejects.toMatchObject({ type: "stream-deleted", streamName: stream });
    });

    it("sets and reads the metadata of a stream, and $maxCount counts", async () => {
      const client = wire.client;
      const stream = freshStream();
      await client.appendToStream(stream, ["a", "b", "c"].map((name) => jsonEvent({ type: "Tested", data: { name } })));
      await client.setStreamMetadata(stream, { maxCount: 2, own: "kept" });
      expect((await client.getStreamMetadata(stream)).metadata).toEqual({ maxCount: 2, own: "kept" });
      const names: unknown[] = [];
      for await (const { event } of client.readStream<{ type: "Tested"; data: { name: string } }>(stream, { maxCount: 10 })) names.push(event?.data.name);
      expect(names).toEqual(["b", "c"]);
    });
  });
});

describe("the test server alone", () => {
  it("says that it lacks what it lacks", async () => {
    const target = await targets()[0]!.open();
    const client = EventStoreDBClient.connectionString(target.connectionString);
    await expect(client.createPersistentSubscriptionToStream("s-1", "group", persistentSubscriptionToStreamSettingsFromDefaults())).rejects.toMatchObject({ code: status.UNIMPLEMENTED });
    await expect(client.createProjection("p", "fromAll()")).rejects.toMatchObject({ code: status.UNIMPLEMENTED });
    await client.dispose();
    const wire = new Wire(target.connectionString);
    const { error } = await wire.read(readRequest({ count: 1, filter: { on: "stream", regex: "(?<=a+)b(?#comment)" } }));
    expect(error?.code).toBe(status.UNIMPLEMENTED);
    await wire.dispose();
    await target.stop();
  });

  it("forgets an append whose frames stop coming, and says so", async () => {
    const { eventStoreDbServer } = await import("../../../src/testing/eventstoredb-server/index.ts");
    const server = await eventStoreDbServer({ writeTimeoutMs: 20 });
    const wire = new Wire(server.connectionString);
    const stub = await wire.stub();
    const call = stub.batchAppend();
    const answer = new Promise((resolve) => call.once("data", (response) => resolve(outcomeOf(response))));
    call.on("error", () => undefined);
    const correlation = randomUUID();
    call.write(batchRequest("s-1", "any", [{ id: randomUUID() }], { final: false, correlation }));
    expect(await answer).toEqual({ status: "event_store.client.Timeout" });
    call.write(nextFrame(correlation, [{ id: randomUUID() }], true));
    call.end();
    await new Promise((resolve) => call.once("status", resolve));
    const { messages } = await wire.read(readRequest({ stream: "s-1", count: 1 }));
    expect(messages[0]!.hasStreamNotFound()).toBe(true);
    await wire.dispose();
    await server.close();
  });
});

