/**
 * One taxonomy for everything that can go wrong. Match on `code`, never on the class or the message.
 * A domain rejection is a value of the domain; `DomainRejection` exists for those who like exceptions.
 */

/** Fields that say where it happened; a subclass adds what else it knows. */
export interface ErrorDetails {
  readonly stream?: string;
  readonly version?: number;
  readonly expected?: number | string;
  readonly actual?: number;
  readonly [field: string]: unknown;
}

export interface TidemarkErrorOptions {
  readonly details?: ErrorDetails;
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** The base of all errors of Tidemark: a literal `code`, whether a retry can help, and structured `details`. */
export abstract class TidemarkError extends Error {
  abstract readonly code: string;
  /** True when the same call may succeed later; with the same `commandId` it is safe to repeat. */
  readonly retryable: boolean;
  readonly details: ErrorDetails;

  constructor(message: string, options: TidemarkErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryable = options.retryable ?? false;
    this.details = options.details ?? {};
  }

  override get name(): string {
    return this.code;
  }

  toJSON(): { code: string; message: string; retryable: boolean; details: ErrorDetails } {
    return { code: this.code, message: this.message, retryable: this.retryable, details: this.details };
  }
}

/** Narrows an unknown error to one of ours, by code when one is given. */
export function isTidemarkError(error: unknown, code?: string): error is TidemarkError {
  return error instanceof TidemarkError && (code === undefined || error.code === code);
}

// ---- what a caller passed in

/** An argument, option or name is not allowed; the message names it and its limit. */
export class InvalidArgument extends TidemarkError {
  readonly code = "InvalidArgument";
}

/** A command's input did not pass its schema; `issues` lists why. It never reached the mailbox. */
export class InvalidInput extends TidemarkError {
  readonly code = "InvalidInput";
  readonly issues: readonly { readonly message: string; readonly path: string }[];
  constructor(message: string, issues: readonly { message: string; path: string }[], options?: TidemarkErrorOptions) {
    super(message, options);
    this.issues = issues;
  }

