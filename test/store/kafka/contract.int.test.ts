/** The Kafka store holds the contract of event stores, on a real broker. */
import { beforeAll, describe, it } from "vitest";
import { eventStoreContract, type OpenedStore } from "../../../src/testing/index.ts";
import { kafkaAvailable, sharedKafka } from "../../support/kafka.ts";
import { kafkaStores } from "./kafka-stores.ts";

let brokers: readonly string[];

describe.skipIf(!kafkaAvailable)("on a real broker", () => {
  beforeAll(async () => {
    brokers = await sharedKafka();
  }, 60_000);

  eventStoreContract(
    {
      name: "Kafka",
      async open(): Promise<OpenedStore> {
        const { open, reset, dispose } = kafkaStores(brokers);
        const store = open();
        return {
          store,
          another: async () => open(),
          async reopen() {
            await store.close();
            return open();
          },
          reset,
          dispose,
        };
      },
    },
    { describe, it },
  );
});
