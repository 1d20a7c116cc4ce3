/** The section `flows` of a client's configuration: which way each flow takes, and how. Fields as in schema.ts. */
import { z } from 'zod';

import { bool, duration, host, integer, listenAddress, oneOf, orNull, port, prefix, size, text } from './fields.js';
import { FLOW_USES, TRAFFIC_MODES } from './types.js';

/** RFC 2474, 2597, 3246, 5865, 8622: the names of code points. */
const DSCP_NAMES: ReadonlyMap<string, number> = new Map([
  ...Array.from({ length: 8 }, (_, n) => [`cs${n}`, 8 * n] as const),
  ...[1, 2, 3, 4].flatMap((c) => [1, 2, 3].map((d) => [`af${c}${d}`, 8 * c + 2 * d] as const)),
  ['ef', 46],
  ['va', 44],
  ['le', 1],
]);

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** `443` or `8000-8999`, or null. */
export function parsePortRange(value: unknown): PortRange | null {
  const m = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value));
  if (m === null) return null;
  const from = Number(m[1]);
  const to = Number(m[2] ?? m[1]);
  return from >= 1 && from <= to && to <= 65535 ? { from, to } : null;
}

/** 0 to 63, or a name such as `ef`, `af41`, `cs1`; null if it is neither. */
export function parseDscp(value: unknown): number | null {
  if (typeof value === 'string') return DSCP_NAMES.get(value.toLowerCase()) ?? null;
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 63 ? (value as number) : null;
}

/** A domain with wildcards: labels of letters, digits, - and _, and `*` anywhere; `*` alone is every name. */
function isDomainPattern(value: string): boolean {
  return value.length <= 253 && /^[A-Za-z0-9*_-]{1,63}(\.[A-Za-z0-9*_-]{1,63})*$/.test(value);
}

const UNKNOWN = (value: unknown, expected: string) =>
  `${value !== null && typeof value === 'object' ? 'a list or map' : JSON.stringify(value)} is not valid here\ngive ${expected}`;

const portRange = () =>
  z.custom<number | string>((value) => parsePortRange(value) !== null, {
    error: (issue) => UNKNOWN(issue.input, 'a port such as 443, or a range such as 8000-8999'),
  });

const dscp = () =>
  z.custom<number | string>((value) => parseDscp(value) !== null, {
    error: (issue) => UNKNOWN(issue.input, 'a code point from 0 to 63, or a name such as ef, af41 or cs1'),
  });

const flowRule = z.strictObject({
  match: z
    .strictObject({
      protocol: orNull(oneOf('tcp', 'udp')).default(null),
      to: z.array(prefix()).default([]),
      port: z.array(portRange()).default([]),
      domain: z
        .array(text('a domain such as example.com, or *.example.com for those below it', isDomainPattern))
        .default([]),
      app: z
        .strictObject({
          cgroup: orNull(
            text('a cgroup such as /user.slice/*/app-firefox*', (v) => v.startsWith('/') && v.length <= 512),
          ).default(null),
          uid: orNull(integer('a user id', 0, 0xffff_fffe)).default(null),
        })
        .prefault({}),
      dscp: z.array(dscp()).default([]),
      bytes_over: orNull(size()).default(null),
    })
    .prefault({}),
  use: orNull(oneOf(...FLOW_USES)).default(null),
  mode: orNull(oneOf(...TRAFFIC_MODES)).default(null),
  copies: orNull(size()).default(null),
});

export const flowsSchema = () =>
  z
    .strictObject({
      default: oneOf(...FLOW_USES).default('auto'),
      rules: z.array(flowRule).default([]),
      relay: z
        .strictObject({
          pool_min: integer('connections', 0, 256).default(2),
          pool_max: integer('connections', 0, 256).default(32),
          second_subflow_after: z
            .strictObject({ bytes: size().default('64kB'), time: duration().default('300ms') })
            .prefault({}),
        })
        .prefault({}),
      convert: z
        .strictObject({
          server: orNull(host()).default(null),
          port: port().default(5124),
          syn_data: bool().default(true),
          cookie: orNull(
            text('a cookie in hexadecimal, such as 6d707475', (v) => /^([0-9a-fA-F]{2}){1,1000}$/.test(v)),
          ).default(null),
        })
        .prefault({}),
      proxy: z.strictObject({ listen: orNull(listenAddress()).default(null) }).prefault({}),
    })
    .prefault({});

export type RawFlows = z.output<ReturnType<typeof flowsSchema>>;