  override toJSON(): ReturnType<TidemarkError["toJSON"]> {
    return { ...super.toJSON(), details: { ...this.details, issues: this.issues } };
  }
}

/** Data cannot be written as JSON without loss. */
export class UnserialisableData extends TidemarkError {
  readonly code = "UnserialisableData";
}

/** One append is larger than the store takes. */
export class AppendTooLarge extends TidemarkError {
  readonly code = "AppendTooLarge";
}

/** The aggregate is not part of this app, or has no such command. */
export class UnknownCommand extends TidemarkError {
  readonly code = "UnknownCommand";
}

/** A domain rejection, thrown by `accepted(result)`. */
export class DomainRejection extends TidemarkError {
  readonly code = "DomainRejection";
  /** The rejection's own code and details, as the command returned them. */
  readonly rejection: { readonly code: string; readonly details: unknown };
  constructor(rejection: { code: string; details?: unknown }, options?: TidemarkErrorOptions) {
    super(`the command was rejected: ${rejection.code}`, options);
    this.rejection = { code: rejection.code, details: rejection.details };
  }
}

// ---- commands and actors

/** The mailbox of this stream holds `capacity` commands already; nothing was decided. Retry later. */
export class MailboxFull extends TidemarkError {
  readonly code = "MailboxFull";
}

/** The process holds `maxPendingCommands` unanswered commands already; nothing was decided. Retry later. */
export class Overloaded extends TidemarkError {
  readonly code = "Overloaded";
}

/** The app cannot keep one more actor resident: all of them are busy. Nothing was decided. Retry later. */
export class RegistryFull extends TidemarkError {
  readonly code = "RegistryFull";
}

/** The same `commandId` came with another command or payload; nothing was changed by this call. */
export class CommandIdReused extends TidemarkError {
  readonly code = "CommandIdReused";
}

/** The stream is not at the version that the caller expected; confirmed with the store; never retried over. */
export class WrongExpectedVersion extends TidemarkError {
  readonly code = "WrongExpectedVersion";
}

/** Other writers won every one of the bounded attempts; nothing was changed. Retry later. */
export class TooMuchContention extends TidemarkError {
  readonly code = "TooMuchContention";
}

/** The command's deadline passed before it was decided; it changed nothing and never will. */
export class DeadlineExceeded extends TidemarkError {
  readonly code = "DeadlineExceeded";
}

/** The caller's signal aborted before the command was decided (or while waiting to read); nothing was changed. */
export class Aborted extends TidemarkError {
  readonly code = "Aborted";
}

/** The events were sent and nobody knows whether they stand. Repeat with the same `commandId`: it is applied at most once. */
export class OutcomeUnknown extends TidemarkError {
  readonly code = "OutcomeUnknown";
}

/** The app is closing or closed; nothing was decided. */
export class AppClosed extends TidemarkError {
  readonly code = "AppClosed";
}

/** A command or recipe threw; the stream is unchanged. The cause is the domain's own error. */
export class DomainCodeFailed extends TidemarkError {
  readonly code = "DomainCodeFailed";
}

/** A stored event has a type that no version of the aggregate knows. */
export class UnknownEventType extends TidemarkError {
  readonly code = "UnknownEventType";
}

/** A stored event could not be decoded, upcast or folded. */
export class EventUnreadable extends TidemarkError {
  readonly code = "EventUnreadable";
}

// ---- stores

/** The store cannot be reached, or did not answer within its bound. */
export class StoreUnavailable extends TidemarkError {
  readonly code = "StoreUnavailable";
}

/** The store refused for certain: nothing was written. `details.reason` holds the store's word. */
export class StoreRefused extends TidemarkError {
  readonly code = "StoreRefused";
}

/** The store was closed. */
export class StoreClosed extends TidemarkError {
  readonly code = "StoreClosed";
}

/** The log is not the one this position, checkpoint or token was made on: it was reset, or restored from an older state. */
export class StoreRewound extends TidemarkError {
  readonly code = "StoreRewound";
}

/** The front of the log was archived, and something in it was asked for; `details.archivedThrough` is the position up to which it is gone. */
export class LogArchived extends TidemarkError {
  readonly code = "LogArchived";
}

/** The stream was deleted in the store, by its own means: it cannot be read or gone on with. `details.how` says how. */
export class StreamDeleted extends TidemarkError {
  readonly code = "StreamDeleted";
}

/** The file or database was written by a newer version of Tidemark. */
export class SchemaTooNew extends TidemarkError {
  readonly code = "SchemaTooNew";
}

/** The stored data is damaged in a way that cannot be read around. */
export class StoreCorrupt extends TidemarkError {
  readonly code = "StoreCorrupt";
}

/** No backend knows this URL scheme; the message lists those that are known. */
export class UnknownScheme extends TidemarkError {
  readonly code = "UnknownScheme";
}

/** The backend's client package is not installed; the message names it. */
export class MissingClient extends TidemarkError {
  readonly code = "MissingClient";
}

/** The backend cannot do what was asked; `details.capability` names what it lacks. */
export class UnsupportedByStore extends TidemarkError {
  readonly code = "UnsupportedByStore";
}

// ---- read models

/** A page did not complete within `pageTimeoutMs`. */
export class PipelineStalled extends TidemarkError {
  readonly code = "PipelineStalled";
}

/** A view was written to after its page had been committed or rolled back. */
export class LateWrite extends TidemarkError {
  readonly code = "LateWrite";
}

/** A page of a read model changes more rows than may be staged at once. */
export class PageTooLarge extends TidemarkError {
  readonly code = "PageTooLarge";
}

/** An event failed in a read model's pipeline after all retries; the details say which and where. */
export class ProjectionFailed extends TidemarkError {
  readonly code = "ProjectionFailed";
}

/** The read model is not running (stopped, paused or failed); the cause says why. */
export class ReadModelStopped extends TidemarkError {
  readonly code = "ReadModelStopped";
}

/** The read model has not reached the token in time; `details` says how far behind it is. */
export class StaleRead extends TidemarkError {
  readonly code = "StaleRead";
}

// ---- tokens

/** The token is not one of ours, or damaged. */
export class TokenMalformed extends TidemarkError {
  readonly code = "TokenMalformed";
}

/** The token's signature is missing or wrong, or its key is no longer accepted. */
export class TokenForged extends TidemarkError {
  readonly code = "TokenForged";
}

/** Every entry of the token belongs to another store. */
export class TokenForeign extends TidemarkError {
  readonly code = "TokenForeign";
}
