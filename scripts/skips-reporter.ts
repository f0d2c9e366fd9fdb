/** Prints, at the end of a run, which cases were skipped and why: those that a store cannot do by its own declaration. */
import type { Reporter, TestModule } from "vitest/node";

export default class SkipsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    for (const module of modules) {
      for (const test of module.children.allTests("skipped")) {
        const { note } = test.result() as { note?: string };
        if (note !== undefined) process.stdout.write(`skipped: ${test.fullName}: ${note}\n`);
      }
    }
  }
}
