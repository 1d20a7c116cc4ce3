/**
 * The middleboxes of the simulator on real packets, between our engine and the kernel's MPTCP, in both roles. Where the
 * kernel differs from RFC 8684 the difference is named here and in docs/decisions/0007-multipath.md.
 */
import { createHash } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { byteStream } from '../support/byte-stream.js';
import { KernelLab, type KernelOutcome } from '../support/kernel-wire.js';
import {
  BYTES,
  changed,
  checksums,
  dropped,
  type MiddleboxCase,
  midLife,
  reshaped,
  stripped,
  translated,
} from '../support/middlebox-cases.js';
import { streamOf } from '../support/through-boxes.js';

type Role = 'client' | 'server';
type Counters = Readonly<Record<string, number>>;

const lab = new KernelLab('mb');
test.after.always(() => lab.close());

/** Whatever these count, somebody gave up MPTCP, or a mapping was refused. */
const TROUBLE =
  /Fallback|MPFail|InfiniteMap|DataCsumErr|DSSCorruption|DSSNotMatching|NoTokenFound|HMacFailure|Blackhole/;

/** Kernel counters of trouble where options are lost in the handshake: the kernel as the server, and as the client. */
const HANDSHAKE: Readonly<Record<string, readonly [Counters, Counters]>> = {
  'options stripped from the SYN': [{}, { MPCapableFallbackSYNACK: 1 }],
  'options stripped from the SYN/ACK': [{ MPCapableFallbackACK: 1 }, { MPCapableFallbackSYNACK: 1 }],
};

/** Where they are lost later, who notices first depends on whose data is quicker; an infinite mapping may tell it. */
const FALLBACK = /^(MPCapableFallbackACK|MPCapableDataFallback|DssFallback)$/;

function kernelTest(what: MiddleboxCase, expectTrouble: (t: ExecutionContext, o: KernelOutcome, role: Role) => void) {
  for (const role of ['client', 'server'] as const)
    test.serial(`we are the ${role}: ${what.name}`, async (t) => {
      const o = await lab.run(what, role, false);
      report(t, o);
      checkStreams(t, what, role, o);
      t.is(o.info!.isMptcp, what.isMptcp, o.info!.fallbackReason ?? 'no fallback');
      expectTrouble(t, o, role);
    });
}

function report(t: ExecutionContext, o: KernelOutcome): void {
  t.log(`${Math.round(o.ms)} ms, kernel ${JSON.stringify(o.kernel)}, ours ${JSON.stringify(o.counters)}`);
}

/** Both applications have exactly what was sent, or what a middlebox made of it, and the end. */
function checkStreams(t: ExecutionContext, what: MiddleboxCase, role: Role, o: KernelOutcome): void {
  const { toUs, toKernel } = expected(what, role);
  t.is(o.received.length, toUs.length, 'bytes we got');
  t.is(Buffer.compare(o.received, toUs), 0, 'what we got');
  t.true(o.hasEnded, 'our end');
  t.deepEqual(
    { received: o.peer.received, sha256: o.peer.sha256, hasEnded: o.peer.hasEnded },
    { received: toKernel.length, sha256: sha256(toKernel), hasEnded: true },
    'what the kernel’s application got',
  );
}

