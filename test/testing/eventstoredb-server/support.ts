/** An engine without a protocol, in manual time. */
import { Engine, type EngineOptions } from "../../../src/testing/eventstoredb-server/engine/engine.ts";
import type { ProposedEvent } from "../../../src/testing/eventstoredb-server/engine/model.ts";
import { manualEnvironment } from "../../../src/testing/manual-environment.ts";

export function engineInManualTime(options: Partial<EngineOptions> = {}) {
  const { clock, random } = manualEnvironment();
  const engine = new Engine({ clock, random, knownIdsBytes: 1024 * 1024, ...options });
  return { engine, clock };
}

/** Its id is told by the letter, so that the same letter is the same event. */
export function event(letter: string, { type = "Tested", data = JSON.stringify({ letter }) } = {}): ProposedEvent {
  const id = `00000000-0000-4000-8000-${letter.codePointAt(0)!.toString(16).padStart(12, "0")}`;
  return { id, type, isJson: true, data: Buffer.from(data), metadata: Buffer.alloc(0) };
}

export function events(letters: string): ProposedEvent[] {
  return letters.split("").map((letter) => event(letter));
}

export function lettersOf(recorded: Iterable<{ readonly id: string } | undefined>): string {
  return [...recorded].map((one) => (one === undefined ? "?" : String.fromCodePoint(Number.parseInt(one.id.slice(24), 16)))).join("");
}
