/**
 * The Kafka that all test files of a run share: started by the process of the run when the first of them asks for it, so that a run that needs none pays nothing,
 * and stopped when the run ends. They ask over a local socket; the answer is one line of JSON.
 */
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { KafkaCluster } from "../../scripts/kafka/start-kafka.ts";

export interface Door {
  readonly port: number;
  close(): Promise<void>;
}

interface Answer {
  readonly brokers?: readonly string[];
  readonly error?: string;
}

/** Opens the door; `start` is called at most once. */
export async function openDoor(start: () => Promise<KafkaCluster>): Promise<Door> {
  let cluster: Promise<KafkaCluster> | undefined;
  const answer = async (): Promise<Answer> => {
    try {
      return { brokers: (await (cluster ??= start())).brokers };
    } catch (error) {
      return { error: (error as Error).message };
    }
  };
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    void answer().then((given) => socket.end(JSON.stringify(given)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close();
      await (await cluster?.catch(() => undefined))?.close();
    },
  };
}

/** The addresses of the shared Kafka. */
export async function knock(port: number): Promise<readonly string[]> {
  const { brokers, error } = JSON.parse(await text(connect(port, "127.0.0.1"))) as Answer;
  if (brokers === undefined) throw new Error(error ?? "the run has no Kafka");
  return brokers;
}
