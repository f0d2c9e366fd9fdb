import { describe, it } from "vitest";
import { eventStoreContract } from "../../../src/testing/store-contract.ts";
import { memoryHarness } from "./memory-harness.ts";

eventStoreContract(memoryHarness(), { describe, it });
