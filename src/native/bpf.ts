/**
 * Classic BPF (linux/filter.h) for packet sockets: admits TCP to our ports, and ICMP/ICMPv6 errors that quote TCP from
 * them (RFC 792, RFC 4443), unfragmented and addressed to this host. The kernel drops the rest before it costs us
 * anything. Instruction: u16 code, u8 jump if true, u8 jump if false, u32 operand.
 */

/** One filter covers at most this many separate port ranges (the kernel limits a filter's length and memory). */
export const MAX_PORT_RANGES = 512;

const LD_H_ABS = 0x28;
const LD_B_ABS = 0x30;
const LD_H_IND = 0x48;
const LD_B_IND = 0x50;
const LDX_B_MSH = 0xb1; // X = 4 * (byte & 0xf): an IPv4 header length
const JA = 0x05;
const JEQ = 0x15;
const JGT = 0x25;
const JGE = 0x35;
const JSET = 0x45;
const ALU_AND = 0x54;
const ALU_LSH = 0x64;
const ALU_ADD_X = 0x0c;
const TAX = 0x07;
const RET = 0x06;

/** Ancillary loads: SKF_AD_OFF (-0x1000) + what. */
const AD_PROTOCOL = 0xffff_f000;
const AD_PKTTYPE = 0xffff_f004;
const AD_VLAN_TAG_PRESENT = 0xffff_f030;
const PACKET_HOST = 0;

const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const IPPROTO_ICMPV6 = 58;

const WHOLE_PACKET = 0x7fff_ffff;
/** More fragments, or a fragment offset. */
const FRAGMENT_BITS = 0x3fff;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, operand: number];

const DROP: Instruction = [RET, 0, 0, 0];
/** Stands for a jump to the search for the port in A. */
const SEARCH: Instruction = [JA, 0, 0, 0];
/** Stands for the distance to a leaf's accept. */
const TO_ACCEPT = -1;
const LEAF_RANGES = 8;

/** `ret #0`: nothing passes. Keeps a listener silent (the guard), and a packet socket without ports. */
export function rejectAll(): Uint8Array {
  return assemble([DROP]);
}

/** The filter for a device whose packets have `linkBytes` of header before IP (14 Ethernet, 0 header-less). */
export function portFilter(ports: Iterable<number>, linkBytes: number): Uint8Array {
  const ranges = toRanges(ports);
  if (ranges.length === 0) return rejectAll();
  if (ranges.length > MAX_PORT_RANGES) throw new RangeError(`more than ${MAX_PORT_RANGES} port ranges in one filter`);

  // Each block drops, or ends with the port in A and goes on to the search at the end of the program.
  const tcp4: Instruction[] = [
    ...unless(LD_H_ABS, linkBytes + 6, JSET, FRAGMENT_BITS, 'drop if equal'),
    [LDX_B_MSH, 0, 0, linkBytes],
    [LD_H_IND, 0, 0, linkBytes + 2],
    SEARCH,
  ];
  const quoted4 = linkBytes + 8;
  const icmp4: Instruction[] = [
    [LDX_B_MSH, 0, 0, linkBytes],
    // Destination unreachable, time exceeded, parameter problem.
    [LD_B_IND, 0, 0, linkBytes],
    [JEQ, 3, 0, 3],
    [JEQ, 2, 0, 11],
    [JEQ, 1, 0, 12],
    DROP,
    [LD_B_IND, 0, 0, quoted4 + 9],
    [JEQ, 1, 0, IPPROTO_TCP],
    DROP,
    // X += quoted header length: X then leads to the quoted source port.
    [LD_B_IND, 0, 0, quoted4],
    [ALU_AND, 0, 0, 0xf],
    [ALU_LSH, 0, 0, 2],
    [ALU_ADD_X, 0, 0, 0],
    [TAX, 0, 0, 0],
    [LD_H_IND, 0, 0, quoted4],
    SEARCH,
  ];
  const tcp6: Instruction[] = [[LD_H_ABS, 0, 0, linkBytes + 40 + 2], SEARCH];
  const icmp6: Instruction[] = [
    // Types 1 to 4: unreachable, too big, time exceeded, parameter problem.
    [LD_B_ABS, 0, 0, linkBytes + 40],
    [JGT, 1, 0, 4],
    [JGE, 1, 0, 1],
    DROP,
    [LD_B_ABS, 0, 0, linkBytes + 48 + 6],
    [JEQ, 1, 0, IPPROTO_TCP],
    DROP,
    [LD_H_ABS, 0, 0, linkBytes + 48 + 40],
    SEARCH,
  ];
  const ip4: Instruction[] = [
    [LD_B_ABS, 0, 0, linkBytes + 9],
    ...branch(IPPROTO_TCP, tcp4),
    ...branch(IPPROTO_ICMP, icmp4),
    DROP,
  ];
  const ip6: Instruction[] = [
    [LD_B_ABS, 0, 0, linkBytes + 6],
    ...branch(IPPROTO_TCP, tcp6),
    ...branch(IPPROTO_ICMPV6, icmp6),
    DROP,
  ];
  const program: Instruction[] = [
    ...unless(LD_B_ABS, AD_PKTTYPE, JEQ, PACKET_HOST, 'drop unless equal'),
    // A VLAN's packets also pass its parent device; they belong to the VLAN's own port.
    ...unless(LD_B_ABS, AD_VLAN_TAG_PRESENT, JEQ, 0, 'drop unless equal'),
    [LD_H_ABS, 0, 0, AD_PROTOCOL],
    ...branch(ETH_P_IP, ip4),
    ...branch(ETH_P_IPV6, ip6),
    DROP,
  ];
  const linked = program.map((ins, i): Instruction => (ins === SEARCH ? [JA, 0, 0, program.length - i - 1] : ins));
  return assemble([...linked, ...search(ranges)]);
}

