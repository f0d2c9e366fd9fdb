import { describe, expect, it } from "vitest";
import { mayAccess, type Caller } from "../../../src/testing/eventstoredb-server/engine/access.ts";
import { engineInManualTime, event } from "./support.ts";

const admin: Caller = { name: "root", password: "x", groups: ["$admins"] };
const ada: Caller = { name: "ada", password: "x", groups: ["writers"] };
const bob: Caller = { name: "bob", password: "x" };

function withAcl(acl: object) {
  const { engine } = engineInManualTime();
  engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: JSON.stringify({ $acl: acl }) })]);
  return (caller: Caller, access: "read" | "write" | "delete", stream = "s-1") => mayAccess(engine.log, caller, access, stream);
}

describe("access to a stream", () => {
  it("is everybody's on a server that asks nobody, and nobody's who has no name on one that asks", () => {
    const may = withAcl({ $r: [] });
    expect(may("trusted", "read")).toBe(true);
    expect(may("trusted", "delete", "$all")).toBe(true);
    expect(may("anonymous", "read", "s-2")).toBe(false);
  });

  it("is every user's by default, and the administrators' for system streams and $all", () => {
    const may = withAcl({});
    for (const access of ["read", "write", "delete"] as const) expect(may(bob, access, "s-2")).toBe(true);
    expect(may(bob, "read", "$all")).toBe(false);
    expect(may(bob, "read", "$settings")).toBe(false);
    expect(may(admin, "read", "$all")).toBe(true);
  });

  it("is given to names and groups by the access list, each right by itself", () => {
    const may = withAcl({ $r: "ada", $w: ["writers"], $d: "$admins" });
    expect([may(ada, "read"), may(ada, "write"), may(ada, "delete")]).toEqual([true, true, false]);
    expect([may(bob, "read"), may(bob, "write"), may(bob, "delete")]).toEqual([false, false, false]);
    expect([may(admin, "read"), may(admin, "write"), may(admin, "delete")]).toEqual([true, true, true]);
  });

  it("to metadata has rights of its own", () => {
    const may = withAcl({ $r: [], $mr: "bob" });
    expect([may(bob, "read"), may(bob, "read", "$$s-1"), may(bob, "write", "$$s-1")]).toEqual([false, true, true]);
    expect(may(admin, "delete", "$$s-1")).toBe(false);
  });

  it("to $all is only to read", () => {
    const may = withAcl({});
    expect([may(admin, "write", "$all"), may(admin, "delete", "$all"), may(admin, "write", "")]).toEqual([false, false, false]);
  });
});
