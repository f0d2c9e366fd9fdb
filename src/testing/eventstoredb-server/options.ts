import type { Environment } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import type { User } from "./engine/access.ts";

export interface EventStoreDbServerOptions {
  /** Where it listens. */
  readonly host?: string;
  /** 0: any free port. */
  readonly port?: number;
  /** Keeps the log on a file, so that it outlives the process; default: in memory. */
  readonly file?: string;
  /** Asks for names and passwords and holds to the access lists of streams; default: everybody may do everything, as with `--insecure`. */
  readonly users?: readonly User[];
  /** Certificate and key, both PEM. The client sends passwords only over TLS. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  /** Most bytes of one append. */
  readonly maxAppendBytes?: number;
  /** How long the frames of one append may take to arrive, milliseconds. */
  readonly writeTimeoutMs?: number;
  /** Bytes of recent event ids that appends with `any` are deduplicated by. */
  readonly knownIdsBytes?: number;
  /** False: a server from before 21.10, without BatchAppend. */
  readonly batchAppend?: boolean;
  /** What it says its version is. */
  readonly version?: string;
  /** Where gossip says it is, where that is not where it listens. */
  readonly advertise?: { readonly host: string; readonly port: number };
  readonly environment?: Partial<Environment>;
}

export const eventStoreDbServerDefaults = {
  host: "127.0.0.1",
  port: 0,
  maxAppendBytes: 1024 * 1024,
  writeTimeoutMs: 2000,
  knownIdsBytes: 8 * 1024 * 1024,
  batchAppend: true,
  version: "24.10.0",
} as const;

/** Errors: InvalidArgument, which names the option. */
export function checkedOptions(options: EventStoreDbServerOptions): EventStoreDbServerOptions & Required<Pick<EventStoreDbServerOptions, keyof typeof eventStoreDbServerDefaults>> {
  const checked = { ...eventStoreDbServerDefaults, ...options };
  if (!Number.isInteger(checked.port) || checked.port < 0 || checked.port > 65_535) throw new InvalidArgument("the option port is a whole number from 0 to 65535");
  for (const name of ["maxAppendBytes", "writeTimeoutMs", "knownIdsBytes"] as const) {
    if (!Number.isInteger(checked[name]) || checked[name] < 1) throw new InvalidArgument(`the option ${name} is a whole number, at least 1`);
  }
  for (const { name, password } of checked.users ?? []) {
    if (typeof name !== "string" || name === "" || name.includes(":") || typeof password !== "string") throw new InvalidArgument("the option users holds names without a colon, and passwords");
  }
  return checked;
}
