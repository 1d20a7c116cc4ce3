/** rtnetlink: `new Rtnetlink()` to read and change, `new NetlinkMonitor(topics, onEvent)` to follow. */
export { NetlinkMonitor, type NetlinkTopic } from './monitor.js';
export { type NewRoute, type NewRule, type NextHop, parsePrefix, Rtnetlink } from './rtnetlink.js';
export { cgroupRoot, controlGroups, type SocketOwner, SocketOwners } from './sock-diag.js';
export { NetlinkError, NetlinkSocket } from './socket.js';
export * from './types.js';
export { Nl80211, type WifiState } from './wifi.js';
