/**
 * A process of its own that runs an app on a SQLite file: `child.ts FILE`. Each line of its input is a call in JSON, each line of its output an answer.
 */
import { writeSync } from "node:fs";
import { tidemark } from "../../src/index.ts";
import { onCommand } from "../store/sqlite/support.ts";
import { Account } from "./account.ts";
import type { RemoteAnswer, RemoteCall } from "./processes.ts";

const [file = ""] = process.argv.slice(2);
const app = await tidemark({ store: `sqlite:${file}`, aggregates: [Account] });
const say = (answer: RemoteAnswer): void => void writeSync(1, `${JSON.stringify(answer)}\n`);

onCommand((line) => {
  const { n, id, command, input, options } = JSON.parse(line) as RemoteCall;
  if (command === "close") {
    void app.close().then(() => process.exit(0));
    return;
  }
  const work: Promise<unknown> = command === "state" ? app.at(Account, id).state(options) : app.execute(Account, id, command, input, options);
  work.then(
    (value) => say({ n, value }),
    (error: { code?: string; message: string }) => say({ n, error: error.code ?? error.message }),
  );
});
say({ n: 0 });
