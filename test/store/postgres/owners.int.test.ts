/** One owner for each read model: who reads, who takes over, and who can write no more. */
import type { PoolClient } from "pg";
import { concatMap } from "rxjs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark, type App, type Backend, type OpenPage, type OpenView, type SqlAccess, type ViewStore } from "../../../src/index.ts";
import { postgresBackend, postgresViews, sqlView } from "../../../src/store/postgres/index.ts";
import { killAll, type Child } from "../../support/processes.ts";
import { owners, startService, type Service } from "./service-process.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: { Added: (state, { by }: { by: number }) => void (state.count += by) },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

const KEY = { model: "sums", version: 1, build: 1 };
const TABLE = { kind: "table", name: "sums", key: "id", indexes: [], columns: [] } as const;
const at = (log: number) => ({ position: { log }, store: "s", events: log });

describe.skipIf(!available)("the owner of a read model on PostgreSQL", () => {
  let database: TestDatabase;
  const children: Child[] = [];
  const apps: App[] = [];
  const stores: ViewStore[] = [];
  const backends: Backend[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => {
    await killAll(children);
    await Promise.all(apps.splice(0).map((app) => app.close()));
    await Promise.all([...stores.splice(0), ...backends.splice(0)].map((opened) => opened.close()));
  });
  afterAll(() => database.drop());

  const views = async (viewsSchema: string): Promise<ViewStore> => {
    const opened = await postgresViews({ connection: database.url, viewsSchema, poolSize: 4 });
    stores.push(opened);
    return opened;
  };
  const terminateOwner = (): Promise<unknown> =>
    database.sql("SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.objsubid = 1 AND a.datname = $1", database.name);

  it("alone reads the log; the others stand by, and one of them goes on when it leaves", async () => {
    const schema = newSchema();
    const handled = [0, 0];
    const open = async (who: 0 | 1) => {
      const model = readModel("sums", {
        from: [Counter],
        view: table<{ id: string; sum: number }>("sums", { key: "id" }),
        project: (events$, { view }) =>
          events$.pipe(
            concatMap((event) => {
              handled[who] = (handled[who] ?? 0) + 1;
              return view.update(event.id, (row) => ({ id: event.id, sum: (row?.sum ?? 0) + event.data.by }));
            }),
          ),
      });
      const app = await tidemark({ store: `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`, aggregates: [Counter], readModels: [model] });
      apps.push(app);
      return { app, model };
    };
    const first = await open(0);
    await until(() => first.app.readModel(first.model).progress().state === "live", "the first being live");
    const second = await open(1);
    let token = "";
    for (let n = 0; n < 50; n++) token = accepted(await second.app.at(Counter, "a").add(1)).token;
    expect((await second.app.query(second.model, (view) => view.get("a"), { atLeast: token }))?.sum).toBe(50);
    await until(() => second.app.readModel(second.model).progress().state === "live", "the second being live by what the first does");
    expect(handled).toEqual([50, 0]);
    await first.app.close();
    token = accepted(await second.app.at(Counter, "a").add(1)).token;
    expect((await second.app.query(second.model, (view) => view.get("a"), { atLeast: token, timeoutMs: 10_000 }))?.sum).toBe(51);
    expect(handled).toEqual([50, 1]);
  });

  it("can write no more as soon as another one has taken over, though nothing was written since", async () => {
    const schema = newSchema();
    const [old, next] = [await (await views(schema)).open(KEY, TABLE), await (await views(schema)).open(KEY, TABLE)];
    const signal = AbortSignal.timeout(20_000);
    const before = await old.claim?.(signal);
    expect(await old.commit(new Map([["a", { id: "a", by: "old" }]]), at(1), 0)).toBe("committed");
    const waiting = next.claim?.(signal);
    await terminateOwner();
    const after = await waiting;
    await until(() => before?.ended.aborted === true, "the old owner hearing of it");
    expect((await old.checkpoint()).revision).toBe(1);
    expect(await old.commit(new Map([["a", { id: "a", by: "a ghost" }]]), at(2), 1)).toBe("lost");
    expect(await next.commit(new Map([["a", { id: "a", by: "next" }]]), at(2), 1)).toBe("committed");
    expect(await next.reader.get("a")).toEqual({ id: "a", by: "next" });
    after?.release();
    expect(await next.commit(new Map(), at(3), 2)).toBe("lost");
  });

  it("that has left a page open in SQL holds up nobody: the page is ended, and writes nothing", async () => {
    const schema = newSchema();
    const { definition } = sqlView({ create: "CREATE TABLE notes (note text)", open: ({ client }) => client });
    const [old, next] = [await (await views(schema)).open(KEY, definition), await (await views(schema)).open(KEY, definition)];
    const signal = AbortSignal.timeout(20_000);
    await old.claim?.(signal);
    const pageOf = (view: OpenView): OpenPage => (view.sql as SqlAccess).page(0, { timeoutMs: 30_000, onLateWrite: () => undefined });
    const page = pageOf(old);
    await (page.held as PoolClient).query("INSERT INTO notes VALUES ('old')");
    const waiting = next.claim?.(signal);
    await terminateOwner();
    await waiting;
    page.seal();
    await expect(page.commit(at(1))).rejects.toMatchObject({ code: "StoreUnavailable" });
    const mine = pageOf(next);
    await (mine.held as PoolClient).query("INSERT INTO notes VALUES ('next')");
    mine.seal();
    expect(await mine.commit(at(1))).toBe("committed");
    expect(await next.sql?.read(async (held) => (await (held as PoolClient).query("SELECT note FROM notes")).rows)).toEqual([{ note: "next" }]);
  });

  it("is nobody where no connection can listen: the read model goes on all the same, also beside one that is owned", { timeout: 30_000 }, async () => {
    const schema = newSchema();
    const model = readModel("sums", {
      from: [Counter],
      view: table<{ id: string; applied: number }>("sums", { key: "id" }),
      project: (events$, { view }) => events$.pipe(concatMap(({ id }) => view.update(id, (row) => ({ id, applied: (row?.applied ?? 0) + 1 })))),
    });
    const open = async (listener: string): Promise<App> => {
      const backend = await postgresBackend({ connection: database.url, listener, schema, viewsSchema: `${schema}_views`, poolSize: 4 });
      const app = await tidemark({ store: backend, aggregates: [Counter], readModels: [model] });
      apps.push(app);
      backends.push(backend);
      return app;
    };
    const deaf = await open("postgres://127.0.0.1:1/nowhere");
    let token = accepted(await deaf.at(Counter, "a").add(1)).token;
    expect(await deaf.query(model, (view) => view.get("a"), { atLeast: token, timeoutMs: 15_000 })).toEqual({ id: "a", applied: 1 });
    const hearing = await open(database.url);
    for (let n = 2; n <= 30; n++) token = accepted(await (n % 2 === 0 ? hearing : deaf).at(Counter, "a").add(1)).token;
    for (const app of [deaf, hearing]) expect(await app.query(model, (view) => view.get("a"), { atLeast: token, timeoutMs: 15_000 })).toEqual({ id: "a", applied: 30 });
    await hearing.close();
    token = accepted(await deaf.at(Counter, "a").add(1)).token;
    expect(await deaf.query(model, (view) => view.get("a"), { atLeast: token, timeoutMs: 15_000 })).toEqual({ id: "a", applied: 31 });
  });

  async function ownedBy(services: readonly Service[]): Promise<readonly [owner: Service, pid: number, others: readonly Service[]]> {
    let found: readonly [Service, number] | undefined;
    await until(async () => {
      const held = await owners(database);
      const owner = services.find(({ name }) => held.has(name));
      if (owner !== undefined) found = [owner, held.get(owner.name)?.pid ?? 0];
      return found !== undefined;
    }, "somebody owning the read model");
    const [owner, pid] = found as readonly [Service, number];
    return [owner, pid, services.filter((service) => service !== owner)];
  }

  it.each([
    ["is killed", "SIGKILL"],
    ["is stopped", "SIGSTOP"],
    ["loses the connection that holds its lock", undefined],
  ] as const)("is followed by another one within 2 s when it %s", { timeout: 90_000 }, async (_, signal) => {
    const schema = newSchema();
    const services = await Promise.all([startService(database, schema, children), startService(database, schema, children), startService(database, schema, children)]);
    const tookMs: number[] = [];
    for (let round = 0; round < 2; round++) {
      const [owner, pid, [writer, reader]] = await ownedBy(services);
      if (writer === undefined || reader === undefined) throw new Error("two others");
      if (signal === undefined) await database.sql("SELECT pg_terminate_backend($1::int)", pid);
      else owner.child.process.kill(signal);
      const begun = performance.now();
      const [version = "", token] = await writer.ask("add", "a");
      expect(await reader.ask("read", "a", token)).toEqual([version, version]);
      tookMs.push(performance.now() - begun);
      if (signal === "SIGKILL") services[services.indexOf(owner)] = await startService(database, schema, children);
      else if (signal === "SIGSTOP") {
        owner.child.process.kill("SIGCONT");
        const [later = "", laterToken] = await writer.ask("add", "a");
        expect(await owner.ask("read", "a", laterToken)).toEqual([later, later]);
      }
    }
    // The better of two: a busy machine may hold up one or the other.
    expect(Math.min(...tookMs), `took over in ${tookMs.map(Math.round).join(", ")} ms`).toBeLessThan(2000);
  });

  it("that is stopped in the middle of a page in SQL, beyond every bound, applies nothing twice and loses nothing", { timeout: 60_000 }, async () => {
    const schema = newSchema();
    const services = await Promise.all([startService(database, schema, children, "sql"), startService(database, schema, children, "sql")]);
    for (let round = 0; round < 2; round++) {
      const [owner, , [other]] = await ownedBy(services);
      if (other === undefined) throw new Error("one other");
      const said = owner.child.lines.length;
      const [version = "", token] = await other.ask("pause", "a");
      await until(() => owner.child.lines.slice(said).includes("paging"), "the owner being in the page");
      owner.child.process.kill("SIGSTOP");
      expect(await other.ask("read", "a", token)).toEqual([version, version]);
      owner.child.process.kill("SIGCONT");
      const [later = "", laterToken] = await owner.ask("add", "a");
      for (const service of services) expect(await service.ask("read", "a", laterToken)).toEqual([later, later]);
    }
  });
});
