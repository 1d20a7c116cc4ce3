/** The captures of kernel peers and what was derived from them: see tests/fixtures/vectors/README.md. */
import { readdirSync, readFileSync } from 'node:fs';
import { type PcapPacket, readPcap } from './pcap.js';

const FOLDER = new URL('../../../tests/fixtures/vectors/', import.meta.url);

export type End = 'A' | 'B';

export interface JoinVector {
  initiator: End;
  token: string;
  nonceInitiator: string;
  nonceResponder: string;
  addrIdSyn: number;
  backupSyn: number;
  hmacResponderFull: string;
  hmacInitiatorFull: string;
}

export interface AddAddrVector {
  sender: End;
  option: string;
  message: string;
  hmacFull: string;
}

export interface DssVector {
  dsn: string;
  ssn: number;
  dll: number;
  fin: boolean;
  inMpCapable: boolean;
  checksum: string;
  /** Hex, or `sha256:` and the digest of long ones. */
  payload: string;
}

export interface CaptureVectors {
  keyA?: string;
  keyB?: string;
  sha256A?: string;
  sha256B?: string;
  tokenA?: string;
  tokenB?: string;
  idsnA?: string;
  idsnB?: string;
  joins?: JoinVector[];
  addAddr?: AddAddrVector[];
  dss?: DssVector[];
  other?: { mpFail?: string; fastclose?: string; tcpRst?: string; from?: End }[];
}

export function loadVectors(): Record<string, CaptureVectors> {
  return JSON.parse(readFileSync(new URL('vectors.json', FOLDER), 'utf8')) as Record<string, CaptureVectors>;
}

/** Names of all captures, `.delivered` ones included. */
export function captureNames(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.pcap'))
    .map((file) => file.slice(0, -'.pcap'.length))
    .sort();
}

export function readCapture(name: string): PcapPacket[] {
  return readPcap(new URL(`${name}.pcap`, FOLDER));
}
