/** Owners of partitions that are killed, stopped, cut off from the broker and fought over, on a real broker. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { kafkaAvailable, newTopicPrefix, sharedKafka } from "../../../support/kafka.ts";
import { proxyTo, type Proxy } from "../../../support/proxy.ts";
import { kafkaStore } from "../../../../src/store/kafka/index.ts";
import { deleteTopics } from "../kafka-stores.ts";
import { expectNothingLost } from "./checker.ts";
import { points } from "./points.ts";
import { Writers, type Writer, type WriterPlan } from "./writer.ts";

const START_MS = 120_000;
const STREAMS = Array.from({ length: 8 }, (_, number) => `order-${number}`);

describe.skipIf(!kafkaAvailable)("an owner of partitions", () => {
  let brokers: readonly string[];
  let writers: Writers;
  let prefix: string;
  const prefixes: string[] = [];
  let proxies: Proxy[] = [];

  beforeAll(async () => {
    brokers = await sharedKafka();
  }, START_MS);
  beforeEach(() => {
    writers = new Writers();
    prefixes.push((prefix = newTopicPrefix()));
  });
  afterEach(async () => {
    await writers.dispose();
    await Promise.all(proxies.map((proxy) => proxy.close()));
    proxies = [];
  });
  afterAll(() => deleteTopics(brokers, ...prefixes), START_MS);

  const plan = (more: Partial<WriterPlan> = {}, options: WriterPlan["options"] = {}): WriterPlan => ({
    brokers,
    streams: STREAMS,
    ...more,
    options: { topicPrefix: prefix, partitions: 2, replicationFactor: 1, minHoldMs: 10, ...options },
  });
  const here = (): Writer => writers.startHere(kafkaStore({ ...plan().options, brokers }), STREAMS);
  const expectSound = (atLeast: number) => expectNothingLost({ brokers, topic: `${prefix}.order.events`, lines: writers.lines(), atLeast });

  it("that is killed with -9 at any point of a take-over and of a write has lost nothing, and doubled nothing", { timeout: START_MS }, async () => {
    // One after the other on the same partitions: each takes over what the one before left.
    for (const point of points) {
      // Of two partitions, so that one of them is at work while the other dies.
      const time = point.startsWith("batch") ? 20 : 2;
      await writers.start(plan({ fate: { point, time, signal: "SIGKILL" } })).met();
    }
    const last = here();
    await last.more(100);
    await last.stop();
    const { claims } = await expectSound(200);
    expect(claims).toBeGreaterThan(points.length);
  });

  it.each(["claim to be sent", "claim sent", "batch to be sent", "batch sent"] as const)(
    "that is stopped with a %s, and goes on when another has taken over and written, writes nothing that counts on what it knew",
    { timeout: START_MS },
    async (point) => {
      const stopped = writers.start(plan({ fate: { point, time: point.startsWith("batch") ? 20 : 2, signal: "SIGSTOP" } }));
      await stopped.met();
      const other = here();
      await other.more(100);
      stopped.resume();
      await Promise.all([stopped.more(30), other.more(30)]);
      await Promise.all([stopped.stop(), other.stop()]);
      await expectSound(160);
    },
  );

  it("that does not hear the broker's answers, and whose requests arrive seconds later, when another has taken over, settles what it was not told", { timeout: START_MS }, async () => {
    const [broker = ""] = brokers;
    const proxy = await proxyTo(`tcp://${broker}`);
    proxies.push(proxy);
    const ports = { [broker.split(":")[1] ?? ""]: Number(new URL(proxy.url).port) };
    const behind = writers.start(plan({ ports }, { requestTimeoutMs: 800, appendTimeoutMs: 3000 }));
    await behind.more(30);
    proxy.dropReplies = true;
    const other = here();
    await other.more(30);
    proxy.dropReplies = false;
    await behind.more(30);
    // Later than it waits, so that every batch is sent again while the first is on its way.
    proxy.delayMs = 1500;
    await other.more(200);
    proxy.delayMs = 0;
    await behind.more(30);
    proxy.reset();
    await behind.more(30);
    proxy.swallow = true;
    await other.more(100);
    proxy.swallow = false;
    proxy.reset();
    await Promise.all([behind.more(30), other.more(30)]);
    await Promise.all([behind.stop(), other.stop()]);
    await expectSound(400);
  });

  it("whose connection breaks when a batch was handed over, again and again, writes each of them once", { timeout: START_MS }, async () => {
    const [broker = ""] = brokers;
    const proxy = await proxyTo(`tcp://${broker}`);
    proxies.push(proxy);
    const cutOff = writers.start(plan({ ports: { [broker.split(":")[1] ?? ""]: Number(new URL(proxy.url).port) } }));
    await cutOff.more(30);
    let handed = 0;
    proxy.cutAfter = (bytes) => bytes.includes("tm-claim") && handed++ % 3 === 0;
    await cutOff.more(200);
    proxy.cutAfter = undefined;
    await cutOff.stop();
    await expectSound(230);
    expect(handed).toBeGreaterThan(60);
  });

  it("that fights with another process for all partitions makes progress, and so does the other", { timeout: START_MS }, async () => {
    const two = [writers.start(plan({}, { minHoldMs: 0 })), writers.start(plan({}, { minHoldMs: 0 }))];
    await Promise.all(two.map((each) => each.more(100)));
    await Promise.all(two.map((each) => each.stop()));
    const { claims } = await expectSound(200);
    expect(claims).toBeGreaterThan(4);
  });

  it("whose clock is two days off, either way, writes as any other", { timeout: START_MS }, async () => {
    const twoDaysMs = 2 * 86_400_000;
    const two = [writers.start(plan({ skewMs: -twoDaysMs })), writers.start(plan({ skewMs: twoDaysMs }))];
    await Promise.all(two.map((each) => each.more(50)));
    await Promise.all(two.map((each) => each.stop()));
    await expectSound(100);
  });
});
