/** Runs once before all tests: finds the components, says which are missing, and opens the door to the Kafka that the files share. */
import type { TestProject } from "vitest/node";
import { findComponents, missingComponents } from "./components.ts";
import { openDoor } from "./kafka-door.ts";

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const components = await findComponents(process.env);
  for (const line of missingComponents(components, process.env)) process.stdout.write(`${line}\n`);
  project.provide("components", components);
  const door = await openDoor(async () => {
    const { QUICK_JVM, startKafka } = await import("../../scripts/kafka/start-kafka.ts");
    // Tests that wait for a compaction wait less.
    return startKafka({ jvmOptions: QUICK_JVM, overrides: { "log.cleaner.backoff.ms": "200" } });
  });
  project.provide("kafkaDoor", door.port);
  return () => door.close();
}
