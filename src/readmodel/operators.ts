/** The few operators that RxJS does not have; everything else in a pipeline is ordinary RxJS. */
import { concatMap, filter, groupBy, mergeMap, type ObservableInput, type OperatorFunction } from "rxjs";

/** Lets only events of these types through, and narrows to them. */
export function ofType<E extends { readonly type: string }, const T extends E["type"]>(...types: readonly T[]): OperatorFunction<E, Extract<E, { readonly type: T }>> {
  const wanted: ReadonlySet<string> = new Set<string>(types);
  return filter((event: E): event is Extract<E, { readonly type: T }> => wanted.has(event.type));
}

/** Handles events one at a time within a stream, and the streams of a page beside each other. */
export function byStream<E extends { readonly stream: string }, O>(handle: (event: E) => ObservableInput<O>): OperatorFunction<E, O> {
  return (events$) =>
    events$.pipe(
      groupBy((event) => event.stream),
      mergeMap((stream$) => stream$.pipe(concatMap(handle))),
    );
}
