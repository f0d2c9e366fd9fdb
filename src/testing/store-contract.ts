/**
 * What every event store must do, as cases that run without a test framework; `eventStoreContract` hands them to one.
 * The memory store passes the same cases as every other backend. A case is skipped only where the store declares that it cannot, and says so.
 */
import { appendCases } from "./store-contract-appends.ts";
import { dataCases } from "./store-contract-data.ts";
import { lifeCases } from "./store-contract-life.ts";
import { logCases } from "./store-contract-log.ts";
import type { StoreCase, StoreHarness } from "./store-contract-support.ts";

export type { OpenedStore, StoreCase, StoreHarness, StoreNeed } from "./store-contract-support.ts";

/** The part of a test framework that the contract needs; Vitest and node:test fit. */
export interface StoreContractApi {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: (context: { skip(note?: string): unknown }) => Promise<void>): unknown;
}

/** All cases of the contract of event stores. */
export const eventStoreCases: readonly StoreCase[] = [...appendCases, ...dataCases, ...logCases, ...lifeCases];

/** Registers every case with `describe` and `it`; a case that the store cannot do is skipped with its reason. */
export function eventStoreContract(harness: StoreHarness, api: StoreContractApi): void {
  api.describe(`the contract of event stores, held by ${harness.name}`, () => {
    for (const contractCase of eventStoreCases) {
      api.it(contractCase.name, async (context) => {
        const result = await contractCase.run(harness);
        if (result !== undefined) context.skip(result.skipped);
      });
    }
  });
}
