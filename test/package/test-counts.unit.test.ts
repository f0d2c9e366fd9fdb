import { describe, expect, it } from "vitest";
import { countTests, type Report } from "../../scripts/test-counts.ts";

const report = (passed: number, failed: number, pending: number, todo: number, files: Report["testResults"]): Report => ({
  numPassedTests: passed,
  numFailedTests: failed,
  numPendingTests: pending,
  numTodoTests: todo,
  testResults: files,
});

const file = (status: string, ...tests: string[]): Report["testResults"][number] => ({ status, assertionResults: tests.map((test) => ({ status: test })) });

describe("the closing line of the tests", () => {
  it("counts what passed, what failed, and what was skipped or is still to be written", () => {
    expect(countTests(report(2, 1, 3, 4, [file("failed", "passed", "failed"), file("passed", "passed")]), false)).toEqual({ passed: 2, failed: 1, skipped: 7 });
  });

  it("counts a file that could not be loaded, or whose hook failed, as one failure each", () => {
    expect(countTests(report(1, 0, 1, 0, [file("failed"), file("failed", "skipped"), file("passed", "passed")]), false)).toEqual({ passed: 1, failed: 2, skipped: 1 });
  });

  it("counts a run that ended badly although every test passed as one failure", () => {
    expect(countTests(report(1, 0, 0, 0, [file("passed", "passed")]), false)).toEqual({ passed: 1, failed: 1, skipped: 0 });
  });

  it("counts a run without a report as one failure, however it ended", () => {
    expect(countTests(undefined, true)).toEqual({ passed: 0, failed: 1, skipped: 0 });
  });

  it("counts no failure where there was none", () => {
    expect(countTests(report(1, 0, 0, 0, [file("passed", "passed")]), true)).toEqual({ passed: 1, failed: 0, skipped: 0 });
  });
});
