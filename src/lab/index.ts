/**
 * The lab: real namespaces, emulated links, real programs. For `mptun demo`, the tests and the benchmarks.
 *
 *   const lab = await createLab({ links: DEFAULT_LINKS });    four namespaces, an emulator and a web site in them
 *   lab.link('wlan0').cut() | restore() | carrier(on) | set('down', {…}) | counters() | timeline('down', from, to)
 *   lab.exec('client', ['ping', …]), lab.spawn(…), lab.netns('server')
 *   await calibrateProbes(lab, link), await calibrateRate(lab, link, seconds)      `problems` must be empty
 *   const tunnel = await startTunnel(lab, { only: 'wlan0' }); tunnel.client.status(); tunnel.dispose()
 *   await download(lab, { address: SITE.v4, seconds: 10 }), upload(…)              rateBps, arrivals.gapMs, isIntact
 *   await lab.dispose()                                                            nothing is left
 */
export { Arrivals, monotonicMs } from './arrivals.js';
export { calibrateProbes, calibrateRate } from './calibrate.js';
export { NamespaceSet, removeLeftovers } from './namespaces.js';
export {
  createLab,
  DEFAULT_LINKS,
  INNER_PREFIXES,
  type Lab,
  type LabLink,
  type LabOptions,
  type LinkSpec,
  SERVER,
  SITE,
} from './topology.js';
export { download, type TransferOptions, type TransferResult, upload } from './transfer.js';
export { startTunnel, type Tunnel, type TunnelEnd, type TunnelOptions } from './tunnel.js';
