/**
 * What a WiFi interface says of itself, from nl80211 over generic netlink (linux/genetlink.h, linux/nl80211.h): a message's
 * fixed part is the command, the version and two bytes of nothing.
 */
import { type Message, MessageBuilder, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, parseAttributes } from './message.js';
import { NetlinkError, NetlinkSocket } from './socket.js';

const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const GENL_HEADER_BYTES = 4;

const NL80211_CMD_GET_INTERFACE = 5;
const NL80211_CMD_GET_STATION = 17;
const NL80211_ATTR_IFINDEX = 3;
const NL80211_ATTR_IFTYPE = 5;
const NL80211_ATTR_STA_INFO = 21;
const NL80211_ATTR_SSID = 52;
const NL80211_STA_INFO_SIGNAL = 7;
const NL80211_STA_INFO_SIGNAL_AVG = 13;
const NL80211_IFTYPE_STATION = 2;
const NL80211_IFTYPE_P2P_CLIENT = 8;

export interface WifiState {
  /** The network it is in, or null. */
  readonly ssid: string | null;
  /** It is a client of an access point (not an access point itself, a mesh point, a monitor). */
  readonly isStation: boolean;
}

/** Synchronous requests, off the packet path. */
export class Nl80211 {
  readonly #socket: NetlinkSocket;
  readonly #family: number;

  private constructor(socket: NetlinkSocket, family: number) {
    this.#socket = socket;
    this.#family = family;
  }

  /** null where the kernel has no nl80211. */
  static open(): Nl80211 | null {
    let socket: NetlinkSocket | null = null;
    try {
      socket = new NetlinkSocket(NETLINK_GENERIC);
      const family = genericFamily(socket, 'nl80211');
      if (family !== null) return new Nl80211(socket, family);
    } catch {
      // No generic netlink at all.
    }
    socket?.close();
    return null;
  }

  /** null: not a WiFi interface (any more). */
  state(interfaceIndex: number): WifiState | null {
    const answer = this.#ask(NL80211_CMD_GET_INTERFACE, NLM_F_REQUEST | NLM_F_ACK, interfaceIndex)[0];
    return answer === undefined ? null : parseWifiState(answer);
  }

  /** Of what comes from the access point, dBm; null while there is none. */
  signalDbm(interfaceIndex: number): number | null {
    const answer = this.#ask(NL80211_CMD_GET_STATION, NLM_F_REQUEST | NLM_F_DUMP, interfaceIndex)[0];
    return answer === undefined ? null : parseSignal(answer);
  }

  close(): void {
    this.#socket.close();
  }

  #ask(command: number, flags: number, interfaceIndex: number): Message[] {
    const build = () => genericMessage(this.#family, flags, command).u32(NL80211_ATTR_IFINDEX, interfaceIndex);
    const what = `ask for WiFi ${interfaceIndex}`;
    try {
      return (flags & NLM_F_DUMP) === 0 ? this.#socket.request(build(), what) : this.#socket.dump(build, what);
    } catch (error) {
      // It is being taken away, or is no WiFi interface, or its driver does not tell.
      if (error instanceof NetlinkError) return [];
      throw error;
    }
  }
}

/** The number of a generic netlink family, or null where the kernel has none of that name. */
export function genericFamily(socket: NetlinkSocket, name: string): number | null {
  const message = genericMessage(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, CTRL_CMD_GETFAMILY);
  try {
    const answer = socket.request(message.string(CTRL_ATTR_FAMILY_NAME, name), `look up ${name}`)[0];
    if (answer === undefined) return null;
    return parseAttributes(answer.body, GENL_HEADER_BYTES).get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE(0) ?? null;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return null;
    throw error;
  }
}

export function parseWifiState(m: Message): WifiState {
  const a = parseAttributes(m.body, GENL_HEADER_BYTES);
  const kind = a.get(NL80211_ATTR_IFTYPE)?.readUInt32LE(0) ?? NL80211_IFTYPE_STATION;
  // An SSID is up to 32 bytes of anything, without an end mark (IEEE 802.11, 9.4.2.2).
  const ssid = a.get(NL80211_ATTR_SSID)?.toString('utf8') ?? '';
  return {
    ssid: ssid === '' ? null : ssid,
    isStation: kind === NL80211_IFTYPE_STATION || kind === NL80211_IFTYPE_P2P_CLIENT,
  };
}

/** The average that the driver keeps, where it does, else the last frame's: a signed byte. */
export function parseSignal(m: Message): number | null {
  const station = parseAttributes(m.body, GENL_HEADER_BYTES).get(NL80211_ATTR_STA_INFO);
  if (station === undefined) return null;
  const info = parseAttributes(station, 0);
  const signal = info.get(NL80211_STA_INFO_SIGNAL_AVG) ?? info.get(NL80211_STA_INFO_SIGNAL);
  return signal === undefined || signal.length === 0 ? null : signal.readInt8(0);
}

function genericMessage(family: number, flags: number, command: number): MessageBuilder {
  return new MessageBuilder(family, flags).fixed(Uint8Array.of(command, 0, 0, 0));
}
