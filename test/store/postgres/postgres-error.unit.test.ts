import { describe, expect, it } from "vitest";
import { breaksConnection, isDefinite, NoAnswer, NotSent, toTidemarkError } from "../../../src/store/postgres/postgres-error.ts";

const answered = (code: string, severity = "ERROR", message = "no"): Error => Object.assign(new Error(message), { code, severity });

describe("what a failed statement means", () => {
  it.each([
    ["was not sent", new NotSent(answered("53300", "FATAL"))],
    ["broke a constraint", answered("23505")],
    ["waited too long for a lock", answered("55P03")],
    ["was cancelled by its time-out", answered("57014")],
    ["met a standby", answered("25006")],
    ["found the disk full", answered("53100")],
  ])("is definite where it %s", (_, error) => {
    expect(isDefinite(error)).toBe(true);
  });

  it.each([
    ["was cut off by the network", Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" })],
    ["was written to a connection that is gone", Object.assign(new Error("write EPIPE"), { code: "EPIPE" })],
    ["was cut off without a word", new Error("Connection terminated unexpectedly")],
    ["was not answered in time", new NoAnswer(1)],
    ["was ended by an administrator", answered("57P01", "FATAL")],
    ["was ended by a crash of another session", answered("57P02", "WARNING")],
    ["ended in a panic while the log was flushed", answered("53100", "PANIC")],
    ["failed of the system in a language that we do not read", answered("58030", "FEHLER")],
  ])("is unknown where it %s", (_, error) => {
    expect(isDefinite(error)).toBe(false);
  });

  it("costs the connection where its state is not known any more", () => {
    expect([answered("23505"), answered("55P03")].map(breaksConnection)).toEqual([false, false]);
    expect([new NoAnswer(1), answered("57P01", "FATAL"), answered("28P01", "FATAL"), new Error("ended")].map(breaksConnection)).toEqual([true, true, true, true]);
  });

  it("is told with its database, and with what to do", () => {
    expect(toTidemarkError(answered("42501"), "db")).toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringContaining("docs/postgres.md") });
    expect(toTidemarkError(answered("XX001"), "db")).toMatchObject({ code: "StoreCorrupt" });
    expect(toTidemarkError(answered("42P01"), "db")).toMatchObject({ code: "StoreUnavailable", retryable: true, message: expect.stringContaining("migrations") });
    expect(toTidemarkError(new NotSent(answered("3D000", "FATAL", 'database "shop" does not exist')), "db")).toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringMatching(/"shop" does not exist.*createdb/) });
    for (const state of ["28P01", "28000"]) expect(toTidemarkError(new NotSent(answered(state, "FATAL")), "db")).toMatchObject({ retryable: false, message: expect.stringContaining("pg_hba.conf") });
    const refused = new AggregateError([new Error("connect ECONNREFUSED ::1"), new Error("connect ECONNREFUSED 127.0.0.1")], "");
    expect(toTidemarkError(new NotSent(refused), "db").message).toBe("db: connect ECONNREFUSED ::1; connect ECONNREFUSED 127.0.0.1");
  });

  it.each([
    ["SELF_SIGNED_CERT_IN_CHAIN", "sslrootcert"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "sslrootcert"],
    ["CERT_HAS_EXPIRED", "sslrootcert"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "another host"],
  ])("is no reason to try again where the certificate does not convince: %s", (code, word) => {
    const error = toTidemarkError(new NotSent(Object.assign(new Error("no"), { code })), "db");
    expect(error).toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringContaining(word) });
  });
});
