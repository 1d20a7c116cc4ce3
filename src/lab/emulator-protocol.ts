/**
 * What the lab and the emulator process say to each other: one JSON object per line, requests on the emulator's stdin,
 * replies on its stdout in the same order. End of input ends the emulator.
 */
import type { BurstLoss, LinkCounters as DirectionCounters, LinkState } from '../sim/link-model.js';

/** `down` is towards the client, `up` away from it. */
export type Direction = 'down' | 'up';

/** `wifi` is Ethernet (TAP at both ends, so neighbour resolution is real), `lte` is raw IP (TUN at both ends). */
export type LinkKind = 'wifi' | 'lte';

export interface DirectionSpec {
  /** Bits of IP packet per second. */
  readonly rateBps: number;
  readonly delayMs: number;
  /** Up to this much more, uniformly; packets keep their order. */
  readonly jitterMs: number;
  /** Probability 0..1. */
  readonly loss: number;
  readonly burst: BurstLoss | null;
  /** null: 100 ms of the rate. */
  readonly queueBytes: number | null;
  /** Larger IP packets vanish, and nobody is told. Default 1500. */
  readonly mtuBytes?: number;
  /** Path of a trace that replaces the rate, or null. */
  readonly traceFile: string | null;
}

export interface EmulatedLink {
  readonly name: string;
  readonly kind: LinkKind;
  /** Where the two devices go (names as `ip netns` has them), and what they are called there. */
  readonly clientNamespace: string;
  readonly clientDevice: string;
  readonly routerNamespace: string;
  readonly routerDevice: string;
  readonly down: DirectionSpec;
  readonly up: DirectionSpec;
  readonly seed: number;
}

export type EmulatorRequest =
  | { readonly cmd: 'open'; readonly links: readonly EmulatedLink[] }
  | { readonly cmd: 'state'; readonly link: string; readonly state: LinkState }
  | {
      readonly cmd: 'set';
      readonly link: string;
      readonly direction: Direction;
      readonly change: Partial<DirectionSpec>;
    }
  | { readonly cmd: 'counters'; readonly link: string }
  | {
      readonly cmd: 'timeline';
      readonly link: string;
      readonly direction: Direction;
      readonly fromMs: number;
      readonly toMs: number;
    };

export type EmulatorReply =
  | { readonly ok: true; readonly atMs: number; readonly value?: unknown }
  | { readonly ok: false; readonly error: string };

export interface LinkCounters {
  readonly down: DirectionCounters;
  readonly up: DirectionCounters;
  /** CPU seconds of the emulator's process so far. */
  readonly cpuS: number;
}

/** Delivered IP bytes per bin of `binMs` from `fromMs` on (monotonic clock). */
export interface Timeline {
  readonly fromMs: number;
  readonly binMs: number;
  readonly bytes: readonly number[];
}

export const QUEUE_DEFAULT_MS = 100;

/** The drop-tail limit where none is given. */
export function queueDefaultBytes(rateBps: number): number {
  return Math.round((rateBps * QUEUE_DEFAULT_MS) / 8000);
}
