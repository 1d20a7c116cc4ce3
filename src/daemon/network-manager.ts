/**
 * NetworkManager's word on each device, where it runs: whether its connection is metered and what the connectivity check
 * found. Asked through nmcli: once at the start, and again whenever `nmcli monitor` prints a line. Where there is no nmcli,
 * or no NetworkManager behind it, nothing is known, and nothing depends on it.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { findTool, SYSTEM_PATH } from '../native/index.js';
import type { Connectivity } from './link-facts.js';

/** Lines come in bursts (a connection that is activated has ten): one question for all of them. */
const SETTLE_MS = 100;
/** `nmcli monitor` that ended is started again: the first time soon, then ever later. */
const RESTART_FIRST_MS = 1_000;
const RESTART_MAX_MS = 60_000;
const ASK_TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 1 << 20;

export interface ManagedFacts {
  /** null: it does not know. */
  readonly isMetered: boolean | null;
  readonly connectivity: Connectivity | null;
}

/** What this needs of the outside; tests bring their own. */
export interface NmcliHost {
  /** Output of `nmcli ARGS`, or null when it failed. */
  ask(args: readonly string[], onAnswer: (output: string | null) => void): void;
  /** `nmcli monitor`: `onLine` for whatever it prints, `onEnd` once. The returned function ends it. */
  monitor(onLine: () => void, onEnd: () => void): () => void;
  /** Calls back after `ms`; the returned function calls it off. */
  later(ms: number, action: () => void): () => void;
}

export class NetworkManager {
  #facts: ReadonlyMap<string, ManagedFacts> = new Map();
  #endMonitor: () => void = () => {};
  #cancelRestart: () => void = () => {};
  #cancelAsk: (() => void) | null = null;
  #restartMs = RESTART_FIRST_MS;
  #isAsking = false;
  #isStale = false;
  #isClosed = false;

  /** `onChange`: `factsOf` says something else of some device. */
  constructor(
    private readonly host: NmcliHost,
    private readonly onChange: () => void,
  ) {
    this.#watch();
    this.#ask();
  }

  /** null: NetworkManager does not know this device. */
  factsOf(device: string): ManagedFacts | null {
    return this.#facts.get(device) ?? null;
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRestart();
    this.#cancelAsk?.();
    this.#endMonitor();
  }

  #watch(): void {
    this.#endMonitor = this.host.monitor(
      () => {
        this.#restartMs = RESTART_FIRST_MS;
        this.#askSoon();
      },
      () => {
        if (this.#isClosed) return;
        this.#cancelRestart = this.host.later(this.#restartMs, () => {
          this.#watch();
          // What happened meanwhile nobody told.
          this.#askSoon();
        });
        this.#restartMs = Math.min(2 * this.#restartMs, RESTART_MAX_MS);
      },
    );
  }

  #askSoon(): void {
    this.#cancelAsk ??= this.host.later(SETTLE_MS, () => {
      this.#cancelAsk = null;
      this.#ask();
    });
  }

  #ask(): void {
    if (this.#isAsking) {
      this.#isStale = true;
      return;
    }
    this.#isAsking = true;
    this.host.ask(QUESTION, (output) => {
      this.#isAsking = false;
      if (this.#isClosed) return;
      const facts = output === null ? new Map() : parseDevices(output);
      const isNews = !isSame(facts, this.#facts);
      this.#facts = facts;
      if (isNews) this.onChange();
      if (this.#isStale) {
        this.#isStale = false;
        this.#ask();
      }
    });
  }
}

/** The whole group: naming a field that an older nmcli does not have would be an error. */
const QUESTION = ['-t', '-f', 'GENERAL', 'device', 'show'] as const;

const CONNECTIVITY: Readonly<Record<string, Connectivity>> = { 1: 'none', 2: 'portal', 3: 'limited', 4: 'full' };
const BEST_FIRST: readonly Connectivity[] = ['full', 'limited', 'portal', 'none'];

/**
 * `GENERAL.DEVICE:wlan0`, `GENERAL.METERED:yes (guessed)`, `GENERAL.IP4-CONNECTIVITY:4 (full)`, …: one value a line, an
 * empty line between devices. What is not understood is passed over.
 */
export function parseDevices(output: string): Map<string, ManagedFacts> {
  const devices = new Map<string, ManagedFacts>();
  for (const block of output.split(/\n\s*\n/)) {
    const values = new Map<string, string>();
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) values.set(line.slice(0, colon), line.slice(colon + 1).trim());
    }
    const name = values.get('GENERAL.DEVICE');
    if (name === undefined) continue;
    const metered = /^(yes|no)\b/.exec(values.get('GENERAL.METERED') ?? '')?.[1];
    const found = [values.get('GENERAL.IP4-CONNECTIVITY'), values.get('GENERAL.IP6-CONNECTIVITY')].map(
      (v) => CONNECTIVITY[v?.charAt(0) ?? ''],
    );
    devices.set(name, {
      isMetered: metered === undefined ? null : metered === 'yes',
      // The better family's: one that works is enough.
      connectivity: BEST_FIRST.find((c) => found.includes(c)) ?? null,
    });
  }
  return devices;
}

function isSame(a: ReadonlyMap<string, ManagedFacts>, b: ReadonlyMap<string, ManagedFacts>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, { isMetered, connectivity }] of a) {
    const other = b.get(name);
    if (other === undefined || other.isMetered !== isMetered || other.connectivity !== connectivity) return false;
  }
  return true;
}

/** The real nmcli, or null where there is none. `path`: where to look for it. */
export function findNmcli(path: string = SYSTEM_PATH): NmcliHost | null {
  const tool = findTool('nmcli', path);
  if (tool === null) return null;
  const env = { PATH: SYSTEM_PATH, LC_ALL: 'C' };
  return {
    ask(args, onAnswer) {
      const limits = { env, timeout: ASK_TIMEOUT_MS, maxBuffer: MAX_ANSWER_BYTES };
      execFile(tool, [...args], limits, (error, stdout) => onAnswer(error === null ? stdout : null));
    },
    monitor(onLine, onEnd) {
      const child: ChildProcess = spawn(tool, ['monitor'], { env, stdio: ['ignore', 'pipe', 'ignore'] });
      let hasEnded = false;
      const end = () => {
        if (!hasEnded) onEnd();
        hasEnded = true;
      };
      child.stdout!.on('data', onLine);
      child.once('error', end);
      child.once('exit', end);
      return () => {
        hasEnded = true;
        child.kill('SIGTERM');
      };
    },
    later(ms, action) {
      const timer = setTimeout(action, ms);
      return () => clearTimeout(timer);
    },
  };
}
