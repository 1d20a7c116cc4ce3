/**
 * One emulated link at run time: two TUN or TAP devices, and for each direction the model and the bytes of the packets
 * that it holds. Packets are copied once into a slot on arrival and written out from there; nothing is allocated while
 * traffic flows.
 */
import type { Micros } from '../core/base/time.js';
import { addon, check, inNamespace, openTun, type TunDevice } from '../native/index.js';
import { type LinkConfig, LinkModel, type LinkState } from '../sim/link-model.js';
import type { Direction, EmulatedLink, Timeline } from './emulator-protocol.js';

/** Room for an Ethernet frame with a 1500-byte packet; longer ones are dropped (the devices' MTU is 1500). */
const SLOT_BYTES = 1536;
/** Packets that one direction holds at most, queued and on their way; more are dropped, as from a full queue. */
const MAX_PACKETS_HELD = 1 << 15;
const ETHERNET_HEADER_BYTES = 14;
const FULL_PACKET_BYTES = 1500;
const BATCH = 64;
const TIMELINE_BIN_US = 10_000;
const TIMELINE_BINS = 1 << 15;

export class RunningLink {
  readonly name: string;
  readonly down: RunningDirection;
  readonly up: RunningDirection;
  readonly #client: TunDevice;
  readonly #router: TunDevice;

