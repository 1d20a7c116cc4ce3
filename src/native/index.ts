/**
 * The native edge (DESIGN 3.2): what the daemon, the CLI and the lab use of the operating system.
 *
 *   openTun({name, mode, vnetHeader})        TunDevice: receive(batch), send(batch, from), sendFrames(...), setCarrier(on)
 *   new Poller(fd, onReady).watch(READABLE)  one callback per readiness event, on Node's loop
 *   new DeadlineTimer(onExpire).set(us)      timerfd, absolute microseconds of monotonicUs()
 *   new Rtnetlink()                          links(), addresses(), routes(), rules(), neighbours(), addAddress, addRoute, addRule,
 *                                            setLink(index, {up, mtuBytes}), nextHop, useNeighbour ... (all synchronous)
 *   new NetlinkMonitor(topics, onEvent)      link, address, route, rule and neighbour changes as typed events
 *   inNamespace(name, () => ...)             open descriptors inside another network namespace
 */
export { addon, check, SystemError } from './addon.js';
export * from './netlink/index.js';
export { inNamespace } from './netns.js';
export { DeadlineTimer, monotonicUs, Poller, READABLE, WRITABLE } from './poller.js';
export { interfaceRequest, openTun, TUN_SLOT_BYTES, TunDevice, type TunOptions } from './tun.js';
export { clearVnetFields, readVnetHeaders, VNET_BYTES, writeVnetHeader } from './vnet.js';