function unless(
  load: number,
  at: number,
  test: number,
  value: number,
  what: 'drop if equal' | 'drop unless equal',
): Instruction[] {
  const [ifTrue, ifFalse] = what === 'drop if equal' ? [0, 1] : [1, 0];
  return [[load, 0, 0, at], [test, ifTrue, ifFalse, value], DROP];
}

/** `block` (which never falls out of its end) if A equals `value`, else on behind it. */
function branch(value: number, block: readonly Instruction[]): Instruction[] {
  // Conditional jumps reach 255 instructions, JA any distance.
  return [[JEQ, 1, 0, value], [JA, 0, 0, block.length], ...block];
}

interface PortRange {
  readonly first: number;
  readonly last: number;
}

function toRanges(ports: Iterable<number>): PortRange[] {
  const sorted = [...new Set(ports)].sort((a, b) => a - b);
  const ranges: { first: number; last: number }[] = [];
  for (const port of sorted) {
    if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw new RangeError(`not a port: ${port}`);
    const previous = ranges.at(-1);
    if (previous !== undefined && previous.last === port - 1) previous.last = port;
    else ranges.push({ first: port, last: port });
  }
  return ranges;
}

/** Accepts if A is in one of the sorted ranges, else drops: a binary search in straight code, linear at the leaves. */
function search(ranges: readonly PortRange[]): Instruction[] {
  if (ranges.length <= LEAF_RANGES) {
    const tests = ranges.flatMap(({ first, last }): Instruction[] =>
      first === last
        ? [[JEQ, TO_ACCEPT, 0, first]]
        : [
            [JGE, 0, 1, first],
            [JGT, 0, TO_ACCEPT, last],
          ],
    );
    // Behind the tests: drop, then accept.
    const resolve = (target: number, i: number) => (target === TO_ACCEPT ? tests.length - i : target);
    return [
      ...tests.map(([code, t, f, k], i): Instruction => [code, resolve(t, i), resolve(f, i), k]),
      DROP,
      [RET, 0, 0, WHOLE_PACKET],
    ];
  }
  const middle = ranges.length >> 1;
  const low = search(ranges.slice(0, middle));
  const high = search(ranges.slice(middle));
  return [[JGE, 0, 1, ranges[middle]!.first], [JA, 0, 0, low.length], ...low, ...high];
}

function assemble(program: readonly Instruction[]): Uint8Array {
  const out = Buffer.alloc(program.length * 8);
  program.forEach(([code, ifTrue, ifFalse, operand], i) => {
    out.writeUInt16LE(code, i * 8);
    out[i * 8 + 2] = ifTrue;
    out[i * 8 + 3] = ifFalse;
    out.writeUInt32LE(operand >>> 0, i * 8 + 4);
  });
  return out;
}
