/** Runs once before all tests: finds the components and says which are missing. */
import type { TestProject } from "vitest/node";
import { findComponents, missingComponents } from "./components.ts";

export async function setup(project: TestProject): Promise<void> {
  const components = await findComponents(process.env);
  for (const line of missingComponents(components, process.env)) process.stdout.write(`${line}\n`);
  project.provide("components", components);
}
