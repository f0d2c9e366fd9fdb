import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { JournalFile } from "../../../src/testing/eventstoredb-server/engine/journal-file.ts";
import { engineInManualTime, events, lettersOf } from "./support.ts";

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
  file = join(folder, "log");
});

afterEach(() => rmSync(folder, { recursive: true }));

/** What a server finds on a file, as letters by append. */
function found(path = file): string[] {
  const journal = new JournalFile(path);
  journal.close();
  return journal.history.map((entry) => lettersOf(entry.events));
}

function write(...appends: string[]): void {
  const journal = new JournalFile(file);
  const { engine } = engineInManualTime({ journal, history: journal.history });
  for (const letters of appends) engine.append("s-1", "any", events(letters));
  journal.close();
}

describe("a log on a file", () => {
  it("comes back as it was, with tombstones and appends of nothing", () => {
    const journal = new JournalFile(file);
    const { engine: before } = engineInManualTime({ journal });
    before.append("s-1", "any", events("ab"));
    before.append("bestellung-ä€😀", "any", [{ ...events("c")[0]!, type: "Größe", metadata: Buffer.from([0, 255, 10]), isJson: false }]);
    before.append("s-2", "any", []);
    before.delete("s-1", "any");
    before.tombstone("s-2", "any");
    journal.close();
    const again = new JournalFile(file);
    const { engine: after } = engineInManualTime({ journal: again, history: again.history });
    again.close();
    const whole = (engine: typeof before) => Array.from({ length: engine.log.length }, (_, index) => engine.log.at(index)!).map((one) => ({ ...one, data: [...one.data], metadata: [...one.metadata] }));
    expect(whole(after)).toEqual(whole(before));
    expect([after.log.end, after.log.lastRevision("s-2"), after.log.isSoftDeleted("s-1")]).toEqual([before.log.end, Number.POSITIVE_INFINITY, true]);
  });

  it("loses the append that a kill cut off, wherever it cut it, and nothing else", () => {
    write("ab", "c");
    const whole = statSync(file).size;
    write("def");
    const cut = join(folder, "cut");
    const end = statSync(file).size;
    for (let bytes = whole; bytes < end; bytes += bytes < whole + 16 || bytes > end - 16 ? 1 : 13) {
      copyFileSync(file, cut);
      truncateSync(cut, bytes);
      expect(found(cut)).toEqual(["ab", "c"]);
      expect(statSync(cut).size).toBe(whole);
    }
    expect(found()).toEqual(["ab", "c", "def"]);
  });

  it("goes on after the append that was cut off", () => {
    write("ab", "c");
    truncateSync(file, statSync(file).size - 1);
    write("d");
    expect(found()).toEqual(["ab", "d"]);
  });

  it("that was cut off before its first append begins anew", () => {
    for (const bytes of [0, 1, 20]) {
      write();
      truncateSync(file, bytes);
      expect(found()).toEqual([]);
      write("a");
      expect(found()).toEqual(["a"]);
      rmSync(file);
    }
  });

  it("that is damaged before its end is refused, and left as it is", () => {
    write("ab", "c", "d");
    const bytes = readFileSync(file);
    const damaged = Buffer.from(bytes);
    const place = bytes.indexOf('"letter":"a"');
    damaged[place + 10]! ^= 1;
    writeFileSync(file, damaged);
    expect(() => found()).toThrow(expect.objectContaining({ code: "StoreCorrupt" }));
    expect(readFileSync(file).equals(damaged)).toBe(true);
    expect(existsSync(`${file}.lock`)).toBe(false);
  });

  it("is not mistaken for another file", () => {
    writeFileSync(file, "the accounts of last year, the only copy there is of them\n");
    expect(() => found()).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    expect(readFileSync(file, "utf8")).toContain("the accounts");
  });

  it("serves one server, in this process and in others; one that was killed holds nothing", () => {
    const journal = new JournalFile(file);
    expect(() => new JournalFile(file)).toThrow(expect.objectContaining({ code: "StoreUnavailable" }));
    journal.close();
    const other = spawn("sleep", ["60"]);
    writeFileSync(`${file}.lock`, String(other.pid));
    expect(() => new JournalFile(file)).toThrow(`process ${other.pid}`);
    other.kill("SIGKILL");
    return new Promise<void>((resolve) =>
      other.once("exit", () => {
        expect(found()).toEqual([]);
        resolve();
      }),
    );
  });

  it("that is full keeps what was answered, and takes what fits when there is room", () => {
    // The shell lets the process write 16 KiB: the append that does not fit is cut off in the middle.
    const { stdout, stderr } = spawnSync("bash", ["-c", 'ulimit -f 16; exec "$0" "$1" "$2"', process.execPath, join(import.meta.dirname, "full-disk-child.ts"), file], { encoding: "utf8" });
    expect({ stderr, answers: JSON.parse(stdout) as unknown }).toEqual({ stderr: "", answers: ["written", "written", "refused", "written"] });
    const journal = new JournalFile(file);
    journal.close();
    expect(journal.history.map((entry) => entry.events[0]!.data.length)).toEqual([6000, 6000, 100]);
  });
});
