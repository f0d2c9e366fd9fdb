/** The Kafka store holds the contract of event stores, on a real broker. */
import { afterAll, beforeAll, describe, it } from "vitest";
import { eventStoreContract, type OpenedStore } from "../../../src/testing/index.ts";
import { kafkaAvailable, sharedKafka } from "../../support/kafka.ts";
import { deleteTopics, kafkaStores } from "./kafka-stores.ts";

let brokers: readonly string[];
const prefixes: string[] = [];

describe.skipIf(!kafkaAvailable)("on a real broker", () => {
  beforeAll(async () => {
    brokers = await sharedKafka();
  }, 60_000);

  afterAll(() => deleteTopics(brokers, ...prefixes), 60_000);

  eventStoreContract(
    {
      name: "Kafka",
      async open(): Promise<OpenedStore> {
        const { prefix, open, reset, close } = kafkaStores(brokers, { partitions: 2 });
        prefixes.push(prefix);
        const store = open();
        return {
          store,
          another: async () => open(),
          async reopen() {
            await store.close();
            return open();
          },
          reset,
          dispose: close,
        };
      },
    },
    { describe, it },
  );
});