  constructor(link: EmulatedLink, down: LinkConfig, up: LinkConfig) {
    this.name = link.name;
    // No vnet header, hence no offloads: the kernel's segments really are MTU-sized.
    const mode = link.kind === 'wifi' ? 'tap' : 'tun';
    const open = (ns: string, name: string) => inNamespace(ns, () => openTun({ name, mode, vnetHeader: false }));
    this.#client = open(link.clientNamespace, link.clientDevice);
    this.#router = open(link.routerNamespace, link.routerDevice);
    const headerBytes = link.kind === 'wifi' ? ETHERNET_HEADER_BYTES : 0;
    this.down = new RunningDirection(this.#router, this.#client, headerBytes, down, 2 * link.seed);
    this.up = new RunningDirection(this.#client, this.#router, headerBytes, up, 2 * link.seed + 1);
  }

  direction(name: Direction): RunningDirection {
    return name === 'down' ? this.down : this.up;
  }

  setState(nowUs: Micros, state: LinkState): void {
    this.down.model.setState(nowUs, state);
    this.up.model.setState(nowUs, state);
    // A black hole shows nowhere; a pulled cable shows at both devices.
    this.#client.setCarrier(state !== 'down');
    this.#router.setCarrier(state !== 'down');
  }

  close(): void {
    this.#client.close();
    this.#router.close();
  }
}

/** From one device, through `model` (whose items are slot numbers), to the other. */
export class RunningDirection {
  readonly model: LinkModel<number>;
  readonly input: TunDevice;
  readonly #output: TunDevice;
  readonly #headerBytes: number;
  /** Slots [0, MAX_PACKETS_HELD) hold packets; the BATCH after them receive. One array, so that moving is `copyWithin`. */
  readonly #slots = new Uint8Array((MAX_PACKETS_HELD + BATCH) * SLOT_BYTES);
  readonly #inbox = this.#slots.subarray(MAX_PACKETS_HELD * SLOT_BYTES);
  /** Free slots as a stack: the hottest slot is used next, so memory is only touched up to the deepest queue. */
  readonly #free = new Int32Array(MAX_PACKETS_HELD);
  #freeCount = MAX_PACKETS_HELD;
  readonly #slotLength = new Int32Array(MAX_PACKETS_HELD);
  readonly #inLength = new Int32Array(BATCH);
  readonly #inTruncated = new Uint8Array(BATCH);
  readonly #outSlot = new Int32Array(BATCH);
  readonly #outOffset = new Int32Array(BATCH);
  readonly #outLength = new Int32Array(BATCH);
  readonly #timeline = new Float64Array(TIMELINE_BINS);
  #timelineBin = 0;

  constructor(input: TunDevice, output: TunDevice, headerBytes: number, config: LinkConfig, seed: number) {
    this.input = input;
    this.#output = output;
    this.#headerBytes = headerBytes;
    this.model = new LinkModel<number>(config, seed, (slot) => this.#release(slot));
    for (let i = 0; i < MAX_PACKETS_HELD; i++) this.#free[i] = MAX_PACKETS_HELD - 1 - i;
  }

  /** Takes in what the device has sent. */
  receive(nowUs: Micros): void {
    for (;;) {
      const n = addon.receiveBatch(
        this.input.fd,
        0,
        this.#inbox,
        SLOT_BYTES,
        0,
        BATCH,
        this.#inLength,
        this.#inTruncated,
      );
      if (n < 0) check(n, 'read');
      for (let i = 0; i < n; i++) this.#admit(nowUs, i);
      if (n < BATCH) return;
    }
  }

  /** Hands over what has arrived by `nowUs`. */
  deliver(nowUs: Micros): void {
    let n: number;
    do {
      n = 0;
      let bytes = 0;
      while (n < BATCH) {
        const slot = this.model.poll(nowUs);
        if (slot === undefined) break;
        this.#outSlot[n] = slot;
        this.#outOffset[n] = slot * SLOT_BYTES;
        this.#outLength[n] = this.#slotLength[slot]!;
        bytes += this.#slotLength[slot]! - this.#headerBytes;
        n++;
      }
      if (n === 0) return;
      // Refused (the device is not up yet): lost, as on a real link. Not taken at all does not happen: TUN writes never wait.
      this.#output.sendFrames(this.#slots, this.#outOffset, this.#outLength, 0, n);
      this.#recordTimeline(nowUs, bytes);
      for (let i = 0; i < n; i++) this.#release(this.#outSlot[i]!);
    } while (n === BATCH);
  }

  /** How long the transmitter surely stays busy with what is queued; 0 while a trace plays. */
  backlogUs(): Micros {
    const { trace, rateBps } = this.model.config;
    return trace !== null ? 0 : ((this.model.queuedBytes - FULL_PACKET_BYTES) * 8e6) / rateBps;
  }

  timeline(fromMs: number, toMs: number): Timeline {
    const first = Math.floor((fromMs * 1000) / TIMELINE_BIN_US);
    const last = Math.min(Math.ceil((toMs * 1000) / TIMELINE_BIN_US), this.#timelineBin + 1);
    const bytes: number[] = [];
    for (let bin = Math.max(first, last - TIMELINE_BINS); bin < last; bin++)
      bytes.push(this.#timeline[bin % TIMELINE_BINS]!);
    return { fromMs: ((last - bytes.length) * TIMELINE_BIN_US) / 1000, binMs: TIMELINE_BIN_US / 1000, bytes };
  }

  #admit(nowUs: Micros, i: number): void {
    const length = this.#inLength[i]!;
    if (this.#inTruncated[i] === 1 || length <= this.#headerBytes || this.#freeCount === 0) return;
    const slot = this.#free[--this.#freeCount]!;
    this.#slotLength[slot] = length;
    const from = (MAX_PACKETS_HELD + i) * SLOT_BYTES;
    this.#slots.copyWithin(slot * SLOT_BYTES, from, from + length);
    this.model.enqueue(nowUs, length - this.#headerBytes, slot); // a refused one comes back through #release
  }

  #release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  #recordTimeline(nowUs: Micros, bytes: number): void {
    const bin = Math.floor(nowUs / TIMELINE_BIN_US);
    if (bin > this.#timelineBin) {
      for (let b = Math.max(this.#timelineBin + 1, bin - TIMELINE_BINS + 1); b <= bin; b++)
        this.#timeline[b % TIMELINE_BINS] = 0;
      this.#timelineBin = bin;
    }
    this.#timeline[bin % TIMELINE_BINS] = this.#timeline[bin % TIMELINE_BINS]! + bytes;
  }
}