function expected({ bytes = BYTES, altered }: MiddleboxCase, role: Role): { toUs: Uint8Array; toKernel: Uint8Array } {
  const ours = streamOf('client', bytes);
  const theirs = new Uint8Array(Buffer.concat([...byteStream('kernel', bytes)]));
  const apply = (sent: Uint8Array, isToUs: boolean) =>
    altered !== undefined && (altered.to === role) === isToUs ? altered.how(sent) : sent;
  return { toUs: apply(theirs, true), toKernel: apply(ours, false) };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function trouble(o: KernelOutcome): Counters {
  return Object.fromEntries(Object.entries(o.kernel).filter(([name]) => TROUBLE.test(name)));
}

const none = (t: ExecutionContext, o: KernelOutcome) => void t.deepEqual(trouble(o), {});

for (const what of stripped)
  kernelTest(what, (t, o, role) => {
    const exact = what.isMptcp ? {} : HANDSHAKE[what.name]?.[role === 'client' ? 0 : 1];
    const counters = trouble(o);
    if (exact !== undefined) {
      t.deepEqual(counters, exact);
      return;
    }
    const names = Object.keys(counters).filter((name) => name !== 'InfiniteMapRx');
    t.true(names.length === 1 && FALLBACK.test(names[0]!) && counters[names[0]!] === 1, JSON.stringify(counters));
  });

for (const what of [...reshaped.filter(({ name }) => !/coalesced/.test(name)), ...translated]) kernelTest(what, none);

for (const what of [...checksums, ...changed.filter(({ name }) => !/put in, with/.test(name))])
  kernelTest(what, (t, o, role) => {
    const { checksum = [false, false], altered, paths = 1 } = what;
    const isToServer = altered?.to === 'server' || paths === 2;
    const isNoticed = (checksum[0] || checksum[1]) && (altered !== undefined || paths === 2);
    if (!isNoticed) {
      none(t, o);
      return;
    }
    const isKernelReceiver = isToServer === (role === 'client');
    const isFirst = /very first/.test(what.name);
    if (isKernelReceiver) {
      t.is(o.kernel.DataCsumErr, 1);
      // Linux says MP_FAIL only if an earlier mapping was right; else it just stops being MPTCP.
      if (isFirst) t.like(o.kernel, { DssFallback: 1 });
      else t.like([o.kernel, o.counters], [{ MPFailTx: 1 }, { MPTcpExtMPFailRx: 1 }]);
    } else t.like([o.counters, o.kernel], [{ MPTcpExtDataCsumErr: 1, MPTcpExtMPFailTx: 1 }, { MPFailRx: 1 }]);
    if (paths === 2) t.is(isKernelReceiver ? o.kernel.MPRstTx : o.kernel.MPRstRx, 1);
  });

/** Segments or bytes that no longer fit their mappings: Linux may call it corruption, and then drops what it has ACKed. */
for (const what of [...changed.filter(({ name }) => /put in, with/.test(name)), ...reshaped.filter(isCoalescing)])
  for (const role of ['client', 'server'] as const)
    test.serial(
      `we are the ${role}: ${what.name} (or the connection breaks, as the kernel would have it)`,
      async (t) => {
        const o = await lab.run(what, role, isCoalescing(what));
        report(t, o);
        const { DSSCorruptionFallback = 0, DSSCorruptionReset = 0, DssFallback = 0 } = o.kernel;
        const hasKernelGivenUp =
          DSSCorruptionFallback + DSSCorruptionReset + (isCoalescing(what) ? DssFallback : 0) > 0;
        const { toUs } = expected(what, role);
        if (!hasKernelGivenUp) checkStreams(t, what, role, o);
        else {
          t.is(
            Buffer.compare(o.received, toUs.subarray(0, o.received.length)),
            0,
            'what we got is right as far as it goes',
          );
          t.true(!o.hasEnded || o.received.length === toUs.length, 'and no end is claimed before it');
        }
      },
    );

function isCoalescing({ name }: MiddleboxCase): boolean {
  return name.startsWith('segments coalesced');
}

for (const what of midLife.filter(({ paths }) => paths === 2)) kernelTest(what, none);

for (const what of midLife.filter(({ paths }) => paths !== 2))
  for (const role of ['client', 'server'] as const)
    test.serial(`we are the ${role}: ${what.name}: no remedy, and no end is claimed`, async (t) => {
      const o = await lab.run(what, role, true);
      report(t, o);
      const { toUs } = expected(what, role);
      t.is(Buffer.compare(o.received, toUs.subarray(0, o.received.length)), 0);
      t.true(!o.hasEnded || o.received.length === toUs.length);
    });

for (const what of dropped)
  kernelTest(what, (t, o, role) => {
    if (role === 'client') t.like(o.counters, { MPTcpExtMPCapableSYNTXDrop: 1, MPTcpExtBlackhole: 1 });
    else t.like(o.kernel, { MPCapableSYNTXDrop: 1, Blackhole: 1 });
    t.true(o.ms > 3000);
  });
