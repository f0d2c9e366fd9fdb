/**
 * Ends the brokers and removes their folder when this process dies without doing so itself, kill -9 included: a shell of its own session
 * that holds one end of a pipe. While this process lives it only reads; when the pipe closes, it acts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

const SCRIPT = `
trap '' INT TERM HUP
pids= folder=
while read -r verb value; do
  case $verb in
    watch) pids="$pids $value" ;;
    forget) kept=; for pid in $pids; do [ "$pid" = "$value" ] || kept="$kept $pid"; done; pids=$kept ;;
    folder) folder=$value ;;
    done) exit 0 ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
for pid in $pids; do
  tries=100
  while [ $tries -gt 0 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; tries=$((tries - 1)); done
done
[ -z "$folder" ] || rm -rf -- "$folder"
`;

export interface Guardian {
  watch(pid: number): void;
  /** To be called when the process has ended: its number may be another's soon. */
  forget(pid: number): void;
  /** Goes without doing anything. */
  dismiss(): Promise<void>;
}

/** `folder` is removed when this process dies; undefined leaves everything where it is. */
export function guardian(folder: string | undefined): Guardian {
  const shell = spawn("/bin/sh", ["-c", SCRIPT], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  const ended = once(shell, "exit");
  // Neither keeps this process alive; a shell that is gone cannot be told anything.
  shell.unref();
  shell.stdin.on("error", () => undefined);
  const tell = (line: string): void => void shell.stdin.write(`${line}\n`);
  if (folder !== undefined) tell(`folder ${folder}`);
  return {
    watch: (pid) => tell(`watch ${pid}`),
    forget: (pid) => tell(`forget ${pid}`),
    async dismiss() {
      shell.ref();
      tell("done");
      await ended;
    },
  };
}
