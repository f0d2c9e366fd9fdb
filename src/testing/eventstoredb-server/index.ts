/** The entry `tidemark/testing/eventstoredb`: a server that speaks EventStoreDB's protocol, for tests of whoever uses EventStoreDB. */
export { eventStoreDbServer } from "./server.ts";
export type { EventStoreDbServer } from "./server.ts";
export { eventStoreDbServerDefaults } from "./options.ts";
export type { EventStoreDbServerOptions } from "./options.ts";
export type { User } from "./engine/access.ts";
export { eventStoreDbControl } from "./control.ts";
export type { EventStoreDbControl } from "./control.ts";
export { faultTargets } from "./faults.ts";
export type { AddedFault, Fault, FaultAction, Faults, FaultTarget } from "./faults.ts";
