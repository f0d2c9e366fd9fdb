import { InvalidArgument } from "./errors.ts";

/** The names of all options of `T`: the compiler sees that none is missing. */
export type OptionNames<T> = Readonly<Record<keyof T & string, true>>;

/**
 * Refuses what is no option, because a misspelt one would do nothing and say nothing. `names`: has all options as its keys; the defaults do where every option has one.
 * `whose`: "tidemark()", for the message. Errors: InvalidArgument, with the options that there are.
 */
export function assertKnown(given: object | undefined, names: object, whose: string): void {
  if (given === undefined) return;
  if (typeof given !== "object" || given === null) throw new InvalidArgument(`${whose} takes an object of options`);
  for (const option of Object.keys(given)) {
    if (Object.hasOwn(names, option)) continue;
    throw new InvalidArgument(`${whose} has no option ${JSON.stringify(option.slice(0, 64))}; it has ${Object.keys(names).join(", ")}`, { details: { option: option.slice(0, 64) } });
  }
}
