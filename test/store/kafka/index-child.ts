/** Builds an index in a file, says when it has been saved, and stays: `index-child.ts BROKERS PREFIX FILE`. */
import { statSync } from "node:fs";
import { kafkaStore } from "../../../src/store/kafka/index.ts";

const [brokers = "", topicPrefix = "", file = ""] = process.argv.slice(2);
const store = kafkaStore({ brokers: brokers.split(","), topicPrefix, index: file });
const written = (): number => statSync(`${file}-wal`).size;
const before = written();
let events = 0;
for await (const page of store.readAll()) events += page.events.length;
if (events === 0) throw new Error("there is nothing to read");
// All of it is saved in one transaction, a second after the first step.
const look = setInterval(() => {
  if (written() === before) return;
  process.stdout.write("saved\n");
  clearInterval(look);
  setInterval(() => undefined, 60_000);
}, 10);
