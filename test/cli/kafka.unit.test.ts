import { describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.ts";

async function printed(...args: readonly string[]): Promise<string> {
  let text = "";
  await run(["kafka", ...args], (more) => (text += more), {});
  return text;
}

describe("tidemark kafka acls", () => {
  it("prints what a service needs: its topics and transactional ids, by prefix", async () => {
    expect(await printed("acls", "--topic-prefix", "shop", "--principal", "User:orders", "--bootstrap-server", "k1:9092")).toBe(
      [
        "kafka-acls.sh --bootstrap-server k1:9092 --add --allow-principal 'User:orders' --operation Read --operation Write --operation Create --operation DescribeConfigs --resource-pattern-type prefixed --topic 'shop.'",
        "kafka-acls.sh --bootstrap-server k1:9092 --add --allow-principal 'User:orders' --operation Write --resource-pattern-type prefixed --transactional-id 'shop.'",
        "",
      ].join("\n"),
    );
  });

  it("names the topics of one category, and grants a reader nothing to write with", async () => {
    const lines = (await printed("acls", "--topic-prefix", "shop", "--principal", "User:report", "--category", "order", "--read-only")).trim().split("\n");
    expect(lines.map((line) => / --topic '(.*)'$/.exec(line)?.[1])).toEqual(["shop.store", "shop.order.events", "shop.order.snapshots"]);
    expect(lines.join("\n")).not.toMatch(/Write|Create|transactional/);
  });

  it.each([
    [["acls", "--topic-prefix", "shop"], "--topic-prefix and --principal are needed"],
    [["acls", "--topic-prefix", "shop", "--principal", "orders"], "a principal is written User:orders"],
    [["acls", "--topic-prefix", "shop", "--principal", "User:o'; rm"], "a principal is written User:orders"],
    [["acls", "--topic-prefix", "-", "--principal", "User:o"], "topicPrefix must be"],
    [["acls", "--topic-prefix", "shop", "--principal", "User:o", "--category", "or der"], "category"],
    [["topics"], 'there is no command "kafka topics"'],
  ])("refuses %j", async (args, message) => {
    await expect(printed(...args)).rejects.toThrow(message);
  });
});
