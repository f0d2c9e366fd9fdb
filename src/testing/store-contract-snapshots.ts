/**
 * What every snapshot store must do, as cases that run without a test framework; `snapshotStoreContract` hands them to one.
 */
import assert from "node:assert/strict";
import type { SnapshotStore, StoredSnapshot } from "../snapshot/snapshot-store.ts";
import type { StoreContractApi } from "./store-contract.ts";

export interface OpenedSnapshots {
  readonly snapshots: SnapshotStore;
  /** Closes and opens again; absent where snapshots do not outlive their process. */
  reopen?(): Promise<SnapshotStore>;
  dispose(): Promise<void>;
}

export interface SnapshotHarness {
  readonly name: string;
  open(): Promise<OpenedSnapshots>;
}

export interface SnapshotCase {
  readonly name: string;
  /** Resolves with the reason where it was skipped. */
  run(harness: SnapshotHarness): Promise<{ readonly skipped: string } | undefined>;
}

function snapshot(overrides: Partial<StoredSnapshot> = {}): StoredSnapshot {
  return {
    stream: "order-1",
    version: 10,
    eventId: "5a1a3d0e-9a53-5d0c-8a44-0d7c6d7b3f11",
    position: { log: 42 },
    schemaVersion: 3,
    state: '{"status":"placed","note":"é 😀 \\u0000"}',
    window: "[]",
    checksum: "c".repeat(64),
    takenAt: 1_700_000_000_123,
    ...overrides,
  };
}

function snapshotCase(name: string, body: (snapshots: SnapshotStore, opened: OpenedSnapshots) => Promise<{ readonly skipped: string } | void>): SnapshotCase {
  return {
    name,
    async run(harness) {
      const opened = await harness.open();
      try {
        return (await body(opened.snapshots, opened)) ?? undefined;
      } finally {
        await opened.dispose();
      }
    },
  };
}

export const snapshotStoreCases: readonly SnapshotCase[] = [
  snapshotCase("a stream without a snapshot has none", async (snapshots) => {
    assert.equal(await snapshots.load("order-1"), undefined);
    await snapshots.save([]);
    await snapshots.delete("order-1");
    assert.equal(await snapshots.load("order-1"), undefined);
  }),

  snapshotCase("a snapshot comes back as it was saved, each under its own stream", async (snapshots) => {
    const all = [snapshot(), snapshot({ stream: "order-2", position: { "orders/0": 7, "orders/11": 0 } }), snapshot({ stream: "order-日本 😀'\"%_", state: "x".repeat(1_000_000) })];
    await snapshots.save(all);
    for (const one of all) assert.deepEqual(await snapshots.load(one.stream), one);
    assert.equal(await snapshots.load("ORDER-1"), undefined);
    assert.equal(await snapshots.load("order-"), undefined);
  }),

  snapshotCase("a newer version replaces an older one, never the other way round", async (snapshots) => {
    const [old, newer] = [snapshot({ version: 9, state: "9" }), snapshot({ version: 10, state: "10" })];
    await snapshots.save([old]);
    await snapshots.save([newer]);
    assert.deepEqual(await snapshots.load("order-1"), newer);
    await snapshots.save([old, snapshot({ stream: "order-2" })]);
    assert.deepEqual(await snapshots.load("order-1"), newer);
    assert.deepEqual(await snapshots.load("order-2"), snapshot({ stream: "order-2" }));
    await snapshots.save([snapshot({ stream: "order-3", version: 5 }), snapshot({ stream: "order-3", version: 4 })]);
    assert.equal((await snapshots.load("order-3"))?.version, 5);
  }),

  snapshotCase("the same version taken again replaces the first", async (snapshots) => {
    await snapshots.save([snapshot({ schemaVersion: 1, state: "old shape" })]);
    await snapshots.save([snapshot({ schemaVersion: 2, state: "new shape" })]);
    assert.deepEqual(await snapshots.load("order-1"), snapshot({ schemaVersion: 2, state: "new shape" }));
  }),

  snapshotCase("a deleted snapshot is gone, its neighbours stay, and an older one may be saved again", async (snapshots) => {
    await snapshots.save([snapshot(), snapshot({ stream: "order-2" })]);
    await snapshots.delete("order-1");
    assert.equal(await snapshots.load("order-1"), undefined);
    assert.deepEqual(await snapshots.load("order-2"), snapshot({ stream: "order-2" }));
    await snapshots.save([snapshot({ version: 1 })]);
    assert.equal((await snapshots.load("order-1"))?.version, 1);
  }),

  snapshotCase("nothing keeps a reference to what was saved or loaded", async (snapshots) => {
    const position = { log: 42 };
    const saved = { ...snapshot(), position };
    await snapshots.save([saved]);
    saved.state = "changed";
    position.log = 99;
    const loaded = (await snapshots.load("order-1")) as { state: string; position: Record<string, number> };
    for (const change of [() => (loaded.state = "changed"), () => (loaded.position["log"] = 99)]) {
      try {
        change();
      } catch (error) {
        assert.ok(error instanceof TypeError, "frozen data throws a TypeError");
      }
    }
    assert.deepEqual(await snapshots.load("order-1"), snapshot());
  }),

  snapshotCase("an aborted load says so", async (snapshots) => {
    await assert.rejects(async () => snapshots.load("order-1", AbortSignal.abort()), { code: "Aborted" });
  }),

  snapshotCase("snapshots are there after closing and opening again", async (snapshots, opened) => {
    if (opened.reopen === undefined) return { skipped: "its snapshots do not outlive the process" };
    await snapshots.save([snapshot()]);
    assert.deepEqual(await (await opened.reopen()).load("order-1"), snapshot());
    return undefined;
  }),

  snapshotCase("a closed snapshot store says so, and closes twice", async (snapshots) => {
    await snapshots.close();
    await snapshots.close();
    await assert.rejects(async () => snapshots.load("order-1"), { code: "StoreClosed" });
    await assert.rejects(async () => snapshots.save([snapshot()]), { code: "StoreClosed" });
    await assert.rejects(async () => snapshots.delete("order-1"), { code: "StoreClosed" });
  }),
];

/** Registers every case with `describe` and `it`; a case that the store cannot do is skipped with its reason. */
export function snapshotStoreContract(harness: SnapshotHarness, api: StoreContractApi): void {
  api.describe(`the contract of snapshot stores, held by ${harness.name}`, () => {
    for (const contractCase of snapshotStoreCases) {
      api.it(contractCase.name, async (context) => {
        const result = await contractCase.run(harness);
        if (result !== undefined) context.skip(result.skipped);
      });
    }
  });
}
