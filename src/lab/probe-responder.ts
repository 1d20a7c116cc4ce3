/** The far end of the UDP probes (probe-protocol.ts), part of the site. */
import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { monotonicMs } from './arrivals.js';
import {
  BURST_DATA,
  BURST_REQUEST,
  type BurstReport,
  ECHO,
  ECHO_REPLY,
  PROBE_BYTES,
  PROBE_PORT,
  REPORT,
  REPORT_REQUEST,
  sendBurst,
  writeProbe,
} from './probe-protocol.js';

const MAX_BURST = 20_000;

/** One socket for each IPv4 address of this host, so that an answer comes from the address that was asked. */
export async function openProbeResponders(): Promise<void> {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  await Promise.all(all.filter((a) => a.family === 'IPv4').map((a) => openResponder(a.address)));
}

function openResponder(address: string): Promise<void> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  let received = 0;
  let sentSpanMs = 0;
  socket.on('message', (message, from) => {
    const nowMs = monotonicMs();
    if (message.length < PROBE_BYTES) return;
    switch (message[0]) {
      case ECHO:
        message[0] = ECHO_REPLY;
        message.writeDoubleLE(nowMs, 16);
        socket.send(message, from.port, from.address);
        break;
      case BURST_DATA:
        received = message.readUInt32LE(4) === 0 ? 1 : received + 1;
        break;
      case REPORT_REQUEST: {
        const report: BurstReport = { received, sentSpanMs };
        const text = Buffer.from(JSON.stringify(report));
        socket.send(Buffer.concat([writeProbe(REPORT, 0, nowMs), text]), from.port, from.address);
        break;
      }
      case BURST_REQUEST: {
        const count = Math.min(message.readDoubleLE(16), MAX_BURST);
        sendBurst(count, message.readDoubleLE(24), (probe) => socket.send(probe, from.port, from.address)).then(
          (ms) => {
            sentSpanMs = ms;
          },
        );
        break;
      }
    }
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(PROBE_PORT, address, () => resolve());
  });
}
