/** What a node reads when it starts: its properties and the settings of its log. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { logsWithLog4j1 } from "./jars.ts";

export interface NodePlan {
  readonly id: number;
  readonly version: string;
  readonly folder: string;
  readonly port: number;
  readonly controllerPort: number;
  /** The controllers' ports of all nodes, by node id from 1. */
  readonly controllerPorts: readonly number[];
  readonly overrides: Readonly<Record<string, string>>;
}

/** The protocol of the listener for clients can be overridden; this is its name. */
const CLIENTS = "CLIENTS";

/** Writes the files and returns the path of the properties and the option of the JVM that names the log's settings. */
export function writeNodeFiles(plan: NodePlan): { readonly properties: string; readonly logOption: string } {
  mkdirSync(plan.folder, { recursive: true });
  const properties = join(plan.folder, "server.properties");
  const lines = Object.entries({ ...propertiesOf(plan), ...plan.overrides }).map(([name, value]) => `${name}=${value.replaceAll("\\", "\\\\")}`);
  writeFileSync(properties, `${lines.join("\n")}\n`);
  if (logsWithLog4j1(plan.version)) {
    const file = join(plan.folder, "log4j.properties");
    writeFileSync(file, "log4j.rootLogger=WARN, OUT\nlog4j.appender.OUT=org.apache.log4j.ConsoleAppender\nlog4j.appender.OUT.layout=org.apache.log4j.PatternLayout\nlog4j.appender.OUT.layout.ConversionPattern=%d %p %m (%c)%n\n");
    return { properties, logOption: `-Dlog4j.configuration=file:${file}` };
  }
  const file = join(plan.folder, "log4j2.yaml");
  writeFileSync(file, 'Configuration:\n  Appenders:\n    Console:\n      name: OUT\n      PatternLayout: { pattern: "%d %p %m (%c)%n" }\n  Loggers:\n    Root: { level: WARN, AppenderRef: [{ ref: OUT }] }\n');
  return { properties, logOption: `-Dlog4j2.configurationFile=${file}` };
}

function propertiesOf({ id, folder, port, controllerPort, controllerPorts }: NodePlan): Record<string, string> {
  const nodes = controllerPorts.length;
  const replicas = String(nodes);
  // One of three may be missing.
  const inSync = String(Math.max(1, nodes - 1));
  return {
    "process.roles": "broker,controller",
    "node.id": String(id),
    "controller.quorum.voters": controllerPorts.map((at, index) => `${index + 1}@127.0.0.1:${at}`).join(","),
    "controller.listener.names": "CONTROLLER",
    listeners: `${CLIENTS}://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    "advertised.listeners": `${CLIENTS}://127.0.0.1:${port}`,
    "listener.security.protocol.map": `${CLIENTS}:PLAINTEXT,CONTROLLER:PLAINTEXT`,
    "inter.broker.listener.name": CLIENTS,
    "log.dirs": join(folder, "log"),
    "auto.create.topics.enable": "false",
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
  };
}
