import { expect, it } from "vitest";
import { randomUuid } from "../src/random-uuid.ts";

it("random ids are version 4 UUIDs, all different, every digit drawn", () => {
  const ids = Array.from({ length: 5000 }, randomUuid);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const fixed = new Set([8, 13, 14, 18, 23]);
  for (let place = 0; place < 36; place++) {
    if (!fixed.has(place)) expect(new Set(ids.map((id) => id[place])).size).toBe(place === 19 ? 4 : 16);
  }
});
