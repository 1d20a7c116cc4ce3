/** The subflows that the library opens by itself: which, when again, and when no more. */
import { mock } from 'node:test';
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { EngineEvent, JoinOptions, LinkInfo, SubflowInfo } from '../../../src/core/engine/api.js';
import type { HostLinks } from '../../../src/library/links.js';
import { Mesh } from '../../../src/library/mesh.js';
import { LoopbackConnection } from '../../support/loopback.js';

test.beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
test.afterEach.always(() => mock.timers.reset());

/** Joins as they are asked for, with ids from 1; -1 while `isRefusing`. */
class Joining extends LoopbackConnection {
  readonly joins: string[] = [];
  isRefusing = false;
  private nextSubflowId = 1;

  override info() {
    return { ...super.info(), subflows: [{ id: 0 } as SubflowInfo] };
  }

  override join(_nowUs?: number, options?: JoinOptions): number {
    const { localAddress, remote } = options!;
    this.joins.push(`${localAddress.text} > ${remote.address.text}:${remote.port}`);
    return this.isRefusing ? -1 : this.nextSubflowId++;
  }
}

function meshed() {
  const link = (id: number): LinkInfo => ({
    id,
    name: `a${id}`,
    mtuBytes: 1500,
    addresses: [parseIp(`10.${id}.0.1`)],
    isUp: true,
  });
  const open = new Map([1, 2].map((id) => [`a${id}`, link(id)]));
  const links = {
    open: (name: string) => open.get(name)!,
    sourceFor: ({ addresses }: LinkInfo) => addresses[0]!,
    isRouted: () => true,
  } as unknown as HostLinks;
  const connection = new Joining();
  const time = { nowUs: 0 };
  const host = { nowUs: () => time.nowUs, flushSoon: () => undefined };
  const sources = [1, 2].map((id) => ({ interfaceName: `a${id}`, local: null, isBackup: false }));
  const mesh = new Mesh(connection, links, host, sources, { link: link(1), local: parseIp('10.1.0.1') }, true);
  const at = { connectionId: connection.id, linkId: 2 };
  return {
    mesh,
    connection,
    /** Joins since the last call. */
    joins: () => connection.joins.splice(0),
    pass(ms: number) {
      time.nowUs += ms * 1000;
      mock.timers.tick(ms);
    },
    begin: () => mesh.onEvent({ type: 'connection-established', connectionId: connection.id, isMptcp: true }),
    established: (subflowId: number) => mesh.onEvent({ type: 'subflow-established', subflowId, ...at }),
    closed: (subflowId: number, why: string, isPermanent = false) =>
      mesh.onEvent({ type: 'subflow-closed', subflowId, why, isPermanent, ...at }),
    announced: (addressId: number, address: string) =>
      mesh.onEvent({
        type: 'address-announced',
        connectionId: connection.id,
        addressId,
        endpoint: { address: parseIp(address), port: -1 },
      } satisfies EngineEvent),
  };
}

const SECOND = '10.2.0.1 > 192.0.2.1:443';

test.serial('a subflow that fails is opened again after a second, then two, then four; a minute at most', (t) => {
  const m = meshed();
  m.begin();
  t.deepEqual(m.joins(), [SECOND]);
  let subflowId = 1;
  for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
    m.closed(subflowId++, 'timeout');
    m.pass(waitMs - 1);
    t.deepEqual(m.joins(), [], `after ${waitMs - 1} ms`);
    m.pass(1);
    t.deepEqual(m.joins(), [SECOND], `after ${waitMs} ms`);
  }
});

test.serial('one that worked for ten seconds is opened again after a second; a shorter one had failed as any', (t) => {
  const m = meshed();
  m.begin();
  m.joins();
  m.closed(1, 'timeout');
  m.pass(1000);
  m.established(2);
  m.pass(9_999);
  m.closed(2, 'aborted');
  m.joins();
  m.pass(1_999);
  t.deepEqual(m.joins(), []);
  m.pass(1);
  t.deepEqual(m.joins(), [SECOND]);
  m.established(3);
  m.pass(10_000);
  m.closed(3, 'aborted');
  m.pass(1000);
  t.deepEqual(m.joins(), [SECOND]);
});

test.serial('an orderly end is the end of it, until multipath is enabled again', (t) => {
  const m = meshed();
  m.begin();
  m.joins();
  m.closed(1, 'done');
  m.pass(1_000_000);
  m.mesh.joinAll();
  t.deepEqual(m.joins(), []);
  m.mesh.enable();
  t.deepEqual(m.joins(), [SECOND]);
});

test.serial('after a refusal that is not for now it waits a minute, then two; ten at most', (t) => {
  const m = meshed();
  m.begin();
  m.joins();
  let subflowId = 1;
  for (const waitMs of [60_000, 120_000, 240_000, 480_000, 600_000, 600_000]) {
    m.closed(subflowId++, 'refused', true);
    m.pass(waitMs - 1);
    t.deepEqual(m.joins(), [], `after ${waitMs - 1} ms`);
    m.pass(1);
    t.deepEqual(m.joins(), [SECOND], `after ${waitMs} ms`);
  }
});

test.serial('a subflow that the application ends is not opened again', (t) => {
  const m = meshed();
  m.begin();
  m.joins();
  m.mesh.leave(1);
  m.closed(1, 'aborted');
  m.pass(100_000);
  m.mesh.joinAll();
  t.deepEqual(m.joins(), []);
});

test.serial(
  'refused by our own side, it is tried again every 20 ms; a failure elsewhere does not wait for that',
  (t) => {
    const m = meshed();
    m.connection.isRefusing = true;
    m.begin();
    t.deepEqual(m.joins(), [SECOND]);
    m.pass(19);
    t.deepEqual(m.joins(), []);
    m.pass(1);
    t.deepEqual(m.joins(), [SECOND]);
    m.connection.isRefusing = false;
    m.pass(20);
    t.deepEqual(m.joins(), [SECOND]);
    m.pass(1000);
    t.deepEqual(m.joins(), []);
  },
);

test.serial(
  'addresses of the peer: each is joined once, again when it is announced again, no more when removed',
  (t) => {
    const m = meshed();
    m.begin();
    m.joins();
    m.announced(1, '192.0.2.2');
    const both = ['10.1.0.1 > 192.0.2.2:443', '10.2.0.1 > 192.0.2.2:443'];
    t.deepEqual(m.joins(), both);
    m.announced(1, '192.0.2.2');
    t.deepEqual(m.joins(), []);
    m.closed(2, 'refused', true);
    m.announced(1, '192.0.2.2');
    t.deepEqual(m.joins(), both.slice(0, 1));
    m.mesh.onEvent({ type: 'address-removed', connectionId: m.connection.id, addressId: 1 });
    m.closed(3, 'timeout');
    m.pass(5000);
    t.deepEqual(m.joins(), []);
    m.announced(1, '192.0.2.2');
    t.deepEqual(m.joins(), both);
  },
);

test.serial('no more than eight pairs, whatever the peer announces', (t) => {
  const m = meshed();
  m.begin();
  for (let i = 2; i < 60; i++) m.announced(i, `192.0.2.${i}`);
  t.is(m.joins().length, 7);
});
