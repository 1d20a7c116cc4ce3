/**
 * `mptun run`: one daemon from start to end. It answers on its control socket from the first moment, whatever the state
 * of the links; SIGTERM and SIGINT end it cleanly, SIGHUP reloads what can be reloaded.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { PinoPretty as pretty } from 'pino-pretty';
import { type Values, valuesOf } from '../config/diff.js';
import { ConfigErrors } from '../config/errors.js';
import { type LoadedConfig, loadConfigInDetail } from '../config/load.js';
import type { Config } from '../config/types.js';
import type { CommandResult, HandoverReceipt, TunnelState } from '../control/protocol.js';
import { TUNNEL_KEEPALIVE } from '../core/engine/config.js';
import { ClientDaemon } from './client.js';
import { ClientView } from './client-view.js';
import { ControlServer } from './control-server.js';
import { Documents } from './documents.js';
import { Driver } from './driver.js';
import { Journal } from './journal.js';
import { SystemdNotifier } from './notify-systemd.js';
import { ReceiptFile } from './receipt-file.js';
import { receiptText } from './receipts.js';
import { planReload } from './reload.js';
import { ServerDaemon } from './server.js';
import { ServerView } from './server-view.js';
import type { SideView, Standing } from './side-view.js';
import { loadIdentity } from './tls.js';
import { collectSeldom, setUpV8 } from './v8.js';
import { warmUp } from './warm-up.js';

/** Rates are sampled this often even when nobody asks. */
const SAMPLE_MS = 1_000;
/** Receipts that have settled are looked for this often, and limits are shared anew. */
const LOOK_MS = 250;

/** Runs until a signal ends it; resolves to the exit code. Throws what stops it from starting. */
export async function runDaemon(loaded: LoadedConfig): Promise<number> {
  setUpV8();
  warmUp();
  collectSeldom();
  const daemon = await Daemon.start(loaded);
  return daemon.ended;
}

class Daemon {
  readonly ended: Promise<number>;
  private readonly notifier = SystemdNotifier.fromEnvironment();
  private control: ControlServer | null = null;
  private state: TunnelState = 'starting';
  private end: (code: number) => void = () => {};
  private sampler: NodeJS.Timeout | null = null;
  private lookTimer: NodeJS.Timeout | null = null;
  private readonly receiptFile: ReceiptFile;
  private readonly view: SideView;
  private readonly documents: Documents;

  private constructor(
    private config: Config,
    /** What is in force, key by key. */
    private values: Values,
    private readonly log: Logger,
    private readonly journal: Journal,
    private readonly driver: Driver,
    private readonly client: ClientDaemon | null,
    private readonly server: ServerDaemon | null,
  ) {
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
    this.receiptFile = new ReceiptFile(join(config.stateDir, 'receipts.json'), (message) =>
      journal.record('warn', 'problem', message),
    );
    this.view = client === null ? new ServerView(server!) : new ClientView(client);
    this.documents = new Documents({
      view: this.view,
      driver,
      journal,
      receiptFile: this.receiptFile,
      config: () => this.config,
      standing: () => this.standing(),
      reload: () => this.reload(),
    });
  }

  static async start(loaded: LoadedConfig): Promise<Daemon> {
    const { config } = loaded;
    const log = logger(config);
    const journal = new Journal(log);
    const identity = await loadIdentity(config.keyFile);
    let client: ClientDaemon | null = null;
    let server: ServerDaemon | null = null;
    const driver = new Driver(
      config.name,
      {
        congestion: config.traffic.congestion,
        scheduler: config.traffic.scheduler,
        checksum: config.traffic.checksum,
        receiveBufferBytes: config.traffic.receiveBufferBytes,
        // The client is the one behind a NAT.
        tcp: config.mode === 'client' ? TUNNEL_KEEPALIVE : {},
      },
      {
        onEvent: (event) => {
          logEngineEvent(journal, event);
          client?.onEvent(event);
          server?.onEvent(event);
        },
        onFlushed: () => {
          client?.onFlushed();
          server?.onFlushed();
        },
        onReceived: (linkId) => client?.onReceived(linkId),
        onProblem: (message) => journal.record('warn', 'problem', message),
      },
    );
    try {
      if (config.mode === 'client') client = new ClientDaemon(config, driver, journal, identity);
      else server = new ServerDaemon(config, driver, journal, identity);
      const daemon = new Daemon(config, valuesOf(loaded), log, journal, driver, client, server);
      daemon.control = await ControlServer.start(daemon.documents, {
        socketPath: config.control.socketPath,
        metricsListen: config.metrics.listen,
      });
      daemon.run();
      return daemon;
    } catch (error) {
      client?.close();
      server?.close();
      driver.close();
      throw error;
    }
  }

