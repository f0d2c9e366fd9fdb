/** Processes with the Kafka store on a model of Kafka, in the simulator. More of it: `npm run soak -- --kafka-seeds 1000`, and `--kafka-mutants`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { systemRandom } from "../../../../src/environment.ts";
import { describeSimulation } from "../../../../src/testing/simulator/simulate.ts";
import { brokerMutants, kafkaMutants } from "../../../soak/kafka-mutants.ts";
import { patched } from "../../../soak/mutants.ts";
import { LEAST } from "../../../soak/results.ts";
import { kafkaFaults } from "./simulated-kafka.ts";
import { simulateKafka } from "./kafka-stage.ts";

const SEEDS = 20;
const root = join(import.meta.dirname, "../../../..");

describe("processes on the Kafka store, simulated", () => {
  const first = Math.floor(systemRandom.next() * 1_000_000);
  const seeds = Array.from({ length: SEEDS }, (_, index) => (index < SEEDS / 2 ? index + 1 : first + index));

  it("keep the invariants whatever brokers, coordinator, network and processes do", { timeout: 60_000 }, async () => {
    const seen = new Set<string>();
    for (const seed of seeds) {
      const report = await simulateKafka(seed);
      expect(report.violations, describeSimulation(report)).toEqual([]);
      expect(report.commands).toBeGreaterThanOrEqual(LEAST.commands);
      expect(report.faults).toBeGreaterThanOrEqual(LEAST.faults);
      expect(report.tokenisedReads).toBeGreaterThanOrEqual(LEAST.tokenisedReads);
      for (const what of Object.keys(report.coverage)) seen.add(what);
    }
    for (const fault of [...kafkaFaults.armed, ...kafkaFaults.timed]) expect(seen).toContain(`fault ${fault}`);
  });

  it("do the same again for the same seed", async () => {
    const [one, two] = [await simulateKafka(3), await simulateKafka(3)];
    expect(one.history).toEqual(two.history);
  });

  it("are given mutants that fit the sources, each once", () => {
    for (const mutant of [...kafkaMutants, ...brokerMutants]) {
      const source = readFileSync(join(root, mutant.file), "utf8");
      expect(patched(mutant, source)).not.toBe(source);
    }
  });
});
