import type { CallOptions, UntypedResult } from "./app.ts";

/** A command on its way in. */
export interface CommandCall {
  readonly category: string;
  readonly id: string;
  readonly stream: string;
  readonly command: string;
  /** As the caller gave it, not yet parsed. */
  readonly input: unknown;
  readonly options: CallOptions;
}

/** One function around every command: call `next` with the same or other input and options, look at its answer, or throw instead. */
export type CommandMiddleware = (call: CommandCall, next: (change?: { readonly input?: unknown; readonly options?: CallOptions }) => Promise<UntypedResult>) => Promise<UntypedResult>;
