import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CommandWindow, commandWindowOptions, type CommandWindowOptions, type WindowEvent } from "../../src/actor/command-window.ts";

/** What W1 says, word for word, over the whole stream. */
function expectedOf(events: readonly WindowEvent[], options: CommandWindowOptions): Map<string, { version: number; count: number }> {
  const commands: { id: string; version: number; count: number; recordedAt: number }[] = [];
  for (const event of events) {
    if (event.metadata.fingerprint === undefined) continue;
    const last = commands.at(-1);
    if (last !== undefined && last.id === event.metadata.commandId && last.version + last.count === event.version) {
      last.count++;
      last.recordedAt = Math.max(last.recordedAt, event.recordedAt);
    } else commands.push({ id: event.metadata.commandId, version: event.version, count: 1, recordedAt: event.recordedAt });
  }
  const latest = Math.max(...events.map((event) => event.recordedAt));
  return new Map(
    commands
      .slice(-options.capacity)
      .filter((command) => command.recordedAt >= latest - options.windowMs)
      .map(({ id, version, count }) => [id, { version, count }]),
  );
}

/** Streams of commands with one to three events, chosen ids or not, and clocks that also go backwards. */
const streams = fc
  .array(fc.record({ chosen: fc.boolean(), events: fc.integer({ min: 1, max: 3 }), step: fc.integer({ min: -40, max: 60 }) }), { maxLength: 60 })
  .map((commands) => {
    const events: WindowEvent[] = [];
    let recordedAt = 1_000_000;
    commands.forEach((command, i) => {
      recordedAt += command.step;
      for (let k = 0; k < command.events; k++) {
        events.push({ version: events.length + 1, recordedAt, metadata: { commandId: `c-${i}`, ...(command.chosen ? { fingerprint: "f" } : {}) } });
      }
    });
    return events;
  });
const optionsOf = fc.record({ capacity: fc.integer({ min: 1, max: 12 }), windowMs: fc.integer({ min: 1, max: 200 }) });

function folded(events: readonly WindowEvent[], options: CommandWindowOptions, window = new CommandWindow(options)): CommandWindow {
  for (const event of events) window.fold(event);
  return window;
}

function contentOf(window: CommandWindow, events: readonly WindowEvent[]): Map<string, { version: number; count: number }> {
  const content = new Map<string, { version: number; count: number }>();
  for (const id of new Set(events.map((event) => event.metadata.commandId))) {
    const found = window.find(id);
    expect(found.length).toBeLessThanOrEqual(1);
    if (found[0] !== undefined) content.set(id, { ...found[0] });
  }
  return content;
}

