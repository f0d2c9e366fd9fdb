/**
 * An archive of loaded classes beside the jars (JEP 350): with it a node starts with half the work. `npm run kafka` writes it when
 * it ends for the first time; a JVM to which it does not fit ignores it.
 */
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";

export interface ClassArchive {
  /** For every JVM that starts. */
  readonly options: readonly string[];
  /** For the one node that is to write it; empty when it is there. */
  readonly optionsToWrite: readonly string[];
  /** To be called when that node has ended in order. */
  keep(): void;
}

export function classArchive(jars: string, scratch: string): ClassArchive {
  const archive = join(jars, "classes.jsa");
  const written = join(scratch, "classes.jsa");
  const exists = existsSync(archive);
  return {
    options: exists ? [`-XX:SharedArchiveFile=${archive}`] : [],
    optionsToWrite: exists ? [] : [`-XX:ArchiveClassesAtExit=${written}`],
    keep() {
      if (!existsSync(written)) return;
      try {
        renameSync(written, archive);
      } catch (error) {
        // The cache is on another file system: a start stays slower, nothing else.
        if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
      }
    },
  };
}
