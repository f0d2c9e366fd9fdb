/**
 * The jars of a Kafka version, from Maven Central, in a cache outside the repository.
 *
 * J1 The folder of a version appears whole or not at all: Maven fills a folder of its own, which is then renamed. That alone makes two processes at once safe.
 * J2 Only one process at a time downloads a version; the others wait for its folder. The lock is a symbolic link that names the process, so it is made and
 *    labelled in one step; the lock of a process that is gone is taken away.
 * J3 Maven compares every file with its checksum and fails where they differ (--strict-checksums).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KafkaUnavailable } from "./kafka-unavailable.ts";

/** The version that is started unless another is asked for: the latest of Maven Central that was tried. */
export const DEFAULT_VERSION = "4.4.0";

const LOG4J = "2.25.3";
const RELOAD4J = "1.7.36";

/** How long a first download may take, milliseconds. */
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;

/** Whether this version still logs through log4j 1, as all before 4.0 do. */
export const logsWithLog4j1 = (version: string): boolean => Number(version.split(".")[0]) < 4;

/** The folder with the jars of a version; downloads them when they are not there. Errors: KafkaUnavailable. */
export async function kafkaJars(version: string, options: { readonly signal?: AbortSignal; readonly onDownload?: () => void } = {}): Promise<string> {
  if (!/^\d+\.\d+\.\d+$/.test(version)) throw new KafkaUnavailable(`a version of Kafka reads 4.4.0, not ${JSON.stringify(version)}`);
  const folder = folderOf(version);
  if (existsSync(folder)) return folder;
  mkdirSync(cache(), { recursive: true });
  const deadline = performance.now() + DOWNLOAD_TIMEOUT_MS;
  while (!tryLock(lockOf(version))) {
    if (performance.now() > deadline) throw new KafkaUnavailable(`another process is downloading Kafka ${version} for too long: ${lockOf(version)}`);
    await delay(100, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
  try {
    // J2: the one before us may have brought it.
    if (existsSync(folder)) return folder;
    options.onDownload?.();
    await download(version, folder, options.signal);
    return folder;
  } finally {
    rmSync(lockOf(version), { force: true });
  }
}

function cache(): string {
  const given = process.env["XDG_CACHE_HOME"];
  return join(given === undefined || given === "" ? join(homedir(), ".cache") : given, "tidemark");
}

const folderOf = (version: string): string => join(cache(), `kafka-${version}`);
const lockOf = (version: string): string => join(cache(), `kafka-${version}.lock`);

function tryLock(lock: string): boolean {
  try {
    symlinkSync(String(process.pid), lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  try {
    // J2, J1: should two processes take a lock away at once, both download, and the second rename finds the folder there.
    if (!isAlive(Number(readlinkSync(lock)))) unlinkSync(lock);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return false;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function download(version: string, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const prefix = `kafka-${version}.part-`;
  for (const name of readdirSync(cache())) {
    if (name.startsWith(prefix) && !isAlive(Number(name.slice(prefix.length).split("-")[0]))) rmSync(join(cache(), name), { recursive: true, force: true });
  }
  const part = mkdtempSync(join(cache(), `${prefix}${process.pid}-`));
  try {
    const pom = join(part, "pom.xml");
    const jars = join(part, "jars");
    writeFileSync(pom, pomOf(version));
    await maven(version, ["-q", "-B", "--strict-checksums", "-f", pom, "dependency:copy-dependencies", `-DoutputDirectory=${jars}`, "-DincludeScope=runtime"], signal);
    try {
      renameSync(jars, folder);
    } catch (error) {
      // J1: another process was first.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

async function maven(version: string, args: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const signals = [AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS), ...(signal === undefined ? [] : [signal])];
  const child = spawn("mvn", args, { stdio: ["ignore", "pipe", "pipe"], signal: AbortSignal.any(signals) });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output = (output + text).slice(-4000)));
  let code: unknown;
  try {
    [code] = (await once(child, "close")) as [unknown];
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new KafkaUnavailable(`Kafka ${version} is fetched by Maven, and there is no mvn on the PATH`, { cause });
  }
  if (code !== 0) throw new KafkaUnavailable(`Maven could not fetch Kafka ${version}: ${firstError(output)}`);
}

const firstError = (output: string): string => /\[ERROR\].*/.exec(output)?.[0] ?? output.trim().slice(0, 300);

function pomOf(version: string): string {
  const dependency = (group: string, artifact: string, of: string): string =>
    `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${of}</version></dependency>`;
  const logging = logsWithLog4j1(version)
    ? [dependency("org.slf4j", "slf4j-reload4j", RELOAD4J)]
    : ["log4j-api", "log4j-core", "log4j-slf4j-impl"].map((artifact) => dependency("org.apache.logging.log4j", artifact, LOG4J));
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>',
    "<groupId>tidemark</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging><dependencies>",
    dependency("org.apache.kafka", "kafka_2.13", version),
    ...logging,
    "</dependencies></project>",
  ].join("\n");
}
