/** What a process says before it sends a command again: killed in the middle, it says nothing of how that ended. */
export interface Repeat {
  readonly again: { readonly stream: string; readonly commandId: string };
}

/** What a process says of each call, a line each: when it began and ended, by the machine's one monotonic clock, and what it was told. */
export interface CallRecord {
  /** Nanoseconds. */
  readonly begun: number;
  readonly ended: number;
  readonly stream: string;
  readonly call: "deposit" | "withdraw" | "settle" | "state" | "read";
  readonly commandId?: string;
  readonly amount?: number;
  readonly answer:
    | { readonly kind: "accepted"; readonly version: number; readonly events: number }
    | { readonly kind: "rejected"; readonly version: number; readonly balance: number }
    | { readonly kind: "state"; readonly version: number; readonly balance: number }
    /** A read that carried the token of `wanted`: the row that it saw. */
    | { readonly kind: "row"; readonly wanted: number; readonly version: number; readonly balance: number }
    | { readonly kind: "error"; readonly code: string };
}
