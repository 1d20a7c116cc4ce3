/** Every mutation, by section of docs/protocol.md; last those of docs/paths.md. */
import { mutations as mptcp01General } from './mptcp-01-general.js';
import { mutations as mptcp02Handshake } from './mptcp-02-handshake.js';
import { mutations as mptcp03Join } from './mptcp-03-join.js';
import { mutations as mptcp04Dss } from './mptcp-04-dss.js';
import { mutations as mptcp05DataFin } from './mptcp-05-data-fin.js';
import { mutations as mptcp06Windows } from './mptcp-06-windows.js';
import { mutations as mptcp07Priority } from './mptcp-07-priority.js';
import { mutations as mptcp08AddAddr } from './mptcp-08-add-addr.js';
import { mutations as mptcp09RemoveAddr } from './mptcp-09-remove-addr.js';
import { mutations as mptcp10FastcloseReset } from './mptcp-10-fastclose-reset.js';
import { mutations as mptcp11Fallback } from './mptcp-11-fallback.js';
import { mutations as mptcp12ErrorsSecurity } from './mptcp-12-errors-security.js';
import type { Mutation } from './mutation.js';
import { mutations as paths } from './paths.js';
import { mutations as tcp01States } from './tcp-01-states.js';
import { mutations as tcp02Rto } from './tcp-02-rto.js';
import { mutations as tcp03Options } from './tcp-03-options.js';
import { mutations as tcp04Recovery } from './tcp-04-recovery.js';
import { mutations as tcp05Rack } from './tcp-05-rack.js';
import { mutations as tcp06Cubic } from './tcp-06-cubic.js';
import { mutations as tcp07Ecn } from './tcp-07-ecn.js';
import { mutations as tcp08PathMtu } from './tcp-08-path-mtu.js';
import { mutations as tcp09Coupled } from './tcp-09-coupled.js';
import { mutations as tcp10Convert } from './tcp-10-convert.js';

export const MUTATIONS: Readonly<Record<string, readonly Mutation[]>> = {
  'mptcp-01-general': mptcp01General,
  'mptcp-02-handshake': mptcp02Handshake,
  'mptcp-03-join': mptcp03Join,
  'mptcp-04-dss': mptcp04Dss,
  'mptcp-05-data-fin': mptcp05DataFin,
  'mptcp-06-windows': mptcp06Windows,
  'mptcp-07-priority': mptcp07Priority,
  'mptcp-08-add-addr': mptcp08AddAddr,
  'mptcp-09-remove-addr': mptcp09RemoveAddr,
  'mptcp-10-fastclose-reset': mptcp10FastcloseReset,
  'mptcp-11-fallback': mptcp11Fallback,
  'mptcp-12-errors-security': mptcp12ErrorsSecurity,
  'tcp-01-states': tcp01States,
  'tcp-02-rto': tcp02Rto,
  'tcp-03-options': tcp03Options,
  'tcp-04-recovery': tcp04Recovery,
  'tcp-05-rack': tcp05Rack,
  'tcp-06-cubic': tcp06Cubic,
  'tcp-07-ecn': tcp07Ecn,
  'tcp-08-path-mtu': tcp08PathMtu,
  'tcp-09-coupled': tcp09Coupled,
  'tcp-10-convert': tcp10Convert,
  paths,
};
