/**
 * The native edge (DESIGN 3.2): what the daemon, the CLI and the lab use of the operating system.
 *
 *   openTun({name, mode, vnetHeader})        TunDevice: receive(batch), send(batch, from), sendFrames(...), setCarrier(on)
 *   new Poller(fd, onReady).watch(READABLE)  one callback per readiness event, on Node's loop
 *   new DeadlineTimer(onExpire).set(us)      timerfd, absolute microseconds of monotonicUs()
 *   openPacketPort({interfaceName, ports})   PacketSocketPort: receive, send, queuedBytes, takeDrops, setPorts, drops
 *   new GuardPool(onPorts).acquire(port)     the host's stack stays silent on a port; new GuardTable(name) where a
 *                                            firewall rejects
 *   new Rtnetlink()                          links(), addresses(), routes(), rules(), neighbours(), addAddress, addRoute, addRule,
 *                                            setLink(index, {up, mtuBytes}), nextHop, useNeighbour ... (all synchronous)
 *   new NetlinkMonitor(topics, onEvent)      link, address, route, rule and neighbour changes as typed events
 *   memoryLink()                             two MemoryPorts back to back: the in-memory twin of any port
 *   new FaultyPort(port, random, faults)     loss, duplicates, corruption, refusals around any port
 *   new TracedPort(port, nowUs, observer)    shows every packet; `new PcapFile(path).observer` writes a pcap
 *   new TlsEnd(context, events)              one end of TLS 1.3 between arrays: decrypt(...), encrypt(...), end()
 *   findTool('nft')                          system tools by absolute path ($PATH under npm finds npm packages' commands)
 *   inNamespace(name, () => ...)             open descriptors inside another network namespace
 */
export { addon, check, SystemError } from './addon.js';
export { GuardPool, LINGER_US, MAX_GUARDS } from './guard.js';
export { GuardTable, type GuardTableState } from './guard-table.js';
export { MemoryPort, memoryLink } from './memory/memory-port.js';
export { connectKernelMptcp, type KernelSocket } from './mptcp-socket.js';
export * from './netlink/index.js';
export { enterNamespace, inNamespace } from './netns.js';
export { openPacketPort, PACKET_SLOT_BYTES, type PacketPortOptions, PacketSocketPort } from './packet-port.js';
export { DeadlineTimer, monotonicUs, Poller, READABLE, WRITABLE } from './poller.js';
export { TlsContext, TlsEnd, type TlsEvents } from './tls.js';
export { findTool, SYSTEM_PATH } from './tool.js';
export { interfaceRequest, openTun, TUN_SLOT_BYTES, TunDevice, type TunOptions } from './tun.js';
export { keepUrgentInLine } from './urgent.js';
export { clearVnetFields, readVnetHeaders, VNET_BYTES, writeVnetHeader } from './vnet.js';
export { type Faults, FaultyPort } from './wrap/faulty-port.js';
export { type PacketObserver, PcapFile, TracedPort } from './wrap/traced-port.js';
