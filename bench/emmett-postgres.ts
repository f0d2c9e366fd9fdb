/** The account of the benchmarks on Emmett's PostgreSQL event store, and how soon a consumer of it is told of an append. */
import { CommandHandler, type Event } from "@event-driven-io/emmett";
import { getPostgreSQLEventStore, postgreSQLEventStoreConsumer } from "@event-driven-io/emmett-postgresql";
import type { AccountState, Movement } from "./account.ts";

type AccountEvent = Event<"Deposited", Movement>;

const handle = CommandHandler<AccountState, AccountEvent>({
  initialState: () => ({ balance: 0, movements: 0, largest: 0 }),
  evolve: (account, { data }) => ({ balance: account.balance + data.amount, movements: account.movements + 1, largest: Math.max(account.largest, data.amount) }),
});

export interface EmmettOnPostgres {
  /** Throws when the command fails. */
  deposit(id: string, input: Movement): Promise<void>;
  /** Milliseconds from each acknowledged append to the call of the handler. */
  delays(samples: number): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** Makes its tables in the database at once. */
export async function emmettOnPostgres(url: string): Promise<EmmettOnPostgres> {
  const store = getPostgreSQLEventStore(url);
  await store.schema.migrate();
  const deposit = async (id: string, input: Movement): Promise<void> => {
    await handle(store, `account-${id}`, () => {
      if (input.amount <= 0) throw new RangeError("not-positive");
      return { type: "Deposited", data: input };
    });
  };
  return {
    deposit,
    async delays(samples) {
      let arrived: (id: string) => void = () => undefined;
      const consumer = postgreSQLEventStoreConsumer<AccountEvent>({ connectionString: url });
      consumer.reactor<AccountEvent>({
        processorId: "bench",
        startFrom: "END",
        eachMessage: (event) => arrived(event.data.reference),
      });
      const running = consumer.start();
      try {
        const delays: number[] = [];
        for (let index = -5; index < samples; index++) {
          const reference = `visible ${index}`;
          let seenAt = 0;
          const seen = new Promise<void>((resolve) => {
            arrived = (id) => {
              if (id !== reference) return;
              seenAt = performance.now();
              resolve();
            };
          });
          // The first ones may be appended before the consumer stands: they are sent until one is seen.
          if (index < 0) {
            for (let tries = 0; seenAt === 0; tries++) {
              await deposit(`visible-${index}-${tries}-${Date.now()}`, { amount: 1, reference });
              await Promise.race([seen, new Promise((resolve) => setTimeout(resolve, 500))]);
            }
            continue;
          }
          await deposit(`visible-${index}-${Date.now()}`, { amount: 1, reference });
          const acknowledged = performance.now();
          await seen;
          delays.push(Math.max(0, seenAt - acknowledged));
        }
        return delays;
      } finally {
        await consumer.stop();
        await consumer.close();
        await running.catch(() => undefined);
      }
    },
    close: () => store.close(),
  };
}
