/** `import { MptcpHost } from 'mptun'`: docs/library.md. */
export type { IpAddress } from '../core/base/ip.js';
export type {
  ChecksumPolicy,
  ConnectionInfo,
  Endpoint,
  EngineEvent,
  LinkInfo,
  SubflowInfo,
} from '../core/engine/api.js';
export { type AddAddressOptions, MptcpConnection, type OpenSubflowOptions, type Subflow } from './connection.js';
export { formatEndpoint, MptcpError, type MptcpErrorCode } from './errors.js';
export {
  type ConnectionOptions,
  type ConnectOptions,
  type ListenOptions,
  MptcpHost,
  type MptcpHostOptions,
} from './host.js';
export { MPTCP_INFO_FLAG_FALLBACK, MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED, type MptcpInfo } from './info.js';
export { MptcpListener } from './listener.js';
export { CONGESTION_NAMES, SCHEDULER_NAMES } from './names.js';
