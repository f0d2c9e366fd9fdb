import type { App } from "../src/index.ts";
import { Account, movement } from "./account.ts";
import { load, rate, timed } from "./harness.ts";

/** Commands a second: the `index`-th one goes to the account `idOf(index)`. Throws when one fails or is rejected. */
export async function depositing(app: App, count: number, inFlight: number, idOf: (index: number) => string): Promise<number> {
  const ms = await timed(() =>
    load(
      count,
      inFlight,
      (index) => app.at(Account, idOf(index)).deposit(movement(index)),
      (result) => {
        if (!result.ok) throw new Error(`a deposit was rejected: ${result.code}`);
      },
    ),
  );
  return rate(count, ms);
}
