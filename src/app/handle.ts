import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { Behaviour } from "../aggregate/behaviour.ts";
import type { Handle } from "./app.ts";
import type { CallOptions, StateAnswer, StateOptions, UntypedResult } from "./call.ts";
import type { Calls, Target } from "./calls.ts";

/** Makes the handles of one kind of aggregate: a class with a method for each command, so that a handle costs one small object. */
export function handlesOf(behaviour: Behaviour, calls: Calls): (target: Target) => Handle<AnyAggregate> {
  class InstanceHandle {
    readonly id: string;
    readonly stream: string;
    readonly #target: Target;

    constructor(target: Target) {
      this.id = target.id;
      this.stream = target.stream;
      this.#target = target;
    }

    state(options?: StateOptions): Promise<StateAnswer<unknown>> {
      return calls.state(this.#target, options);
    }

    static call(handle: InstanceHandle, command: string, input: unknown, options: CallOptions | undefined): Promise<UntypedResult> {
      return calls.command(handle.#target, command, input, options);
    }
  }
  for (const command of behaviour.commands) {
    Object.defineProperty(InstanceHandle.prototype, command, {
      value(this: InstanceHandle, input: unknown, options?: CallOptions) {
        return InstanceHandle.call(this, command, input, options);
      },
    });
  }
  return (target) => new InstanceHandle(target) as unknown as Handle<AnyAggregate>;
}
