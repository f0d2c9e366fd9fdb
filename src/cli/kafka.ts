/** `tidemark kafka …`. */
import { parseArgs } from "node:util";
import { INSTALL, loadClient } from "../app/open-store.ts";
import { InvalidArgument } from "../errors.ts";

export const KAFKA_USAGE = `Usage: tidemark kafka acls --topic-prefix PREFIX --principal PRINCIPAL [options]

  Prints the commands that grant a service, and nobody else, what it needs on a cluster with an authorizer.

  --topic-prefix PREFIX       as the store has it
  --principal PRINCIPAL       such as User:orders
  --category NAME             only this category's topics, may be given several times (default: all under the prefix)
  --read-only                 reads, and writes nothing
  --bootstrap-server ADDRESS  where the commands connect to (default: localhost:9092)
`;

/** The exit code. Errors: InvalidArgument, MissingClient. */
export async function runKafka(args: readonly string[], print: (text: string) => void): Promise<number> {
  const { values, positionals } = parsed(args);
  if (values.help === true || positionals.length === 0) {
    print(KAFKA_USAGE);
    return values.help === true ? 0 : 2;
  }
  if (positionals.join(" ") !== "acls") throw new InvalidArgument(`there is no command ${JSON.stringify(`kafka ${positionals.join(" ")}`.slice(0, 80))}\n\n${KAFKA_USAGE}`);
  const { "topic-prefix": topicPrefix, principal, category: categories, "read-only": readOnly, "bootstrap-server": bootstrapServer = "localhost:9092" } = values;
  if (topicPrefix === undefined || principal === undefined) throw new InvalidArgument(`--topic-prefix and --principal are needed\n\n${KAFKA_USAGE}`);
  const { kafkaAclCommands } = await loadClient("kafkajs", INSTALL.kafkajs, () => import("../store/kafka/index.ts"));
  const options = { topicPrefix, principal, ...(categories === undefined ? {} : { categories }), ...(readOnly === undefined ? {} : { readOnly }) };
  print(`${kafkaAclCommands(options, bootstrapServer).join("\n")}\n`);
  return 0;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        "topic-prefix": { type: "string" },
        principal: { type: "string" },
        category: { type: "string", multiple: true },
        "read-only": { type: "boolean" },
        "bootstrap-server": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (cause) {
    throw new InvalidArgument(`${(cause as Error).message}\n\n${KAFKA_USAGE}`, { cause });
  }
}
