/**
 * The rights that a service needs on a cluster with an authorizer, as few as do. One principal writes the topics of a store: whoever else may write to them, or use their
 * transactional ids, can stop the service.
 */
import { InvalidArgument } from "../../errors.ts";
import { assertCategory } from "../stream-name.ts";
import { checkOptions } from "./kafka-options.ts";
import { eventsTopic, snapshotsTopic, storeTopic } from "./topics.ts";

export interface KafkaAclOptions {
  /** As of the store. */
  readonly topicPrefix: string;
  /** Who: `User:orders`. */
  readonly principal: string;
  /** Only these categories; default everything under the prefix, published states included. */
  readonly categories?: readonly string[];
  /** Read events, snapshots and states, and write nothing. */
  readonly readOnly?: boolean;
}

export interface KafkaAcl {
  readonly resource: "topic" | "transactional-id";
  readonly pattern: "literal" | "prefixed";
  readonly name: string;
  /** As `kafka-acls` names them. */
  readonly operations: readonly string[];
}

/** Kafka grants Describe with Read and Write. */
const READS = ["Read", "DescribeConfigs"];
const WRITES = ["Read", "Write", "Create", "DescribeConfigs"];

/** Errors: InvalidArgument. */
export function kafkaAcls({ topicPrefix, principal, categories, readOnly = false }: KafkaAclOptions): readonly KafkaAcl[] {
  // The store's own check of the prefix.
  checkOptions({ brokers: ["localhost:9092"], topicPrefix });
  if (!/^[A-Za-z]+:[^\s'"]+$/.test(principal)) throw new InvalidArgument(`a principal is written User:orders, not ${JSON.stringify(principal).slice(0, 80)}`, { details: { option: "principal" } });
  const operations = readOnly ? READS : WRITES;
  if (categories === undefined) {
    // With the dot: `shop.` does not match the topics of `shop2`.
    const everything: KafkaAcl = { resource: "topic", pattern: "prefixed", name: `${topicPrefix}.`, operations };
    return readOnly ? [everything] : [everything, transactionalIds(`${topicPrefix}.`)];
  }
  for (const category of categories) assertCategory(category);
  const topics = [storeTopic(topicPrefix), ...categories.flatMap((category) => [eventsTopic(topicPrefix, category), snapshotsTopic(topicPrefix, category)])];
  return [
    ...topics.map((name): KafkaAcl => ({ resource: "topic", pattern: "literal", name, operations })),
    ...(readOnly ? [] : categories.map((category) => transactionalIds(`${eventsTopic(topicPrefix, category)}.`))),
  ];
}

/** One for each partition: `<topic>.<partition>`. */
const transactionalIds = (name: string): KafkaAcl => ({ resource: "transactional-id", pattern: "prefixed", name, operations: ["Write"] });

/** The commands that grant them, for a shell: Kafka's own tool. */
export function kafkaAclCommands(options: KafkaAclOptions, bootstrapServer: string): readonly string[] {
  if (!/^[^\s'"]+$/.test(bootstrapServer)) throw new InvalidArgument("a bootstrap server is written host:9092", { details: { option: "bootstrap-server" } });
  return kafkaAcls(options).map(({ resource, pattern, name, operations }) =>
    [
      `kafka-acls.sh --bootstrap-server ${bootstrapServer} --add --allow-principal '${options.principal}'`,
      ...operations.map((operation) => `--operation ${operation}`),
      `--resource-pattern-type ${pattern} --${resource} '${name}'`,
    ].join(" "),
  );
}
