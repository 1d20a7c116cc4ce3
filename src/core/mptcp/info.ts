/** Plain copies of what a connection and its subflows are doing, for status and tests. */
import { dsnHi, dsnLo, type U64 } from '../base/seq.js';
import type { ConnectionInfo, SubflowInfo } from '../engine/api.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

export function connectionInfo(c: Connection): ConnectionInfo {
  let bytesReinjected = 0;
  for (const sf of c.subflows) bytesReinjected += sf.bytesReinjected;
  return {
    id: c.id,
    state: c.state,
    isMptcp: c.isMptcp,
    fallbackReason: c.fallback.reason,
    localToken: c.keys.localToken,
    remoteToken: c.keys.remoteToken,
    checksums: c.keys.checksums,
    // The DATA_FIN has a DSN, but is no byte.
    bytesSent: Math.min(c.sender.sndNxt, c.sender.buffer.endDsn) - 1,
    bytesAcked: Math.min(c.sender.sndUna, c.sender.buffer.endDsn) - 1,
    bytesReceived: c.receiver.bytesReceived,
    bytesReinjected: Math.max(bytesReinjected, c.sender.bytesReinjected),
    bytesCopied: c.copies.bytes,
    bytesDuplicate: c.receiver.duplicateBytes,
    receiveQueueBytes: c.receiver.unreadBytes,
    outOfOrderBytes: c.receiver.outOfOrderBytes,
    receiveWindowBytes: c.receiver.peekEdge() - c.receiver.rcvNxt,
    sendWindowBytes: Math.max(0, c.sender.windowEdge - c.sender.sndNxt),
    writeSeq: onWire(c.sender.buffer.endDsn, c.keys.idsnLocal),
    sndUna: onWire(c.sender.sndUna, c.keys.idsnLocal),
    rcvNxt: onWire(c.receiver.rcvNxt, c.keys.idsnRemote),
    hasRemoteKey: c.keys.remote !== null,
    dataTimeouts: c.dataRto.timeouts,
    lastDataAckUs: c.sender.lastAckUs,
    maxSubflows: c.settings.maxSubflows,
    addressesAnnounced: c.addresses.announcements.length,
    addressesAccepted: c.addresses.acceptedCount,
    localAddresses: c.addresses.localCount,
    subflows: c.subflows.map(subflowInfo),
  };
}

function onWire(dsn: number, idsn: U64): U64 {
  return { hi: dsnHi(dsn, idsn), lo: dsnLo(dsn, idsn) };
}

function subflowInfo(sf: MptcpSubflow): SubflowInfo {
  const { tcp, flow } = sf;
  return {
    id: sf.id,
    linkId: flow.linkId,
    local: { address: flow.localAddress, port: flow.localPort },
    remote: { address: flow.remoteAddress, port: flow.remotePort },
    localAddressId: sf.localAddressId,
    remoteAddressId: sf.remoteAddressId,
    state: tcp.state,
    idleReason: idleReason(sf),
    isBackupLocal: sf.isLocalBackup,
    isBackupRemote: sf.isRemoteBackup,
    isStalled: sf.isStalled,
    isSilent: sf.isSilent,
    srttUs: tcp.rtt.srttUs,
    minRttUs: tcp.rtt.minRttUs,
    rttVarUs: tcp.rtt.rttVarUs,
    rtoUs: tcp.rtt.rtoUs,
    cwndBytes: tcp.cc.cwndBytes,
    ssthreshBytes: tcp.cc.ssthreshBytes,
    inFlightBytes: tcp.inFlightBytes,
    mssBytes: tcp.mssBytes,
    congestion: tcp.cc.name,
    pacingRateBytesPerS: tcp.cc.pacingRateBytesPerS,
    deliveryRateBytesPerS: tcp.deliveryRateBytesPerS,
    bytesSent: tcp.stats.bytesSent,
    bytesReceived: tcp.stats.bytesReceived,
    bytesRetransmitted: tcp.stats.bytesRetransmitted,
    bytesReinjected: sf.bytesReinjected,
    bytesCopied: sf.bytesCopied,
    segmentsLost: tcp.stats.segmentsLost,
    lastReceivedUs: tcp.lastReceivedUs,
  };
}

/** Why no new data goes there now, or null. */
function idleReason(sf: MptcpSubflow): string | null {
  if (sf.tcp.state === 'closed') return sf.closeReason ?? 'closed';
  if (sf.isLinkDown) return 'link down';
  if (sf.isClosing) return 'closing';
  if (!sf.isConfirmed) return 'handshake';
  if (sf.isStalled) return sf.stallReason;
  if (sf.isRemoteBackup) return 'backup (peer)';
  if (sf.isLocalBackup) return 'backup';
  const why = sf.demotedWhy ?? sf.passedOverWhy;
  if (why !== null) return `demoted: ${why}`;
  return null;
}
