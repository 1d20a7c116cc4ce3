/** The section `flows` from its YAML form to `FlowsConfig`. */
import { parseHostPort } from './fields.js';
import { parseDscp, parsePortRange, type RawFlows } from './flow-schema.js';
import type { Report } from './load.js';
import { parsePrefix } from './prefix.js';
import type { FlowMatch, FlowRule, FlowsConfig } from './types.js';
import { parseDuration, parseSize } from './units.js';

export function resolveFlows(raw: RawFlows, report: Report): FlowsConfig {
  const { relay, convert, proxy } = raw;
  return {
    default: raw.default,
    rules: raw.rules.map((rule, i) => flowRule(rule, i, report)),
    relay: {
      poolMin: relay.pool_min,
      poolMax: relay.pool_max,
      secondSubflowAfter: {
        bytes: parseSize(relay.second_subflow_after.bytes)!,
        timeUs: parseDuration(relay.second_subflow_after.time)!,
      },
    },
    convert: {
      server: convert.server,
      port: convert.port,
      cookie: convert.cookie === null ? null : new Uint8Array(Buffer.from(convert.cookie, 'hex')),
      synData: convert.syn_data,
    },
    proxy: { listen: proxy.listen === null ? null : parseHostPort(proxy.listen) },
  };
}

function flowRule(rule: RawFlows['rules'][number], index: number, report: Report): FlowRule {
  const { match } = rule;
  const bytesOver = match.bytes_over === null ? null : parseSize(match.bytes_over);
  if (rule.use === null && bytesOver === null)
    report(['flows', 'rules', index, 'use'], 'is missing', 'give one of auto, relay, direct, convert, packet, bypass');
  return {
    match: {
      protocol: match.protocol,
      to: match.to.map((p) => parsePrefix(p)!),
      port: match.port.map((p) => parsePortRange(p)!),
      domain: match.domain.map((d) => d.toLowerCase()),
      app: { cgroup: match.app.cgroup, uid: match.app.uid },
      dscp: match.dscp.map((d) => parseDscp(d)!),
      bytesOver,
    } satisfies FlowMatch,
    use: rule.use,
    mode: rule.mode,
    copiesBytes: rule.copies === null ? null : parseSize(rule.copies),
  };
}
