import test from 'ava';
import type { FlowsConfig } from '../../../src/config/types.js';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi, SubflowInfo } from '../../../src/core/engine/api.js';
import type { TrafficMode } from '../../../src/core/scheduler/modes.js';
import { Apps } from '../../../src/daemon/flows/apps.js';
import { DomainTable } from '../../../src/daemon/flows/domains.js';
import { FlowJudge } from '../../../src/daemon/flows/judge.js';
import { FlowRegistry, type OpenFlow } from '../../../src/daemon/flows/registry.js';

const WIFI = 1;
const LTE = 2;

/** A connection with a subflow on WiFi and one on LTE, which notes what is asked of it. */
class FakeConnection {
  readonly calls: string[] = [];
  readonly subflows = [WIFI, LTE].map((linkId) => ({
    id: linkId,
    linkId,
    state: 'established',
    isStalled: false,
    isBackupLocal: false,
    srttUs: linkId * 10_000,
  }));

  setScheduler(name: string): void {
    this.calls.push(name);
  }
  setLocalBackup(_nowUs: number, id: number, backup: boolean): void {
    this.subflows.find((s) => s.id === id)!.isBackupLocal = backup;
    this.calls.push(`local ${id} ${backup}`);
  }
  setBackup(_nowUs: number, id: number, backup: boolean): void {
    this.calls.push(`peer ${id} ${backup}`);
  }
  info() {
    return { subflows: this.subflows as unknown as SubflowInfo[] };
  }
}

class Lab {
  nowUs = 0;
  readonly connection = new FakeConnection();
  readonly told: string[] = [];
  readonly judge: FlowJudge;
  readonly registry: FlowRegistry;
  readonly flows: OpenFlow[] = [];
  readonly domains = new DomainTable();
  mode: TrafficMode = 'auto';
  metered: ReadonlySet<number> = new Set([LTE]);

  constructor(flows: Partial<FlowsConfig>) {
    const host = { nowUs: () => this.nowUs, mode: () => this.mode, hasWay: () => true };
    const apps = new Apps({ owner: () => null, groups: () => new Map() });
    this.judge = new FlowJudge({ default: 'relay', rules: [], ...flows } as FlowsConfig, host, this.domains, apps);
    this.registry = new FlowRegistry(
      {
        nowUs: () => this.nowUs,
        isMetered: (linkId) => this.metered.has(linkId),
        tellPeer: (_c, scheduler) => this.told.push(scheduler),
        scheduler: () => 'adaptive',
      },
      this.judge,
      [{ origin: 'tun', list: () => this.flows }],
    );
  }

  begin(): { bytesUp: number; bytesDown: number } {
    const target = { host: '192.0.2.1', port: 443, address: parseIp('192.0.2.1'), source: null };
    const flow = {
      id: this.flows.length + 1,
      target,
      decision: this.judge.decide(target),
      source: null,
      startedUs: this.nowUs,
      state: 'open' as const,
      connection: this.connection as unknown as ConnectionApi,
      bytesUp: 0,
      bytesDown: 0,
    };
    this.flows.push(flow);
    return flow;
  }

  /** Looks every 100 ms, and says what was asked of the connection. */
  run(ms: number, each: () => void = () => {}): string[] {
    const from = this.connection.calls.length;
    for (let at = 0; at < ms; at += 100) {
      this.nowUs += 100_000;
      each();
      this.registry.look();
    }
    return this.connection.calls.slice(from);
  }
}

const bytesRule = (bytesOver: number, mode: 'aggregate' | 'handover', copiesBytes: number | null = null) => ({
  match: { protocol: null, to: [], port: [], domain: [], app: { cgroup: null, uid: null }, dscp: [], bytesOver },
  use: null,
  mode,
  copiesBytes,
});

