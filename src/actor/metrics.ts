/** Counters of one app since it was opened, and gauges of this moment. */
export interface Metrics {
  readonly commandsAccepted: number;
  readonly commandsRejected: number;
  /** Calls that ended with an error. */
  readonly commandsFailed: number;
  /** Answers given from the window of command ids. */
  readonly duplicates: number;
  readonly eventsAppended: number;
  readonly appends: number;
  /** Round trips to the store with appends in them. */
  readonly groups: number;
  readonly conflicts: number;
  readonly unknownOutcomes: number;
  /** Reads that confirmed the version of answers that append nothing. */
  readonly confirmations: number;
  readonly hydrations: number;
  /** Events folded by hydrations. */
  readonly eventsReplayed: number;
  readonly snapshotsUsed: number;
  /** Snapshots that were damaged, of another schema version, or not of this stream's past: replayed instead. */
  readonly snapshotsIgnored: number;
  readonly snapshotsSaved: number;
  readonly snapshotsFailed: number;
  readonly passivations: number;
  readonly residentActors: number;
  /** Estimated. */
  readonly residentBytes: number;
  /** Commands without an answer. */
  readonly waitingCommands: number;
}

/** The counters of `Metrics`, to be counted up. */
export type Counters = { -readonly [K in Exclude<keyof Metrics, "commandsFailed" | "residentActors" | "residentBytes" | "waitingCommands">]: number };

export function newCounters(): Counters {
  return {
    commandsAccepted: 0,
    commandsRejected: 0,
    duplicates: 0,
    eventsAppended: 0,
    appends: 0,
    groups: 0,
    conflicts: 0,
    unknownOutcomes: 0,
    confirmations: 0,
    hydrations: 0,
    eventsReplayed: 0,
    snapshotsUsed: 0,
    snapshotsIgnored: 0,
    snapshotsSaved: 0,
    snapshotsFailed: 0,
    passivations: 0,
  };
}
