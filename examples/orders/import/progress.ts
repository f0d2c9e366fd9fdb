/** How far an import is: a bar on a terminal, plain lines elsewhere. Written to stderr, so that stdout holds the result alone. */
import cliProgress from "cli-progress";

const LINE_EVERY_MS = 1000;

export interface ImportProgress {
  update(done: number, total: number): void;
  /** Ends the bar; what is written afterwards stands below it. */
  stop(): void;
}

export function importProgress(out: NodeJS.WriteStream): ImportProgress {
  return out.isTTY ? bar(out) : lines(out);
}

/** Commands per second since the start, and the seconds left at that pace. */
export function paceOf(done: number, total: number, elapsedMs: number): { readonly rate: number; readonly etaSeconds: number } {
  const perMs = done / Math.max(elapsedMs, 1);
  return { rate: Math.round(perMs * 1000), etaSeconds: perMs === 0 ? 0 : Math.ceil((total - done) / perMs / 1000) };
}

function bar(stream: NodeJS.WriteStream): ImportProgress {
  const format = "{bar} {percentage}% | {value} of {total} commands | {rate}/s | {seconds} s left";
  const single = new cliProgress.SingleBar({ stream, format, hideCursor: true, gracefulExit: true }, cliProgress.Presets.shades_classic);
  const started = performance.now();
  let running = false;
  return {
    update(done, total) {
      const { rate, etaSeconds } = paceOf(done, total, performance.now() - started);
      const payload = { rate, seconds: etaSeconds };
      if (running) single.update(done, payload);
      else single.start(total, done, payload);
      running = true;
    },
    stop: () => single.stop(),
  };
}

function lines(stream: NodeJS.WritableStream): ImportProgress {
  const started = performance.now();
  let last = started;
  return {
    update(done, total) {
      const now = performance.now();
      if (now - last < LINE_EVERY_MS && done < total) return;
      last = now;
      const { rate, etaSeconds } = paceOf(done, total, now - started);
      stream.write(`${done} of ${total} commands, ${rate}/s, ${done < total ? `about ${etaSeconds} s left` : "done"}\n`);
    },
    stop: () => undefined,
  };
}
