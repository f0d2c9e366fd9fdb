/** `npm run kafka`: a real Kafka in the foreground. Prints its address, and the URL of a store on it, when it serves; ends with SIGINT, SIGTERM, SIGHUP or its parent. */
import { InvalidArgumentError, program } from "commander";
import { DEFAULT_VERSION } from "./jars.ts";
import { PortInUse } from "./free-ports.ts";
import { KafkaUnavailable } from "./kafka-unavailable.ts";
import { startKafka, type KafkaCluster } from "./start-kafka.ts";

const PARENT_CHECK_MS = 250;

interface Settings {
  readonly port: number;
  readonly brokers: number;
  readonly version: string;
  readonly data?: string;
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const complain = (line: string): void => void process.stderr.write(`${line}\n`);

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > 65_535) throw new InvalidArgumentError("It must be a whole number from 1 to 65535.");
  return number;
}

async function serve({ port, brokers, version, data }: Settings): Promise<void> {
  const ending = endingSignal();
  let cluster: KafkaCluster | undefined;
  try {
    cluster = await startKafka({
      port,
      brokers,
      version,
      writesClassArchive: true,
      ...(data === undefined ? {} : { data }),
      signal: ending.signal,
      onDownload: (missing) => complain(`fetching Kafka ${missing} from Maven Central, once`),
      onUnexpectedEnd(node) {
        process.exitCode = 1;
        ending.abort(`node ${node.id} has ended by itself:\n${node.logTail()}`);
      },
    });
    if (!ending.signal.aborted) {
      print(`Kafka ${cluster.version} serves at ${cluster.brokers.join(",")}\nAs a store: kafka://${cluster.brokers.join(",")}`);
      await ending.aborted;
    }
  } catch (error) {
    if (!ending.signal.aborted) throw error;
  } finally {
    if (ending.signal.aborted) complain(`stopping: ${String(ending.signal.reason)}`);
    await cluster?.close();
    ending.release();
  }
}

/** Aborts with the reason when this process is to end. */
function endingSignal() {
  const controller = new AbortController();
  const abort = (reason: string): void => controller.abort(reason);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => abort(name));
  const parent = process.ppid;
  const check = setInterval(() => {
    if (process.ppid !== parent) abort("the process that started it is gone");
  }, PARENT_CHECK_MS);
  const aborted = new Promise<void>((resolve) => controller.signal.addEventListener("abort", () => resolve(), { once: true }));
  return { signal: controller.signal, abort, aborted, release: () => clearInterval(check) };
}

program
  .name("npm run kafka --")
  .description("A real Kafka in the foreground (KRaft, from Maven Central, needs Java 17). Without --data it keeps nothing.")
  .option("--port <number>", "port of the first broker; the others follow", wholeNumber, 9092)
  .option("--brokers <number>", "how many; 3 gives replication factor 3 and min.insync.replicas 2", wholeNumber, 1)
  .option("--version <version>", "version of Kafka", DEFAULT_VERSION)
  .option("--data <folder>", "keeps the data there")
  .addHelpText("after", "\nPrints the URL of the store when it serves: openStore(url), tidemark({ store: url }), npm start -- --store URL.\nMore: docs/kafka.md")
  .action(async (settings: Settings) => {
    try {
      await serve(settings);
    } catch (error) {
      if (error instanceof KafkaUnavailable) complain(`${error.message}\nWithout Java and Maven: docker compose -f docs/kafka/compose.yaml up`);
      else if (error instanceof PortInUse) complain(error.message);
      else throw error;
      process.exitCode = 1;
    }
  });
await program.parseAsync();
