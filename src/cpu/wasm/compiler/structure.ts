/**
 * The shape of a region's control flow: reverse postorder, dominators, which blocks are loop heads and which are met by
 * several ways. From it code is emitted as nested blocks and loops [Ramsey, "Beyond Relooper", 2022]. An edge back to a
 * block that does not dominate its source (an irreducible loop) is not followed.
 */

export interface ControlFlow {
  /** Blocks that are reached, in reverse postorder; the head is the first. */
  readonly order: readonly number[];
  /** Whether an edge leads back to a loop's head; `undefined` for one that is not to be followed. */
  edge(from: number, to: number): "forward" | "back" | undefined;
  isLoop(block: number): boolean;
  /** Reached by more than one forward edge; both ways of one branch count. */
  isMerge(block: number): boolean;
  /** The merges that a block dominates immediately, the last in order first. */
  mergesOf(block: number): readonly number[];
  /** Place in `order`. */
  number(block: number): number;
}

export function analyse(head: number, successors: (block: number) => readonly number[]): ControlFlow {
  const postorder: number[] = [];
  const seen = new Set<number>([head]);
  // A depth-first walk with its own stack: regions may be deep.
  const stack = [{ block: head, rest: [...successors(head)] }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const next = top.rest.shift();
    if (next === undefined) {
      postorder.push(top.block);
      stack.pop();
    } else if (!seen.has(next)) {
      seen.add(next);
      stack.push({ block: next, rest: [...successors(next)] });
    }
  }
  const order = postorder.reverse();
  const numbers = new Map(order.map((block, i) => [block, i]));
  const number = (block: number): number => numbers.get(block) ?? -1;
  const isForward = (from: number, to: number) => number(from) < number(to);

  const immediate: number[] = [0];
  const forwardInto: number[] = order.map(() => 0);
  const meet = (a: number, b: number): number => {
    let [x, y] = [a, b];
    while (x !== y) {
      if (x > y) x = immediate[x] ?? 0;
      else y = immediate[y] ?? 0;
    }
    return x;
  };
  // Forward edges only go to later blocks: one pass in order finds the dominators.
  for (const [i, block] of order.entries()) {
    for (const to of successors(block)) {
      if (!isForward(block, to)) continue;
      const j = number(to);
      forwardInto[j] = (forwardInto[j] ?? 0) + 1;
      const known = immediate[j];
      immediate[j] = known === undefined ? i : meet(known, i);
    }
  }
  const dominates = (a: number, b: number): boolean => {
    let at = b;
    while (at > a) at = immediate[at] ?? 0;
    return at === a;
  };
  const loops = new Set<number>();
  for (const block of order) {
    for (const to of successors(block)) {
      if (!isForward(block, to) && dominates(number(to), number(block))) loops.add(to);
    }
  }
  const merges = new Map<number, number[]>();
  for (let j = order.length - 1; j > 0; j--) {
    if ((forwardInto[j] ?? 0) < 2) continue;
    const dominator = order[immediate[j] ?? 0] ?? head;
    const list = merges.get(dominator) ?? [];
    list.push(order[j] ?? head);
    merges.set(dominator, list);
  }
  return {
    order,
    number,
    edge(from, to) {
      if (isForward(from, to)) return "forward";
      return dominates(number(to), number(from)) ? "back" : undefined;
    },
    isLoop: (block) => loops.has(block),
    isMerge: (block) => (forwardInto[number(block)] ?? 0) > 1,
    mergesOf: (block) => merges.get(block) ?? [],
  };
}
