/**
 * The façade that drivers (daemon, `mptun cat`, simulator) use. Sans-I/O: packets, time and luck come in as arguments,
 * packets leave through `Engine.flush`, and everything observable is an event.
 *
 * A driver's loop:  onPackets(now, link, batch)* / onTimer(now) / application calls  →  flush(now)  →  re-arm its one
 * timer at nextDeadline().
 */
import type { IpAddress } from '../base/ip.js';
import type { U64 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import type { RateLimit } from '../tcp/rate-limit.js';
import type { ReceiveBatch, TransmitBatch } from './ports.js';

/** A local link as the engine knows it: a packet port with addresses. `id` is the driver's, small and stable. */
export interface LinkInfo {
  readonly id: number;
  readonly name: string;
  readonly mtuBytes: number;
  readonly addresses: readonly IpAddress[];
  readonly isUp: boolean;
}

export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** Consumer of in-order bytes. Returns how many it took; the rest is copied, kept, and offered again by `resume`. */
export interface ByteReader {
  /** Bytes are lent until the call returns. */
  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number;
  /** The peer's DATA_FIN (or FIN after fallback): no byte follows. */
  onEnd(): void;
}

/**
 * Secrets that both ends derived inside TLS (an exporter, RFC 5705), for what the handshake's keys authenticate otherwise.
 * `local` and `remote` feed the HMACs (any length), the others are the 8 bytes that MP_FASTCLOSE carries.
 */
export interface ExportedKeys {
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly fastcloseLocal: Uint8Array;
  readonly fastcloseRemote: Uint8Array;
}

export type ConnectionState = 'connecting' | 'established' | 'closing' | 'closed';

/** One MPTCP connection (after a fallback: one TCP connection). Bytes in, bytes out, subflows inside. */
export interface ConnectionApi {
  readonly id: number;
  readonly state: ConnectionState;
  /** True once MPTCP was agreed; false again after a fallback. */
  readonly isMptcp: boolean;
  readonly remote: Endpoint;

  /** Queues bytes by reference (the caller must not change them). Always accepts: respect `unsentBytes`. */
  write(nowUs: Micros, bytes: Uint8Array): void;
  /** Bytes written that no subflow has taken yet. */
  readonly unsentBytes: number;
  /** Bytes handed to subflows but not DATA_ACKed. */
  readonly unackedBytes: number;
  /** Sum of the delivery-rate estimates of the subflows that new bytes may take, bytes/s: not of one that rests as backup. */
  readonly deliveryRateBytesPerS: number;
  /** `onSpace` is called (inside flush) whenever unsentBytes has fallen to `lowWaterBytes` or below. */
  setSendSpace(lowWaterBytes: number, onSpace: () => void): void;

  setReader(reader: ByteReader): void;
  /** The reader can take bytes again. */
  resume(nowUs: Micros): void;

  /** DATA_FIN after what was written; reading goes on (half-close). */
  end(nowUs: Micros): void;
  /**
   * MP_FASTCLOSE + RST on every subflow (RST alone after fallback). Or, with 'ack', MP_FASTCLOSE on an ACK of one subflow,
   * which waits for the peer's RST, and RST on the others (RFC 8684 3.5: options R and A).
   */
  abort(nowUs: Micros, how?: 'rst' | 'ack'): void;

  /**
   * From now on MP_JOIN, ADD_ADDR and MP_FASTCLOSE are authenticated with these, in both directions (RFC 7430 2). Subflows
   * joined under the handshake's keys were provisional and are reset.
   */
  useExportedKeys(nowUs: Micros, keys: ExportedKeys): void;

  /** Opens a further subflow. Errors are events, not exceptions. Returns the subflow's id, or -1 with a reason event. */
  join(nowUs: Micros, options: JoinOptions): number;
  closeSubflow(nowUs: Micros, subflowId: number, how: 'fin' | 'reset'): void;
  /** Our wish for the peer's sending on this subflow (MP_PRIO), RFC 8684 3.3.8. */
  setBackup(nowUs: Micros, subflowId: number, backup: boolean): void;
  /**
   * What of ours leaves on this subflow, and on all others (of any connection) that have been given the same limit, is no
   * more than that; null: no limit.
   */
  limitSubflow(nowUs: Micros, subflowId: number, limit: RateLimit | null): void;
  /** Another congestion controller for what we send on this subflow; a name that is not known means the default. */
  setCongestion(nowUs: Micros, subflowId: number, name: string): void;
  /** Our own choice for our sending: not while another path is usable. */
  setLocalBackup(nowUs: Micros, subflowId: number, backup: boolean): void;
  /** False: joins of the peer are refused from now on, as prohibited (RFC 8684 3.2: local policy). True to begin with. */
  setTakesJoins(takesJoins: boolean): void;
  /** ADD_ADDR / REMOVE_ADDR. */
  announce(nowUs: Micros, endpoint: { address: IpAddress; port?: number }): number;
  withdraw(nowUs: Micros, ...addressIds: readonly number[]): void;
  /** The link of a subflow is (un)reachable as the driver sees it: stop using it at once / probe it at once. */
  onLinkState(nowUs: Micros, linkId: number, isUp: boolean): void;
  /** The peer reported (policy channel) that a path is going or silent, by subflow id of ours. */
  suspectSubflow(nowUs: Micros, subflowId: number, why: string): void;

  /**
   * Keepalives on every subflow that has been idle for `idleUs`, those to come included (RFC 9293 3.8.4); 0: none, which is
   * how a connection begins.
   */
  setKeepAlive(nowUs: Micros, idleUs: Micros): void;

  setScheduler(name: string): void;

  /** Bytes of ConnectOptions.synData that the SYN/ACK acknowledged; -1: nobody has answered yet. */
  readonly synBytesAcked: number;
  /** The TCP options of the SYN/ACK that answered us, as they were; null: none has, or we did not ask. */
  readonly synAckOptions: Uint8Array | null;
  /** Code of the ICMP error that ended the attempt to connect; -1: none did. */
  readonly icmpCode: number;
  /** Sends the SYN/ACK that a listener's `onSyn` held back ('hold'). */
  answerSyn(nowUs: Micros): void;

  info(): ConnectionInfo;
}

export interface JoinOptions {
  readonly linkId: number;
  readonly localAddress: IpAddress;
  readonly remote: Endpoint;
  readonly remoteAddressId?: number;
  readonly backup?: boolean;
  readonly congestion?: string;
}

export interface SubflowInfo {
  readonly id: number;
  readonly linkId: number;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly localAddressId: number;
  readonly remoteAddressId: number;
  readonly state: string;
  /** Why it carries no data now, or null. */
  readonly idleReason: string | null;
  readonly isBackupLocal: boolean;
  readonly isBackupRemote: boolean;
  readonly isStalled: boolean;
  /** See the event `subflow-silent`. */
  readonly isSilent: boolean;
  readonly srttUs: number;
  readonly minRttUs: number;
  readonly rttVarUs: number;
  readonly rtoUs: number;
  readonly cwndBytes: number;
  readonly ssthreshBytes: number;
  readonly inFlightBytes: number;
  readonly mssBytes: number;
  readonly congestion: string;
  readonly pacingRateBytesPerS: number;
  readonly deliveryRateBytesPerS: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly bytesRetransmitted: number;
  readonly bytesReinjected: number;
  /** Sent here although another subflow carried them already (scheduler `redundant`). */
  readonly bytesCopied: number;
  readonly segmentsLost: number;
  readonly lastReceivedUs: Micros;
}

export interface ConnectionInfo {
  readonly id: number;
  readonly state: ConnectionState;
  readonly isMptcp: boolean;
  /** Why MPTCP was given up, or null. */
  readonly fallbackReason: string | null;
  readonly localToken: number;
  readonly remoteToken: number;
  readonly checksums: boolean;
  readonly bytesSent: number;
  readonly bytesAcked: number;
  readonly bytesReceived: number;
  readonly bytesReinjected: number;
  readonly bytesCopied: number;
  readonly bytesDuplicate: number;
  readonly receiveQueueBytes: number;
  readonly outOfOrderBytes: number;
  readonly receiveWindowBytes: number;
  readonly sendWindowBytes: number;
  /** The next DSN to be written, the first unacknowledged one, and the next one expected, as they are on the wire. */
  readonly writeSeq: U64;
  readonly sndUna: U64;
  readonly rcvNxt: U64;
  readonly hasRemoteKey: boolean;
  /** Times that data went again because DATA_ACK stood still. */
  readonly dataTimeouts: number;
  readonly lastDataAckUs: Micros;
  /** Subflows at most, the first included. */
  readonly maxSubflows: number;
  /** Addresses announced to the peer, accepted from it, and ids in use for ours (the initial address included). */
  readonly addressesAnnounced: number;
  readonly addressesAccepted: number;
  readonly localAddresses: number;
  readonly subflows: readonly SubflowInfo[];
}

/** Everything observable, defined once: logs, metrics, status and tests are subscribers. */
export type EngineEvent =
  | { type: 'connection-established'; connectionId: number; isMptcp: boolean }
  | { type: 'connection-closed'; connectionId: number; why: string }
  | { type: 'fallback'; connectionId: number; why: string }
  | { type: 'subflow-added'; connectionId: number; subflowId: number; linkId: number; initiatedBy: 'local' | 'peer' }
  | { type: 'subflow-established'; connectionId: number; subflowId: number; linkId: number }
  | {
      type: 'subflow-closed';
      connectionId: number;
      subflowId: number;
      linkId: number;
      why: string;
      /** The peer refuses, and does not say that it is for now (RFC 8684 3.6). */
      isPermanent: boolean;
    }
  /** A router says that its SYN has no way to the destination (RFC 5461 4.1): TCP goes on asking, who opened it may not want to. */
  | { type: 'subflow-unreachable'; connectionId: number; subflowId: number; linkId: number }
  | { type: 'subflow-stalled'; connectionId: number; subflowId: number; linkId: number; why: string }
  | { type: 'subflow-recovered'; connectionId: number; subflowId: number; linkId: number; stalledUs: number }
  /** Receiving: it was busy and is silent now while data behind a hole waits; the peer may not know. / Heard again. */
  | { type: 'subflow-silent' | 'subflow-heard'; connectionId: number; subflowId: number; linkId: number }
  /** It works, but all together were slower with it, or it costs more delay than it is worth: set aside, and tried again. */
  | { type: 'subflow-demoted'; connectionId: number; subflowId: number; linkId: number; why: string }
  | { type: 'subflow-promoted'; connectionId: number; subflowId: number; linkId: number; why: string }
  | { type: 'address-announced'; connectionId: number; addressId: number; endpoint: Endpoint }
  | { type: 'address-removed'; connectionId: number; addressId: number }
  | { type: 'priority'; connectionId: number; subflowId: number; backup: boolean }
  | { type: 'drop'; reason: string; linkId: number };

/** A SYN that a listener is asked about; `buf` is lent. */
export interface SynArrival {
  readonly remote: Endpoint;
  readonly buf: Uint8Array;
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * What a listener does with a SYN. ignore: nothing, not even a RST. answer: an ordinary handshake, data in the SYN is left to
 * come again. take: the same, and the data is the first of the stream (RFC 7413; outside of MPTCP's data sequence space, RFC
 * 8684 B.2). hold: it is taken, `onAccept` is called at once, and the SYN/ACK waits for `ConnectionApi.answerSyn`. Who says
 * take or hold has made sure that a SYN that comes twice, or from nobody, does no harm.
 */
export type SynVerdict = 'ignore' | 'answer' | 'take' | 'hold';

/**
 * DSS checksums (RFC 8684 3.1, flag A) are used if either side asks. True: ask. False: leave it to the peer. 'refuse': rather
 * plain TCP than checksums.
 */
export type ChecksumPolicy = boolean | 'refuse';

export interface ListenOptions {
  readonly port: number;
  /** Connections to this address alone; null or absent: to any of ours. Joins are taken at every address. */
  readonly address?: IpAddress | null;
  readonly checksum?: ChecksumPolicy;
  /** False: the peer is told to join to no further subflow to the address and port of the first (3.1, flag C). */
  readonly joinInitial?: boolean;
  /** False: answer plain TCP only. */
  readonly mptcp?: boolean;
  readonly congestion?: string;
  readonly scheduler?: string;
  readonly receiveBufferBytes?: number;
  /** Subflows at most, the first included; further joins of either side are refused (RFC 8684 3.2: local policy). */
  readonly maxSubflows?: number;
  /** Asked for each SYN; absent: 'answer'. */
  onSyn?(nowUs: Micros, syn: SynArrival): SynVerdict;
  /** Called (inside onPackets) when the handshake is complete (or held, see SynVerdict); set the reader here. */
  onAccept(connection: ConnectionApi): void;
}

export interface ConnectOptions {
  readonly linkId: number;
  readonly localAddress: IpAddress;
  /** Reserved by the driver's guard; the same port is used on every link and family of this connection. */
  readonly localPort: number;
  readonly remote: Endpoint;
  /** As in ListenOptions. */
  readonly checksum?: ChecksumPolicy;
  readonly joinInitial?: boolean;
  readonly mptcp?: boolean;
  readonly congestion?: string;
  readonly scheduler?: string;
  readonly receiveBufferBytes?: number;
  readonly maxSubflows?: number;
  /**
   * First bytes of the stream, in the SYN as far as they fit (RFC 7413, without its cookie unless `synOptions` has one). What
   * the peer does not take there goes the ordinary way. Not changed by the caller afterwards. With TAKES_EARLY_DATA (core/mptcp/
   * connection.ts) as `synOptions` an engine at the other end answers without waiting for the third packet.
   */
  readonly synData?: Uint8Array;
  /** Further TCP options of the SYN, as they go on the wire, if there is room. */
  readonly synOptions?: Uint8Array;
}

/** What `flush` needs from the edge: one packet port per link. */
export interface Edge {
  /** As PacketPort.send; 0 taken means "not now" (the engine keeps the batch and tries at the next flush). */
  send(linkId: number, batch: TransmitBatch, from: number): number;
  /** As PacketPort.queuedBytes. */
  queuedBytes(linkId: number): number;
}

export interface EngineApi {
  addLink(nowUs: Micros, link: LinkInfo): void;
  /** Addresses, MTU or up/down changed. Down: its subflows are suspected at once, their bytes reinjected elsewhere. */
  updateLink(nowUs: Micros, link: LinkInfo): void;
  removeLink(nowUs: Micros, linkId: number): void;

  listen(options: ListenOptions): { readonly port: number; close(): void };
  connect(nowUs: Micros, options: ConnectOptions): ConnectionApi;
  connections(): readonly ConnectionApi[];

  /** IP packets from a link: TCP of ours, or ICMP errors that quote it; everything else is counted and dropped. */
  onPackets(nowUs: Micros, linkId: number, batch: ReceiveBatch): void;
  onTimer(nowUs: Micros): void;
  /** When onTimer or flush wants to be called next; NEVER if nothing is pending. */
  nextDeadline(): Micros;
  /** Sends everything that may go now. Call after every input. */
  flush(nowUs: Micros, edge: Edge): void;
  pollEvent(): EngineEvent | undefined;
  /** Monotonic counters by name: the kernel's MIB names where one exists (MPTcpExtMPCapableSYNRX, TcpExtTCPLostRetransmit, …), else `drop_<reason>`. */
  counters(): Readonly<Record<string, number>>;
}