describe("the window of command ids", () => {
  it("W1 holds exactly the newest commands with a chosen id, within the stream's own time", () => {
    fc.assert(
      fc.property(streams, optionsOf, (events, options) => {
        const window = folded(events, options);
        expect(contentOf(window, events)).toEqual(expectedOf(events, options));
        expect(window.size).toBeLessThanOrEqual(options.capacity);
      }),
    );
  });

  it("W2 is identical after snapshot and replay of the rest, wherever the snapshot was taken", () => {
    fc.assert(
      fc.property(streams, optionsOf, fc.nat(), (events, options, cut) => {
        const at = events.length === 0 ? 0 : cut % (events.length + 1);
        const before = folded(events.slice(0, at), options);
        const restored = folded(events.slice(at), options, CommandWindow.restore(before.toJSON(), options));
        expect(restored.toJSON()).toBe(folded(events, options).toJSON());
        expect(contentOf(restored, events)).toEqual(expectedOf(events, options));
      }),
    );
  });

  it("W2 is the same whether events were folded one by one or added command by command", () => {
    fc.assert(
      fc.property(streams, optionsOf, (events, options) => {
        const window = new CommandWindow(options);
        for (let i = 0; i < events.length; ) {
          const { metadata, version, recordedAt } = events[i] as WindowEvent;
          let count = 1;
          while (events[i + count]?.metadata.commandId === metadata.commandId) count++;
          if (metadata.fingerprint === undefined) window.observe(recordedAt);
          else window.add(metadata.commandId, version, count, recordedAt);
          i += count;
        }
        expect(window.toJSON()).toBe(folded(events, options).toJSON());
      }),
    );
  });

  it("W2 trims a snapshot of wider options to what a replay under the present ones would hold", () => {
    fc.assert(
      fc.property(streams, optionsOf, optionsOf, (events, a, b) => {
        const wide = { capacity: Math.max(a.capacity, b.capacity), windowMs: Math.max(a.windowMs, b.windowMs) };
        const restored = CommandWindow.restore(folded(events, wide).toJSON(), a);
        expect(contentOf(restored, events)).toEqual(contentOf(folded(events, a), events));
      }),
    );
  });

  it("refuses a snapshot of narrower options, which cannot know what a replay would hold", () => {
    const text = new CommandWindow({ capacity: 10, windowMs: 1000 }).toJSON();
    expect(() => CommandWindow.restore(text, { capacity: 11, windowMs: 1000 })).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    expect(() => CommandWindow.restore(text, { capacity: 10, windowMs: 1001 })).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    expect(CommandWindow.restore(text, { capacity: 10, windowMs: 1000 }).size).toBe(0);
  });

  it("refuses damaged text with a named error, and throws nothing else", () => {
    const window = new CommandWindow();
    for (let i = 1; i <= 5; i++) window.add(`c-${i}`, i, 1, i);
    const text = window.toJSON();
    for (const damaged of ["", "w1", "w2" + text.slice(2), text.slice(0, -3), text + ".x", "w1.1.9e15." + text.split(".")[3]]) {
      expect(() => CommandWindow.restore(damaged)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    }
    fc.assert(
      fc.property(fc.string(), fc.nat(), (noise, at) => {
        try {
          CommandWindow.restore(text.slice(0, at % text.length) + noise);
        } catch (error) {
          expect(error).toMatchObject({ code: "InvalidArgument" });
        }
      }),
    );
  });

  it("remembers 1000 commands for seven days by default", () => {
    const window = new CommandWindow();
    for (let i = 1; i <= 1001; i++) window.add(`c-${i}`, i, 1, 0);
    expect(window.find("c-1")).toEqual([]);
    expect(window.find("c-2")).toEqual([{ version: 2, count: 1 }]);
    window.observe(7 * 24 * 3600 * 1000);
    expect(window.find("c-2")).toHaveLength(1);
    window.observe(7 * 24 * 3600 * 1000 + 1);
    expect(window.find("c-2")).toEqual([]);
    expect(window.size).toBe(0);
  });

  it("W5 takes at most 32 bytes an entry, and none while empty", () => {
    const window = new CommandWindow();
    expect(window.bytes).toBe(0);
    for (let i = 1; i <= 1000; i++) {
      window.add(`c-${i}`, i, 1, i);
      if (i >= 3) expect(window.bytes).toBeLessThanOrEqual(32 * i);
    }
    for (let at = 0; at < 1000; at++) {
      window.observe(at + 7 * 24 * 3600 * 1000);
      if (window.size >= 3) expect(window.bytes).toBeLessThanOrEqual(32 * window.size);
    }
    window.observe(8 * 24 * 3600 * 1000);
    expect([window.size, window.bytes]).toEqual([0, 0]);
  });

  it("W4 finds both places, newest first, where one id stands twice in a stream", () => {
    const window = new CommandWindow();
    window.add("c", 1, 2, 1);
    window.observe(2);
    window.add("c", 4, 1, 3);
    expect(window.find("c")).toEqual([
      { version: 4, count: 1 },
      { version: 1, count: 2 },
    ]);
  });

  it("holds versions beyond 32 bits and refuses what it cannot hold", () => {
    const window = new CommandWindow();
    window.add("far", 2 ** 33 - 1, 2 ** 20 - 1, 1);
    expect(window.find("far")).toEqual([{ version: 2 ** 33 - 1, count: 2 ** 20 - 1 }]);
    expect(CommandWindow.restore(window.toJSON()).find("far")).toEqual([{ version: 2 ** 33 - 1, count: 2 ** 20 - 1 }]);
    expect(() => window.add("x", 2 ** 33, 1, 1)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    expect(() => window.add("x", 1, 2 ** 20, 1)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });

  it.each([{ capacity: 0 }, { capacity: 1.5 }, { windowMs: -1 }, { windowMs: Number.NaN }])("refuses the options %j by name", (options) => {
    expect(() => commandWindowOptions(options)).toThrow(Object.keys(options)[0]);
  });
});
