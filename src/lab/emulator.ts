/**
 * The link emulator's process: `node emulator.js`, requests on stdin, replies on stdout (emulator-protocol.ts).
 *
 * It wakes for two reasons. A device that sends into an idle direction is read at once, so that the idle delay is exact.
 * A direction with a backlog does not need reading before the backlog is gone (what arrives meanwhile could not leave
 * earlier), so its device is left alone and read on the next tick of the timer: one wake-up then moves many packets.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Micros, NEVER } from '../core/base/time.js';
import { DeadlineTimer, monotonicUs, Poller, READABLE } from '../native/index.js';
import { defaultLinkConfig, type LinkConfig } from '../sim/link-model.js';
import { parseTrace, traceRateBps } from '../sim/trace.js';
import { RunningLink } from './emulated-link.js';
import {
  type DirectionSpec,
  type EmulatorReply,
  type EmulatorRequest,
  type LinkCounters,
  queueDefaultBytes,
} from './emulator-protocol.js';

/** Deliveries closer together than this share one wake-up. */
const TICK_US = 250;
/** What a wake-up takes: the timer is set, and packets are handed over, this much early, so that delays are right on average. */
const WAKE_UP_US = 60;
/** A device may wait this long to be read, if the backlog covers it: bounds what gathers in the device's own queue. */
const MAX_DEFER_US = 1000;

class Emulator {
  readonly #links: RunningLink[] = [];
  readonly #ports: Port[] = [];
  readonly #timer = new DeadlineTimer(() => this.#run());

  handle(request: EmulatorRequest): unknown {
    const nowUs = monotonicUs();
    switch (request.cmd) {
      case 'open':
        for (const spec of request.links) {
          const link = new RunningLink(spec, toConfig(spec.down, nowUs), toConfig(spec.up, nowUs));
          this.#links.push(link);
          for (const direction of [link.down, link.up]) {
            this.#ports.push(new Port(direction, (port) => this.#onReadable(port)));
          }
        }
        return null;
      case 'state':
        this.#link(request.link).setState(nowUs, request.state);
        return null;
      case 'set': {
        const model = this.#link(request.link).direction(request.direction).model;
        model.configure(nowUs, toChanges(request.change, nowUs));
        this.#run();
        return null;
      }
      case 'counters': {
        const { down, up } = this.#link(request.link);
        const cpu = process.cpuUsage();
        const cpuS = (cpu.user + cpu.system) / 1e6;
        return { down: down.model.counters, up: up.model.counters, cpuS } satisfies LinkCounters;
      }
      case 'timeline':
        return this.#link(request.link).direction(request.direction).timeline(request.fromMs, request.toMs);
    }
  }

  #link(name: string): RunningLink {
    const link = this.#links.find((l) => l.name === name);
    if (link === undefined) throw new Error(`no link "${name}"`);
    return link;
  }

  #onReadable(port: Port): void {
    port.receive(monotonicUs());
    this.#run();
  }

  /** Delivers what is due, reads what was left waiting, and arms the timer for what comes next. */
  #run(): void {
    const nowUs = monotonicUs();
    let nextUs: Micros = NEVER;
    for (const port of this.#ports) {
      if (port.readDueUs <= nowUs + TICK_US) port.receive(nowUs);
      port.direction.deliver(nowUs + WAKE_UP_US);
      const deliveryUs = port.direction.model.nextDeadline();
      if (deliveryUs < nextUs) nextUs = deliveryUs;
      if (port.readDueUs < nextUs) nextUs = port.readDueUs;
    }
    this.#timer.set(nextUs === NEVER ? NEVER : Math.max(nextUs - WAKE_UP_US, nowUs + TICK_US));
  }
}

/** The input device of one direction, read on readiness or, under a backlog, when `readDueUs` comes. */
class Port {
  readDueUs: Micros = NEVER;
  readonly #poller: Poller;

  constructor(
    readonly direction: RunningLink['down'],
    onReadable: (port: Port) => void,
  ) {
    this.#poller = new Poller(direction.input.fd, () => onReadable(this));
    this.#poller.watch(READABLE);
  }

  receive(nowUs: Micros): void {
    this.direction.receive(nowUs);
    const deferUs = Math.min(this.direction.backlogUs() - 2 * TICK_US, MAX_DEFER_US);
    this.readDueUs = deferUs > 0 ? nowUs + deferUs : NEVER;
    this.#poller.watch(deferUs > 0 ? 0 : READABLE);
  }
}

function toConfig(spec: DirectionSpec, nowUs: Micros): LinkConfig {
  const changes = toChanges(spec, nowUs);
  return { ...defaultLinkConfig, ...changes, queueBytes: spec.queueBytes ?? queueDefaultBytes(changes.rateBps!) };
}

/** The model's words for what is given. A trace sets the rate to its mean; a new rate leaves the queue as it is. */
function toChanges(change: Partial<DirectionSpec>, nowUs: Micros): Partial<LinkConfig> {
  const { rateBps, delayMs, jitterMs, loss, burst, queueBytes, mtuBytes, traceFile } = change;
  const trace = traceFile == null ? null : parseTrace(readFileSync(traceFile, 'latin1'));
  return {
    ...(rateBps !== undefined && { rateBps: Math.round(rateBps) }),
    ...(traceFile !== undefined && { trace, traceStartUs: nowUs }),
    ...(trace !== null && { rateBps: traceRateBps(trace) }),
    ...(delayMs !== undefined && { delayUs: Math.round(delayMs * 1000) }),
    ...(jitterMs !== undefined && { jitterUs: Math.round(jitterMs * 1000) }),
    ...(loss !== undefined && { lossRate: loss }),
    ...(burst !== undefined && { burstLoss: burst }),
    ...(mtuBytes !== undefined && { mtuBytes }),
    ...(queueBytes != null && { queueBytes: Math.round(queueBytes) }),
  };
}

function main(): void {
  const emulator = new Emulator();
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      let reply: EmulatorReply;
      try {
        const value = emulator.handle(JSON.parse(line) as EmulatorRequest);
        reply = { ok: true, atMs: monotonicUs() / 1000, value };
      } catch (error) {
        reply = { ok: false, error: (error as Error).message };
      }
      process.stdout.write(`${JSON.stringify(reply)}\n`);
    })
    .on('close', () => process.exit(0));
  // Ctrl-C goes to the whole foreground group: the lab decides when the links end.
  process.on('SIGINT', () => {});
}

main();
