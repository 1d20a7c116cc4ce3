/** The far end of the UDP probes (probe-protocol.ts), part of the site. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
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
  writeProbe,
} from './probe-protocol.js';

const MAX_BURST = 20_000;

export function openProbeResponder(): Promise<void> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  let report: BurstReport = { received: 0, maxDelayMs: 0 };
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
        if (message.readUInt32LE(4) === 0) report = { received: 0, maxDelayMs: 0 };
        report = {
          received: report.received + 1,
          maxDelayMs: Math.max(report.maxDelayMs, nowMs - message.readDoubleLE(8)),
        };
        break;
      case REPORT_REQUEST: {
        const text = Buffer.from(JSON.stringify(report));
        socket.send(Buffer.concat([writeProbe(REPORT, 0, nowMs), text]), from.port, from.address);
        break;
      }
      case BURST_REQUEST:
        void sendBurst(socket, from, Math.min(message.readDoubleLE(16), MAX_BURST), message.readDoubleLE(24));
        break;
    }
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(PROBE_PORT, () => resolve());
  });
}

async function sendBurst(socket: Socket, to: RemoteInfo, count: number, bytes: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    socket.send(writeProbe(BURST_DATA, i, monotonicMs(), bytes), to.port, to.address);
    if (i % 32 === 31) await new Promise(setImmediate); // let the socket write
  }
}
