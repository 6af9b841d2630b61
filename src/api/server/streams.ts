/** Answers that go on: events, an operation's progress, a console's text. Each is bounded (push-stream.ts). */

import type { Fleet, FleetEvent, Operation } from "../../fleet/contract.ts";
import { formatEvent, HEARTBEAT } from "../contract/event-stream.ts";
import type { RequestMetrics } from "./metrics.ts";
import { pushStream, type Sink } from "./push-stream.ts";
import type { Tenant } from "./tenant.ts";

/** Unread bytes at which a reader is cut off; an event is about 500. */
const STREAM_LIMIT_BYTES = 2 ** 20;
/** Silence after which a sign of life is sent, in milliseconds: proxies cut streams after about a minute. */
const HEARTBEAT_MS = 15_000;
/** Of a page of kept events. */
const PAGE = 1000;

interface StreamDependencies {
  readonly fleet: Fleet;
  readonly metrics: RequestMetrics;
}

/** A stream of events with signs of life; `open` begins to push and gives what ends it. */
function liveStream(metrics: RequestMetrics, open: (sink: Sink) => () => void): ReadableStream<Uint8Array> {
  return pushStream(STREAM_LIMIT_BYTES, (sink) => {
    metrics.openStreams += 1;
    const heartbeat = setInterval(() => sink.push(HEARTBEAT), HEARTBEAT_MS);
    const stop = open(sink);
    return () => {
      metrics.openStreams -= 1;
      clearInterval(heartbeat);
      stop();
    };
  });
}

/** The event that tells of an operation carries it. */
function operationIn(event: FleetEvent): Operation | undefined {
  return event.kind === "operation" ? (event.data as unknown as Operation) : undefined;
}

/** Kept events after `after`, where given, then all from now on, without a gap between the two. */
export function eventStream(
  tenant: Tenant,
  { fleet, metrics }: StreamDependencies,
  after: number | undefined,
): ReadableStream<Uint8Array> {
  return liveStream(metrics, (sink) => {
    let last = after ?? 0;
    let caughtUp = after === undefined;
    let held: FleetEvent[] = [];
    const send = (event: FleetEvent): void => {
      if (event.sequence <= last) return;
      last = event.sequence;
      if (!tenant.seesEvent(event)) return;
      sink.push(formatEvent({ id: String(event.sequence), event: event.kind, data: event }));
    };
    const unsubscribe = fleet.subscribe((event) => {
      if (caughtUp) send(event);
      else held.push(event);
    });
    const catchUp = async (): Promise<void> => {
      for (;;) {
        const page = await fleet.events(last, PAGE);
        for (const event of page) send(event);
        if (page.length < PAGE) break;
        await sink.drained();
        if (sink.room <= 0) return;
      }
      for (const event of held) send(event);
      held = [];
      caughtUp = true;
    };
    // At once, so that a reader knows that it is connected.
    sink.push(HEARTBEAT);
    if (!caughtUp) catchUp().catch(() => sink.end());
    return unsubscribe;
  });
}

/** An operation each time it changes; ends with it. */
export function operationStream(
  tenant: Tenant,
  { fleet, metrics }: StreamDependencies,
  first: Operation,
): ReadableStream<Uint8Array> {
  return liveStream(metrics, (sink) => {
    const send = (operation: Operation): void => {
      sink.push(formatEvent({ event: "operation", data: operation }));
      if (operation.state !== "running") sink.end();
    };
    const unsubscribe = fleet.subscribe((event) => {
      const operation = operationIn(event);
      if (operation?.id === first.id) send(operation);
    });
    // It may have gone on since it was looked up.
    tenant.operation(first.id).then(send, () => sink.end());
    return unsubscribe;
  });
}

/** The console's kept text, and with `follow` what comes after it, at the reader's pace. */
export async function consoleLog(
  { fleet, metrics }: StreamDependencies,
  vm: string,
  tailBytes: number | undefined,
  follow: boolean,
): Promise<ReadableStream<Uint8Array> | Uint8Array> {
  const options = tailBytes === undefined ? {} : { tailBytes };
  if (!follow) return await fleet.log(vm, options);
  const { state } = await fleet.inspect(vm);
  if (state === "stopped" || state === "failed") return await fleet.log(vm, options);
  const early: Uint8Array[] = [];
  let sink: Sink | undefined;
  let ended = false;
  const attachment = await fleet.console(
    vm,
    {
      onData: async (bytes) => {
        if (sink === undefined) {
          early.push(bytes);
          return;
        }
        sink.push(bytes);
        await sink.drained();
      },
      onGap: (lostBytes) => sink?.push(`\r\n[isola: the reader was slow, ${lostBytes} bytes are lost]\r\n`),
      onEnd: () => {
        ended = true;
        sink?.end();
      },
    },
    tailBytes === undefined ? {} : { replayBytes: tailBytes },
  );
  return pushStream(STREAM_LIMIT_BYTES, (opened) => {
    sink = opened;
    metrics.openStreams += 1;
    for (const bytes of early) opened.push(bytes);
    if (ended) opened.end();
    return () => {
      metrics.openStreams -= 1;
      attachment.close();
    };
  });
}