test('auto: quickest path at first; bulk stays off the metered link while another works, and goes back when it is over', (t) => {
  const lab = new Lab({});
  const flow = lab.begin();
  t.deepEqual(lab.run(100), ['interactive']);
  const download = () => {
    flow.bytesDown += 200_000;
  };
  t.deepEqual(lab.run(1_000, download), ['patient', 'local 2 true', 'peer 2 true']);
  t.deepEqual(lab.told, ['interactive', 'patient'], 'the peer sends so, too');
  const wifi = lab.connection.subflows[0]!;
  wifi.isStalled = true;
  t.deepEqual(lab.run(600, download), ['local 2 false', 'peer 2 false'], 'WiFi does not work: LTE carries it');
  wifi.isStalled = false;
  t.deepEqual(lab.run(600, download), ['local 2 true', 'peer 2 true']);
  t.deepEqual(lab.run(4_000), ['interactive', 'local 2 false', 'peer 2 false']);
});

test('a free path that is silent is not held back for it: nothing has to be said before it carries again', (t) => {
  const lab = new Lab({});
  lab.metered = new Set();
  const flow = lab.begin();
  const download = () => {
    flow.bytesDown += 200_000;
  };
  t.deepEqual(lab.run(1_000, download), ['interactive', 'patient']);
  lab.connection.subflows[0]!.isStalled = true;
  t.deepEqual(lab.run(1_000, download), []);
  lab.connection.subflows[0]!.isStalled = false;
  t.deepEqual(lab.run(1_000, download), []);
});

test('a rule by bytes carried changes the mode while the flow runs', (t) => {
  const lab = new Lab({ rules: [bytesRule(500_000, 'handover')] });
  const flow = lab.begin();
  lab.run(200);
  flow.bytesUp = 500_001;
  t.deepEqual(lab.run(1_000), ['min-rtt', 'local 2 true', 'peer 2 true']);
  t.is(lab.registry.entries()[0]!.verdict.reason, 'flows.rules[0]: over 500000 bytes');
  // The one path dies: the other takes over, and keeps it when the first is back.
  lab.connection.subflows[0]!.isStalled = true;
  t.deepEqual(lab.run(600), ['local 1 true', 'peer 1 true', 'local 2 false', 'peer 2 false']);
});

test('an order for all traffic holds for flows that are open, unless their rule has a mode of its own', (t) => {
  const lab = new Lab({});
  lab.begin();
  t.deepEqual(lab.run(200), ['interactive']);
  lab.mode = 'redundant';
  t.deepEqual(lab.run(200), ['redundant']);
  t.is(lab.registry.entries()[0]!.mode, 'redundant');
  const own = new Lab({
    rules: [
      { ...bytesRule(0, 'aggregate'), use: 'relay', match: { ...bytesRule(0, 'aggregate').match, bytesOver: null } },
    ],
  });
  own.begin();
  t.deepEqual(own.run(200), ['patient']);
  own.mode = 'redundant';
  t.deepEqual(own.run(200), []);
});

test('copies until the budget is used up', (t) => {
  const lab = new Lab({});
  const flow = lab.begin();
  (lab.flows[0] as { decision: object }).decision = { ...lab.flows[0]!.decision, copiesBytes: 30_000 };
  t.deepEqual(lab.run(300), ['redundant']);
  flow.bytesDown = 30_000;
  t.deepEqual(lab.run(300), ['interactive']);
  t.deepEqual(lab.told, ['redundant', 'interactive']);
});

test('entries show names, rates and class; a flow that is over is forgotten', (t) => {
  const lab = new Lab({});
  lab.domains.note(0, parseIp('192.0.2.1'), 'a.com');
  const flow = lab.begin();
  lab.run(2_000, () => {
    flow.bytesUp += 1_250;
    flow.bytesDown += 125_000;
  });
  const [entry] = lab.registry.entries();
  t.like(entry, {
    origin: 'tun',
    names: ['a.com'],
    txBps: 100_000,
    rxBps: 10_000_000,
    class: 'bulk',
    scheduler: 'patient',
  });
  t.is(lab.judge.taken.get(-1), 1);
  lab.flows.length = 0;
  t.deepEqual(lab.registry.entries(), []);
});

test('a path that the policy holds back is not ours to let go', (t) => {
  const lab = new Lab({});
  lab.connection.subflows[1]!.isBackupLocal = true;
  const flow = lab.begin();
  t.deepEqual(
    lab.run(1_000, () => {
      flow.bytesDown += 200_000;
    }),
    ['interactive', 'patient'],
  );
});