  private run(): void {
    process.on('SIGTERM', this.onStop);
    process.on('SIGINT', this.onStop);
    process.on('SIGHUP', this.onReload);
    this.journal.record(
      'info',
      'started',
      `mptun ${this.config.mode} ${this.config.name}, key sha256/${this.ownPin()}`,
    );
    this.client?.start();
    this.server?.start();
    this.sampler = setInterval(() => this.sample(), SAMPLE_MS);
    this.lookTimer = setInterval(() => {
      for (const book of this.view.receipts) book.onTimer(this.driver.nowUs());
    }, LOOK_MS);
    (this.client ?? this.server)!.onReceipt = (receipt) => this.onReceipt(receipt);
    if (this.client !== null) this.client.onStateChange = () => this.updateState();
    this.updateState();
    this.notifier.ready(`${this.config.mode} is running`);
    this.notifier.startWatchdog(() => true);
  }

  private ownPin(): string {
    return this.client?.ownPin ?? this.server?.ownPin ?? '';
  }

  private readonly onStop = (): void => {
    void this.stop();
  };

  private readonly onReload = (): void => {
    void this.reload();
  };

  private async stop(): Promise<void> {
    if (this.state === 'stopping') return;
    this.state = 'stopping';
    this.notifier.stopping('stopping');
    this.journal.record('info', 'stopping', 'stopping');
    process.off('SIGHUP', this.onReload);
    if (this.sampler !== null) clearInterval(this.sampler);
    if (this.lookTimer !== null) clearInterval(this.lookTimer);
    let code = 0;
    for (const close of [
      () => this.client?.close(),
      () => this.server?.close(),
      () => this.receiptFile.close(),
      () => this.driver.close(),
      () => this.notifier.close(),
    ]) {
      try {
        close();
      } catch (error) {
        // Every part is taken down, whatever happens to the others.
        this.journal.record('error', 'stop-failed', (error as Error).message);
        code = 1;
      }
    }
    await this.control?.close();
    rmSync(this.config.control.socketPath, { force: true });
    process.off('SIGTERM', this.onStop);
    process.off('SIGINT', this.onStop);
    this.end(code);
  }

  private sample(): void {
    this.updateState();
    this.documents.status();
    for (const book of this.view.receipts) book.sample(this.driver.nowUs());
  }

  private onReceipt(receipt: Omit<HandoverReceipt, 'id'>): void {
    const numbered = this.receiptFile.add(receipt);
    const { session, from } = receipt;
    const data = { ...numbered };
    this.journal.record('info', 'handover', receiptText(receipt), { session, path: from.join('+') || null, data });
  }

  private updateState(): void {
    const { state } = this.standing();
    if (state === this.state) return;
    this.journal.record('info', 'tunnel-state', `${this.state} → ${state}`, { data: { from: this.state, to: state } });
    this.state = state;
    this.notifier.status(state);
  }

  /** What the state is, and why. */
  private standing(): Standing {
    return this.state === 'stopping' ? { state: this.state, reason: null } : this.view.standing();
  }

  private async reload(): Promise<CommandResult> {
    this.notifier.reloading(this.driver.nowUs());
    let result: CommandResult;
    try {
      const next = loadConfigInDetail(this.config.file);
      if (next.config.mode !== this.config.mode) {
        result = { ok: false, message: `this is a ${this.config.mode}: its mode needs a restart` };
      } else {
        const { config, values, result: told } = planReload(this.config, this.values, next);
        if (config.mode === 'client') this.client!.reload(config);
        else this.server!.reload(config);
        this.config = config;
        this.values = values;
        this.log.level = config.log.level;
        result = told;
      }
    } catch (error) {
      const details = error instanceof ConfigErrors ? error.message.split('\n') : [(error as Error).message];
      result = { ok: false, message: 'the new configuration is not valid; the old one stays in force', details };
    }
    this.journal.record(result.ok ? 'info' : 'error', 'reload', result.message, { data: { details: result.details } });
    this.notifier.ready(result.message);
    return result;
  }
}

function logger(config: Config): Logger {
  const { level, format } = config.log;
  const isPretty = format === 'pretty' || (format === 'auto' && process.stdout.isTTY);
  return isPretty ? pino({ level }, pretty({ sync: true, colorize: process.stdout.isTTY })) : pino({ level });
}

function logEngineEvent(journal: Journal, event: { type: string } & Record<string, unknown>): void {
  if (event.type === 'drop') return;
  const { type, ...data } = event;
  journal.record('debug', type, Object.values(data).join(' '), { data });
}
