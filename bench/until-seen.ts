import type { Runner } from "../src/readmodel/runner.ts";

/** Starts a read model; resolves when it has seen so many events. Errors: the read model's. */
export async function untilSeen(runner: Runner<unknown> | Runner<never>, events: number): Promise<void> {
  await runner.start();
  await new Promise<void>((resolve, reject) => {
    const end = runner.onAdvance(look);
    function look(): void {
      if (runner.error !== undefined) reject(runner.error);
      else if (runner.checkpoint().events < events) return;
      else resolve();
      end();
    }
    look();
  });
}
