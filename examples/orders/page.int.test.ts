/** The page in a real Chromium, on the service as `npm start` starts it. */
import { spawn, type ChildProcess } from "node:child_process";
import { createServer, connect, type AddressInfo, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { component } from "../../test/support/components.ts";

const browserComponent = component("browser");
const BOUND_MS = 15_000;
const chromiumArguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const screen: BrowserContextOptions = { viewport: { width: 1320, height: 900 }, reducedMotion: "reduce" };

interface Running {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts the service on a free port with an empty store in memory; resolves once it says where it listens. */
function startService(): Promise<Running> {
  const main = fileURLToPath(new URL("./main.ts", import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [main, "--store", "memory:"], { env: { ...process.env, HOST: "127.0.0.1", PORT: "0" }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await ended;
  };
  return new Promise((resolve, reject) => {
    let said = "";
    const listen = (chunk: Buffer): void => {
      said += chunk.toString();
      const url = /http:\/\/127\.0\.0\.1:[1-9]\d*/.exec(said)?.[0];
      if (url !== undefined) resolve({ url, stop });
    };
    child.stdout?.on("data", listen);
    child.stderr?.on("data", listen);
    void ended.then(() => reject(new Error(`the service ended before it listened: ${said}`)));
  });
}

/** A TCP proxy whose connections can be cut, and that can refuse new ones for a while. */
async function startProxy(target: string): Promise<Running & { cut(): void; refuse(on: boolean): void }> {
  const sockets = new Set<Socket>();
  let refusing = false;
  const server: Server = createServer((inner) => {
    if (refusing) {
      inner.destroy();
      return;
    }
    const outer = connect(Number(new URL(target).port), "127.0.0.1");
    for (const [from, to] of [[inner, outer], [outer, inner]] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => (sockets.delete(from), to.destroy()));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    refuse: (on) => (refusing = on),
    stop: () => new Promise((resolve) => (server.close(() => resolve()), cut())),
  };
}

describe.skipIf(!browserComponent.available)("the page of the orders service", () => {
  let browser: Browser;
  /** For pages that ask for nothing special. A page of it stays open, so that the others are tabs in its window: a window of its own takes Chromium half a second of CPU time. */
  let shared: BrowserContext;
  let service: Running;
  const open: Page[] = [];
  /** What a page complained about; answers of 4xx, which Chromium reports as well, are what some tests ask for. */
  let complaints: string[] = [];

  beforeAll(async () => {
    [browser, service] = await Promise.all([chromium.launch({ executablePath: browserComponent.reason, args: chromiumArguments }), startService()]);
    shared = await browser.newContext(screen);
    await shared.newPage();
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    await service?.stop();
  });

  afterEach(async () => {
    await Promise.all(open.splice(0).map(closePage));
    await delayProjection(0);
    const found = complaints;
    complaints = [];
    expect(found).toEqual([]);
  });

  /** Ends the routes of a test first: one that is under way when its page goes away would fail the run. */
  async function closePage(page: Page): Promise<void> {
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await (page.context() === shared ? page : page.context()).close();
  }

  async function delayProjection(ms: number): Promise<void> {
    await fetch(`${service.url}/demo/projection-delay`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ms }) });
  }

  async function send(id: string, command: string, body: object = {}): Promise<Response> {
    return fetch(`${service.url}/orders/${id}/${command}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  }

  const placing = (customer: string): object => ({ customer, items: [{ sku: "tea", quantity: 2, unitPriceCents: 1250 }] });

  async function openPage(options: BrowserContextOptions & { readonly at?: string; readonly expectErrors?: RegExp } = {}): Promise<Page> {
    const { at = service.url, expectErrors, ...context } = options;
    await shared.clearCookies();
    const page = await (Object.keys(context).length > 0 ? await browser.newContext({ ...screen, ...context }) : shared).newPage();
    page.setDefaultTimeout(BOUND_MS);
    open.push(page);
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      if (expectErrors?.test(message.text()) !== true) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(at)) complaints.push(`asked elsewhere: ${request.url()}`);
    });
    await page.goto(at);
    await page.locator("#live[data-state=live]").waitFor();
    await page.locator("#verdict[data-verdict=fresh]").waitFor();
    return page;
  }

  const row = (page: Page, id: string): Locator => page.locator(`.row[data-id="${id}"]`);
  const inPhase = (page: Page, id: string, phase: string): Promise<void> => page.locator(`.row[data-id="${id}"][data-phase="${phase}"]`).waitFor();
  const flip = (page: Page, label: string): Promise<void> => page.locator("label.switch", { hasText: label }).click();

  /** Answers to the page's delay switch, so that the projection is late for certain when the next command goes out. */
  async function slowDown(page: Page): Promise<void> {
    await Promise.all([page.waitForResponse((response) => response.url().endsWith("/demo/projection-delay") && response.request().method() === "POST"), flip(page, "Slow projection")]);
  }

  async function placeByHand(page: Page, customer: string): Promise<string> {
    const answered = page.waitForResponse((response) => response.url().endsWith("/place") && response.status() === 201);
    await page.locator("#customer").fill(customer);
    await page.locator("#place button[type=submit]").click();
    return ((await (await answered).json()) as { id: string }).id;
  }

  /** Verdicts of all reads of the list from now on, "token fresh" or "no token stale" and so on, as the page shows them. */
  async function watchVerdicts(page: Page): Promise<() => Promise<string[]>> {
    await page.evaluate(`
      const verdicts = (globalThis.verdicts = new Set());
      const last = Math.max(0, ...Array.from(document.querySelectorAll("#reads li"), (item) => Number(item.dataset.read)));
      new MutationObserver(() => {
        for (const item of document.querySelectorAll("#reads li")) {
          if (Number(item.dataset.read) > last && item.dataset.verdict !== "reading") verdicts.add((item.dataset.token === undefined ? "no token " : "token ") + item.dataset.verdict);
        }
      }).observe(document.getElementById("reads"), { childList: true });
    `);
    return () => page.evaluate<string[]>("[...globalThis.verdicts]");
  }

  test("shows an order placed by hand at once as pending, and settles it when the projection has confirmed it", async () => {
    const page = await openPage();
    await slowDown(page);
    const id = await placeByHand(page, "c-hand");
    await inPhase(page, id, "pending");
    expect(await row(page, id).locator(".phase").textContent()).toContain("not in the list yet");
    expect(await row(page, id).getAttribute("aria-busy")).toBe("true");
    const before = await fetch(`${service.url}/orders/${id}`);
    expect(before.status).toBe(404); // the projection really had not seen it
    await inPhase(page, id, "settled");
    const after = await fetch(`${service.url}/orders/${id}`);
    expect(Number(after.headers.get("last-processed-version"))).toBe(1);
    await inPhase(page, id, "read");
    expect(await row(page, id).getAttribute("data-status")).toBe("placed");
  });

  test("keeps an order pending as long as the projection has processed less than what was written", async () => {
    const page = await openPage();
    const id = await placeByHand(page, "c-older");
    await inPhase(page, id, "read");
    let older = 0;
    await page.route(`**/orders/${id}`, async (route) => {
      const response = await route.fetch();
      older += 1;
      return route.fulfill({ response, headers: { ...response.headers(), "last-processed-version": "1" } });
    });
    await row(page, id).locator("[data-action=approve]").click();
    await expect.poll(() => older, { timeout: BOUND_MS }).toBeGreaterThan(2);
    expect(await row(page, id).getAttribute("data-phase")).toBe("pending");
    await page.unrouteAll({ behavior: "wait" });
    await inPhase(page, id, "settled");
  });

  test("pushes an order along to its delivery, with the command that its state allows", async () => {
    const page = await openPage();
    const id = await placeByHand(page, "c-steps");
    for (const [action, status] of [["approve", "approved"], ["invoice", "invoiced"], ["process", "processing"], ["ship", "shipped"], ["deliver", "delivered"]] as const) {
      await row(page, id).locator(`[data-action=${action}]`).click();
      await page.locator(`.row[data-id="${id}"][data-status="${status}"]:is([data-phase=settled], [data-phase=read])`).waitFor();
    }
    const order = (await (await fetch(`${service.url}/orders/${id}`)).json()) as { status: string; version: number };
    expect(order).toMatchObject({ status: "delivered", version: 6 });
    expect(await row(page, id).locator("[data-action=deliver]").count()).toBe(0);
  });

  test("sends clicks faster than the service answers one after the other, and loses none", async () => {
    const page = await openPage();
    const id = await placeByHand(page, "c-fast");
    await row(page, id).focus();
    for (const _ of ["approve", "invoice", "process", "ship", "deliver"]) await page.keyboard.press("p");
    await page.locator(`.row[data-id="${id}"][data-status=delivered][data-phase=read]`).waitFor();
    const { events } = (await (await fetch(`${service.url}/orders/${id}/history`)).json()) as { events: { type: string }[] };
    expect(events).toHaveLength(6);
  });

  test("reads stale without the token, and never with it", async () => {
    const page = await openPage();
    await slowDown(page);
    await flip(page, "Read with token");
    const without = await watchVerdicts(page);
    const first = await placeByHand(page, "c-stale");
    await page.locator("#verdict[data-verdict=stale]").waitFor();
    expect(await page.locator("#verdict").textContent()).toMatch(/events=\d+; ms=\d+/);
    await inPhase(page, first, "settled");
    expect(await without()).toContain("no token stale");

    await flip(page, "Read with token");
    const withToken = await watchVerdicts(page);
    const second = await placeByHand(page, "c-fresh");
    await inPhase(page, second, "settled");
    await row(page, second).locator("[data-action=approve]").click();
    await page.locator(`.row[data-id="${second}"][data-status=approved][data-phase=settled]`).waitFor();
    expect(await withToken()).toEqual(["token fresh"]);
  });

  test("shows a refusal with its code and goes back to what the service says", async () => {
    const page = await openPage({ expectErrors: /409/ });
    const id = await placeByHand(page, "c-refused");
    await inPhase(page, id, "read");
    await row(page, id).locator("[data-action=history]").click();
    await page.locator(".any summary").click();
    await page.locator("[data-any=return]").click();
    const toast = page.locator(".toast.error");
    await toast.waitFor();
    expect(await toast.getAttribute("data-code")).toBe("not-delivered");
    expect(await toast.getAttribute("role")).toBe("alert");
    await toast.getByRole("button", { name: "Dismiss" }).click(); // in reach, though the drawer is open
    await page.keyboard.press("Escape");
    await page.locator(`.row[data-id="${id}"][data-status=placed][data-phase=read]`).waitFor();
  });

  test("does not decide on what somebody else has changed meanwhile", async () => {
    const page = await openPage({ expectErrors: /412|ERR_FAILED/ });
    const id = await placeByHand(page, "c-race");
    await inPhase(page, id, "read");
    await page.route("**/events", (route) => route.abort());
    await page.route("**/orders?*", (route) => route.abort());
    await page.route(`**/orders/${id}`, (route) => route.abort());
    expect((await send(id, "approve")).status).toBe(200);
    await row(page, id).locator("[data-action=cancel]").click();
    await page.locator(".toast.error[data-code=WrongExpectedVersion]").waitFor();
    const { events } = (await (await fetch(`${service.url}/orders/${id}/history`)).json()) as { events: { type: string }[] };
    expect(events.map((event) => event.type)).toEqual(["OrderPlaced", "OrderApproved"]);
  });

  test("travels in time: the slider shows the state as it was at each version", async () => {
    const page = await openPage();
    const id = await placeByHand(page, "c-time");
    for (const command of ["approve", "ship", "deliver"]) expect((await send(id, command)).status).toBe(200);
    await page.locator(`.row[data-id="${id}"][data-status=delivered]`).waitFor();
    await row(page, id).locator("[data-action=history]").click();
    const status = page.locator("#state > div", { has: page.locator("dt", { hasText: /^status$/ }) }).locator("dd");
    await page.locator("#state[data-version='4']").waitFor();
    expect(await status.textContent()).toBe("delivered");
    await page.locator("#at").focus();
    for (const [version, then] of [[3, "shipped"], [2, "approved"], [1, "placed"]] as const) {
      await page.keyboard.press("ArrowLeft");
      await page.locator(`#state[data-version='${version}']`).waitFor();
      expect(await status.textContent()).toBe(then);
      expect(await page.locator("#events li.future").count()).toBe(4 - version);
    }
    expect((await send(id, "cancel", { reason: "returned", asReturn: true })).status).toBe(200);
    await page.locator("#events li[data-version='5']").waitFor(); // the open drawer hears of it
    expect(await page.locator("#state").getAttribute("data-version")).toBe("1"); // and stays where the reader is
    await page.keyboard.press("Escape");
    await page.locator("#history").waitFor({ state: "hidden" });
  });

  test("can be used with the keyboard alone", async () => {
    const page = await openPage();
    await page.keyboard.press("n");
    await page.keyboard.type("c-keys");
    const answered = page.waitForResponse((response) => response.url().endsWith("/place"));
    await page.keyboard.press("Enter");
    const { id } = (await (await answered).json()) as { id: string };
    await inPhase(page, id, "read");
    expect(await page.evaluate("document.activeElement.dataset.id")).toBe(id); // the new order has the focus
    await page.keyboard.press("p");
    await page.locator(`.row[data-id="${id}"][data-status=approved][data-phase=read]`).waitFor();
    expect(await page.locator("#announcer").textContent()).toContain("settled at version 2");
    await page.keyboard.press("ArrowRight");
    expect(await page.evaluate("document.activeElement.dataset.action")).toBe("invoice");
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    await page.locator("#state[data-version='2']").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#history").waitFor({ state: "hidden" });
    expect(await page.evaluate("document.activeElement.dataset.id")).toBe(id); // and has it back after the drawer
    await page.keyboard.press("ArrowDown");
    expect(await page.evaluate("document.activeElement.dataset.id")).not.toBe(id);
    await page.keyboard.press("t");
    expect(await page.locator("#use-token").isChecked()).toBe(false);
    expect(await page.locator(".row[tabindex='0']").count()).toBe(1); // one stop for Tab
  });

  test("hears of changes by others, in the list and in the statistics", async () => {
    const page = await openPage();
    expect((await send("other-1", "place", placing("c-other"))).status).toBe(201);
    await row(page, "other-1").waitFor();
    const number = page.locator(".tile[data-status=unavailable] b");
    const before = Number(await number.textContent());
    expect((await send("other-1", "mark-unavailable")).status).toBe(200);
    await page.locator(".row[data-id=other-1][data-status=unavailable]").waitFor();
    await page.locator(".tile[data-status=unavailable] b", { hasText: String(before + 1) }).waitFor();
    await page.locator(".plot rect[data-status=unavailable]").first().waitFor({ state: "attached" });
    await page.locator(".tile[data-status=unavailable]").click(); // tiles filter the list
    await page.locator(".row:not([data-status=unavailable])").first().waitFor({ state: "detached" });
    expect(await row(page, "other-1").count()).toBe(1);
  });

  test("connects again after the connection was lost, and shows what happened meanwhile", async () => {
    const proxy = await startProxy(service.url);
    try {
      const page = await openPage({ at: proxy.url, expectErrors: /ERR_/ });
      proxy.refuse(true);
      proxy.cut();
      await page.locator("#live[data-state=lost]").waitFor();
      expect((await send("meanwhile-1", "place", placing("c-meanwhile"))).status).toBe(201);
      proxy.refuse(false);
      await row(page, "meanwhile-1").waitFor();
      await page.locator("#live[data-state=live]").waitFor();
    } finally {
      await proxy.stop();
    }
  }, 40_000);

  test("sends a command again when its answer was lost, without doing it twice", async () => {
    const page = await openPage({ expectErrors: /ERR_/ });
    const keys: (string | undefined)[] = [];
    await page.route("**/place", async (route) => {
      keys.push(route.request().headers()["idempotency-key"]);
      if (keys.length > 1) return route.continue();
      await route.fetch();
      return route.abort("connectionreset");
    });
    await page.locator("#customer").fill("c-again");
    await page.locator("#place button[type=submit]").click();
    const shown = await page.locator(".row", { hasText: "c-again" }).first().getAttribute("data-id");
    await page.locator(`.row[data-id="${shown}"][data-phase=read]`).waitFor();
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/.{10,}/);
    expect(keys[1]).toBe(keys[0]);
    const { events } = (await (await fetch(`${service.url}/orders/${shown}/history`)).json()) as { events: unknown[] };
    expect(events).toHaveLength(1);
  });

  test("shows text from users as text, wherever it stands", async () => {
    const page = await openPage();
    const evil = `<img src=/x onerror="globalThis.pwned=1"><b>c</b>`;
    expect((await send("evil-1", "place", placing(evil))).status).toBe(201);
    await row(page, "evil-1").waitFor();
    expect(await row(page, "evil-1").locator(".who span").textContent()).toBe(evil);
    await row(page, "evil-1").locator("[data-action=history]").click();
    await page.locator("#state[data-version='1']").waitFor();
    expect(await page.locator("#state img, #events img, #grid img").count()).toBe(0);
    expect(await page.evaluate("globalThis.pwned")).toBeUndefined();
  });

  test("runs under a policy that refuses inline scripts, inline styles and eval", async () => {
    const page = await openPage({ expectErrors: /Content Security Policy/ });
    const outcome = await page.evaluate<{ ran: unknown; styled: string; violations: string[] }>(`
      (async () => {
        const violations = [];
        const both = new Promise((resolve) => document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective) === 2 && resolve()));
        const script = document.createElement("script");
        script.append("globalThis.ran = 1");
        const style = document.createElement("style");
        style.append("body { border-top: 7px solid red }");
        document.head.append(script, style);
        await both;
        return { ran: globalThis.ran, styled: getComputedStyle(document.body).borderTopWidth, violations };
      })()
    `);
    expect(outcome.ran).toBeUndefined();
    expect(outcome.styled).toBe("0px");
    expect(new Set(outcome.violations)).toEqual(new Set(["script-src-elem", "style-src-elem"]));
    const policy = (await fetch(service.url)).headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src");
    expect(policy).not.toMatch(/unsafe-(inline|eval)/);
  });

  test.each([[360, "light"], [390, "dark"], [820, "light"]] as const)("fits a screen %i px wide (%s)", async (width, colorScheme) => {
    expect([201, 409]).toContain((await send("fit-1", "place", placing("a-customer-with-a-very-long-name-that-goes-on-and-on-and-on"))).status);
    const page = await openPage({ viewport: { width, height: 760 }, colorScheme, hasTouch: true });
    await row(page, "fit-1").waitFor();
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
    await row(page, "fit-1").locator("[data-action=history]").tap();
    await page.locator("#state[data-version='1']").waitFor();
    expect(await page.evaluate("document.querySelector('#history').scrollWidth <= innerWidth")).toBe(true);
  });
});
