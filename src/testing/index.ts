/** The entry `tidemark/testing`: for tests of domains and services, and for authors of backends. */
export { given } from "./given.ts";
export type { Given, GivenEvent, GivenOptions, GivenOutcome, GivenRejection, Then, WhenInput } from "./given.ts";
export { manualClock, manualEnvironment, recordingLogger, seededRandom } from "./manual-environment.ts";
export type { LogLine, ManualClock } from "./manual-environment.ts";
export { eventStoreCases, eventStoreContract } from "./store-contract.ts";
export type { OpenedStore, StoreCase, StoreContractApi, StoreHarness, StoreNeed } from "./store-contract.ts";
export { snapshotStoreCases, snapshotStoreContract } from "./store-contract-snapshots.ts";
export type { OpenedSnapshots, SnapshotCase, SnapshotHarness } from "./store-contract-snapshots.ts";
export { testApp } from "./test-app.ts";
export type { TestApp, TestAppOptions } from "./test-app.ts";
export { viewStoreCases, viewStoreContract } from "./view-store-contract.ts";
export type { OpenedViews, ViewStoreCase, ViewStoreHarness } from "./view-store-contract.ts";
export { describeSimulation, minimiseSimulation, simulate } from "./simulator/simulate.ts";
export { simulationDefaults } from "./simulator/simulation-options.ts";
export type { SimulationOptions, SimulationReport } from "./simulator/simulation-options.ts";
export type { Violation } from "./simulator/checker.ts";
export type { Draws } from "./simulator/draws.ts";
export type { Wish, Workload } from "./simulator/workload.ts";
