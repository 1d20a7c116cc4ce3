/**
 * The yardstick: the kernel's own Multipath TCP over the same emulated links, outside any tunnel. curl and the site run
 * under `mptcpize`, the client's two addresses are endpoints; congestion control and scheduler as this machine has them.
 */
import type { Lab, TransferOptions } from '../src/lab/index.js';
import { SITE } from '../src/lab/index.js';
import type { Incident } from './incidents.js';
import { within } from './within.js';

export const KERNEL_TRANSFER: Pick<TransferOptions, 'address' | 'port' | 'wrapper'> = {
  address: SITE.v4,
  port: 8080,
  wrapper: ['mptcpize', 'run'],
};

const SET_UP_MS = 10_000;
/** Endpoint of the WiFi's address. */
const WIFI_ID = 1;

/** Null, or why it cannot be had here. */
export async function setUpKernel(lab: Lab): Promise<string | null> {
  try {
    await within(lab.addSite(KERNEL_TRANSFER.port!, KERNEL_TRANSFER.wrapper!), SET_UP_MS, 'starting its site');
    lab.namespaces.ip('site', ['mptcp limits set subflows 4 add_addr_accepted 4']);
    lab.namespaces.ip('client', [
      'mptcp limits set subflows 4 add_addr_accepted 4',
      ...lab.links.map(
        (link, i) => `mptcp endpoint add ${link.clientAddress} id ${WIFI_ID + i} dev ${link.name} subflow fullmesh`,
      ),
    ]);
    return null;
  } catch (error) {
    return `kernel MPTCP cannot be set up: ${(error as Error).message.split('\n', 1)[0]}`;
  }
}

/** What of it an operator can announce: the address becomes a backup (MP_PRIO), and is none again. */
export function orderKernel(lab: Lab, what: 'backup' | 'nobackup'): Promise<{ code: number; stderr: string }> {
  return lab.exec('client', ['ip', 'mptcp', 'endpoint', 'change', 'id', String(WIFI_ID), what], { timeoutMs: 5000 });
}

/** It takes seconds where the tunnel takes tenths; these are what it is given. */
export const KERNEL_TIMES: Readonly<Record<'silent' | 'carrier' | 'command', Pick<Incident, 'outMs' | 'backMs'>>> = {
  silent: { outMs: 2500, backMs: 5000 },
  carrier: { outMs: 2500, backMs: 5000 },
  command: { outMs: 1500, backMs: 2500 },
};
