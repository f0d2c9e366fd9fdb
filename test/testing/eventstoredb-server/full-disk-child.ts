/** Appends events of 6,000, 6,000, 6,000 and 100 bytes to a log on a file, and says what became of each. */
import { randomUUID } from "node:crypto";
import { systemClock, systemRandom } from "../../../src/environment.ts";
import { Engine } from "../../../src/testing/eventstoredb-server/engine/engine.ts";
import { JournalFile } from "../../../src/testing/eventstoredb-server/engine/journal-file.ts";

const journal = new JournalFile(process.argv[2]!);
const engine = new Engine({ clock: systemClock, random: systemRandom, knownIdsBytes: 1024, journal });
const answers = [6000, 6000, 6000, 100].map((bytes) => {
  try {
    engine.append("s-1", "any", [{ id: randomUUID(), type: "Tested", isJson: false, data: Buffer.alloc(bytes), metadata: Buffer.alloc(0) }]);
    return "written";
  } catch {
    return "refused";
  }
});
journal.close();
process.stdout.write(JSON.stringify(answers));
