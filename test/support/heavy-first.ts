/** The order in which files begin: those that take longest first, so that no worker waits for the other at the end. A machine that has run them before knows no better. */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** From about ten seconds on, longest first. */
const HEAVY = [
  "test/package/packed.int.test.ts",
  "examples/orders/page.int.test.ts",
  "test/scripts/kafka.int.test.ts",
  "examples/orders/import/import.int.test.ts",
  "test/simulator/simulate.int.test.ts",
  "test/simulator/mutants.int.test.ts",
  "test/store/sqlite/kill.int.test.ts",
  "test/store/kafka/attacks/processes.int.test.ts",
  "test/store/postgres/faults.int.test.ts",
  "test/store/eventstoredb/faults.int.test.ts",
  "test/store/postgres/contract.int.test.ts",
  "test/store/postgres/writers.int.test.ts",
  "test/store/postgres/services.int.test.ts",
  "test/store/postgres/owners.int.test.ts",
  "test/store/kafka/contract.int.test.ts",
  "test/store/eventstoredb/contract.int.test.ts",
  "test/store/kafka/compacted.int.test.ts",
  "test/store/postgres/soak.int.test.ts",
  "test/soak/processes.int.test.ts",
  "test/store/postgres/server.int.test.ts",
  "examples/orders/main.int.test.ts",
  "test/store/postgres/sql-views.int.test.ts",
  "test/store/postgres/partitions.int.test.ts",
  "test/app/kill.int.test.ts",
  "test/store/eventstoredb/soak.int.test.ts",
  "test/store/eventstoredb/app.int.test.ts",
  "test/store/kafka/orders.int.test.ts",
  "test/store/eventstoredb/processes.int.test.ts",
  "test/store/postgres/shards.int.test.ts",
  "test/store/kafka/security.int.test.ts",
];

export class HeavyFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const place = ({ moduleId }: TestSpecification): number => {
      const found = HEAVY.findIndex((file) => moduleId.endsWith(file));
      return found < 0 ? HEAVY.length : found;
    };
    return sorted.toSorted((a, b) => place(a) - place(b));
  }
}
