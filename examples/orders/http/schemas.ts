/** Zod schemas validate what comes in and describe it in the OpenAPI document: each shape is written once. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest, FastifySchema, FastifySchemaCompiler, FastifyTypeProvider, RouteGenericInterface } from "fastify";
import { z } from "zod";
import { isStorable } from "../domain.ts";

/** Tells Fastify's types what a zod schema lets through. */
interface ZodTypes extends FastifyTypeProvider {
  readonly validator: this["schema"] extends z.ZodType ? z.output<this["schema"]> : unknown;
}

export type HttpServer = FastifyInstance<Server, IncomingMessage, ServerResponse, FastifyBaseLogger, ZodTypes>;
/** Any request and its reply, for functions that several routes share. */
export type AnyRequest = FastifyRequest<RouteGenericInterface, Server, IncomingMessage>;
export type AnyReply = FastifyReply;

/** What came in does not fit its schema. */
export class InputRefused extends Error {
  readonly issues: readonly { readonly path: string; readonly message: string }[];

  constructor(part: string, issues: readonly z.core.$ZodIssue[]) {
    super(`the ${part} is not valid`);
    this.issues = issues.map(({ path, message }) => ({ path: path.map(String).join("."), message }));
  }
}

const PARTS: Readonly<Record<string, string>> = { body: "body", querystring: "query", params: "path", headers: "header" };

export const validate: FastifySchemaCompiler<FastifySchema> = ({ schema, httpPart = "body" }) => {
  const parse = (schema as z.ZodType).safeParse.bind(schema);
  return (input: unknown) => {
    const result = parse(input ?? undefined); // Fastify says null where there is no body
    return result.success ? { value: result.data } : { error: new InputRefused(PARTS[httpPart] ?? httpPart, result.error.issues) };
  };
};

/** A zod schema as JSON Schema, as callers must send it (or, for answers, as they get it). */
export function jsonSchema(schema: z.ZodType, io: "input" | "output"): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}

const orderId = z.string().min(1).max(128).refine(isStorable, "must be well-formed text without NUL");

export const idParams = z.object({ id: orderId });

const problem = z.looseObject({ title: z.string(), status: z.int(), code: z.string(), detail: z.string() }).meta({ description: "RFC 9457; some codes bring further members" });

/** The answers of a route by status: its own, and problems. */
export function responses(own: Readonly<Record<number, z.ZodType>>, problems: readonly number[]): Record<number, z.ZodType> {
  return { ...own, ...Object.fromEntries(problems.map((status) => [status, problem])) };
}
