/**
 * Ports for brokers. They are taken from below those that the system gives to outgoing connections: a broker that is killed gets its port back when it starts again,
 * and a client that knocks at a dead port of that range can end up connected with itself.
 */
import { once } from "node:events";
import { createServer } from "node:net";

/** Somebody listens where a broker was to listen. */
export class PortInUse extends Error {
  constructor(port: number) {
    super(`port ${port} is in use: choose another with --port`);
  }
}

const FIRST = 20_000;
const LAST = 31_999;

/** As many different ports as asked for, on which nobody listened a moment ago. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const found = new Set<number>();
  for (let attempt = 0; found.size < count; attempt++) {
    if (attempt > 1000) throw new Error(`no free ports between ${FIRST} and ${LAST}`);
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1));
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  return [...found];
}

/** Whether nobody listens there. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    server.close();
    await once(server, "close");
    return true;
  } catch {
    return false;
  }
}
