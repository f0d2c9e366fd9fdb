/** Options from a URL: `kafka://user:password@host:9092,host2:9092/?topicPrefix=orders&sasl=scram-sha-512&tls=true`. */
import { InvalidArgument } from "../../errors.ts";
import type { KafkaStoreOptions } from "./kafka-options.ts";

const MECHANISMS = ["plain", "scram-sha-256", "scram-sha-512"] as const;

/** `target`: between the scheme and the question mark. What the options may be is checked where they are used. Errors: InvalidArgument, which never shows a password. */
export function kafkaUrlOptions(target: string, parameters: ReadonlyMap<string, string>): KafkaStoreOptions {
  const match = /^\/\/(?:([^@/]*)@)?([^@/]+)\/?$/.exec(target);
  if (match === null) throw new InvalidArgument("a kafka: URL names brokers: kafka://host:9092,host2:9092/?topicPrefix=orders");
  const sasl = saslOf(match[1], parameters.get("sasl"));
  const tls = parameters.get("tls");
  if (tls !== undefined && tls !== "true" && tls !== "false") throw new InvalidArgument("the parameter tls of a kafka: URL is true or false", { details: { tls } });
  const text = <K extends "topicPrefix" | "clientId" | "owner" | "index">(name: K): Partial<Record<K, string>> => given(name, parameters.get(name));
  const whole = <K extends "partitions" | "replicationFactor" | "minInsyncReplicas" | "maxMessageBytes" | "minHoldMs" | "requestTimeoutMs" | "appendTimeoutMs">(name: K): Partial<Record<K, number>> => {
    const value = parameters.get(name);
    return given(name, value === undefined || value === "" ? (value as undefined) : Number(value));
  };
  return {
    brokers: (match[2] as string).split(",").map((broker) => (broker.includes(":") ? broker : `${broker}:9092`)),
    ...text("topicPrefix"),
    ...text("clientId"),
    ...text("owner"),
    ...text("index"),
    ...whole("partitions"),
    ...whole("replicationFactor"),
    ...whole("minInsyncReplicas"),
    ...whole("maxMessageBytes"),
    ...whole("minHoldMs"),
    ...whole("requestTimeoutMs"),
    ...whole("appendTimeoutMs"),
    ...given("claimOnly", parameters.get("claimOnly")?.split(",")),
    ...given("ssl", tls === undefined ? undefined : tls === "true"),
    ...given("sasl", sasl),
  };
}

function saslOf(credentials: string | undefined, mechanism: string | undefined): KafkaStoreOptions["sasl"] {
  if (credentials === undefined && mechanism === undefined) return undefined;
  const known = MECHANISMS.find((name) => name === mechanism);
  const colon = credentials?.indexOf(":") ?? -1;
  if (known === undefined || credentials === undefined || colon < 0) {
    throw new InvalidArgument(`a kafka: URL with a user has user:password before the brokers and names how to log in: sasl=${MECHANISMS.join(" or sasl=")}`);
  }
  try {
    return { mechanism: known, username: decodeURIComponent(credentials.slice(0, colon)), password: decodeURIComponent(credentials.slice(colon + 1)) } as NonNullable<KafkaStoreOptions["sasl"]>;
  } catch {
    throw new InvalidArgument("user and password of a kafka: URL are percent-encoded");
  }
}

function given<K extends string, V>(name: K, value: V | undefined): Partial<Record<K, V>> {
  return (value === undefined ? {} : { [name]: value }) as Partial<Record<K, V>>;
}
