import { afterEach, beforeEach, expect, test, vi } from "vitest";

beforeEach(() => {
  vi.resetModules();
  vi.stubEnv("CHROMIUM", "/nowhere/chromium");
  vi.stubEnv("TIDEMARK_REQUIRE", "");
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

test("a missing component is reported in one line, once", async () => {
  const written = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const { component } = await import("./components.ts");
  expect(component("browser")).toEqual({ available: false, reason: expect.stringContaining("/nowhere/chromium") as string });
  component("browser");
  const lines = written.mock.calls.map(([line]) => String(line)).filter((line) => line.startsWith("skipped, browser"));
  expect(lines).toHaveLength(1);
});

test("a missing component that is required fails instead of being skipped", async () => {
  vi.stubEnv("TIDEMARK_REQUIRE", "postgres, browser");
  const { component } = await import("./components.ts");
  expect(() => component("browser")).toThrow("TIDEMARK_REQUIRE names browser");
});

test("a component that is there says where", async () => {
  vi.stubEnv("CHROMIUM", process.execPath);
  const { component } = await import("./components.ts");
  expect(component("browser")).toEqual({ available: true, reason: process.execPath });
});
